// Sums of squares against a loop in double, as a host and as a GPU takes them, whole and in stretches.
#include "train/square_sum.hpp"

#include "support/catch.hpp"
#include "support/vectors.hpp"

using namespace varion;

TEST_CASE("sums of squares equal a loop, by chunks and by teams") {
  const Exec exec;
  for (const Index n : {Index(1), Index(17), kStretchAlign, kStretchAlign + 1, 5 * kStretchAlign - 3}) {
    const Vec v = draw(static_cast<std::uint64_t>(n), n);
    const std::vector<double> x = host(v);
    const size_t chunks = static_cast<size_t>((n + kStretchAlign - 1) / kStretchAlign);
    std::vector<double> expected(chunks);
    for (size_t i = 0; i < x.size(); ++i) expected[i / static_cast<size_t>(kStretchAlign)] += x[i] * x[i];
    double total = 0;
    for (const double e : expected) total += e;
    const Kokkos::View<double*, Memory> parts("varion::test::parts", chunks);
    square_chunks_team(exec, v, 0, n, parts);
    const auto by_teams = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), parts);
    std::vector<float> numbers(x.begin(), x.end());
    std::vector<double> by_host(chunks);
    square_chunks_host(numbers.data(), 0, n, by_host.data());
    for (size_t k = 0; k < chunks; ++k) {
      CHECK(by_teams(k) == Approx(expected[k]).epsilon(1e-13));
      CHECK(by_host[k] == Approx(expected[k]).epsilon(1e-13));
    }
    SquareSum sum;
    CHECK(sum.over_ranks(exec, {}) == 0);
    sum.take(exec, v, 0, n);
    const auto value = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), sum.value());
    CHECK(value() == Approx(total).epsilon(1e-13));
    CHECK(sum.over_ranks(exec, {}) == value());
    // Stretches of two ranks: what one has taken before does not stay.
    const Index cut = std::min(n, 2 * kStretchAlign);
    double both = 0;
    for (const auto& [begin, end] : {std::pair{Index(0), cut}, {cut, n}}) {
      sum.take(exec, v, begin, end);
      both += sum.over_ranks(exec, {});
    }
    CHECK(both == Approx(total).epsilon(1e-13));
  }
}
