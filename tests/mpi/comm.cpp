// Sums over ranks (4 of them; the test is started by mpirun): the fixed tree has the bits of the same tree on one rank.
#include "comm/comm.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"
#include "support/catch.hpp"
#include "support/vectors.hpp"
#include "train/slot_sum.hpp"

using namespace varion;

namespace {
/// Numbers of all sizes, so that the order of a sum is seen in its bits.
Vec numbers(std::uint64_t which, Index n) {
  const Vec v = draw(which, n);
  Kokkos::parallel_for("varion::test::spread", Range(Exec(), 0, n), KOKKOS_LAMBDA(const Index i) {
    v(i) = v(i) * v(i) * v(i) * Real(i % 7 == 0 ? 1e6 : 1);
  });
  return v;
}

std::vector<float> bits(const Vec& v) {
  const auto h = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), v);
  return {h.data(), h.data() + h.extent(0)};
}

/// (0 + 1) + (2 + 3) ... of `count` vectors, by a recursion on the host.
std::vector<float> tree(const std::vector<std::vector<float>>& all, size_t first, size_t count) {
  if (count == 1) return all[first];
  std::vector<float> low = tree(all, first, count / 2);
  const std::vector<float> high = tree(all, first + count / 2, count - count / 2);
  for (size_t i = 0; i < low.size(); ++i) low[i] += high[i];
  return low;
}
}  // namespace

TEST_CASE("slots on many ranks add up to the bits of one tree") {
  Comm comm = Comm::world();
  for (const Index n : {1, 2, 3, 5, 1000, 70001, 600001})
    for (const int slots : {1, 2, 4, 8, 16}) {
      if (slots < comm.size()) continue;
      std::vector<std::vector<float>> all;
      for (int s = 0; s < slots; ++s) all.push_back(bits(numbers(static_cast<std::uint64_t>(s), n)));
      SlotSum sum;
      const int own = slots / comm.size();
      for (int again = 0; again < 2; ++again) {
        for (int s = comm.rank() * own; s < (comm.rank() + 1) * own; ++s)
          sum.add(Exec(), numbers(static_cast<std::uint64_t>(s), n));
        const Vec v = sum.take(Exec());
        comm.tree_sum(Exec(), v);
        INFO(n << " numbers, " << slots << " slots, rank " << comm.rank());
        CHECK(bits(v) == tree(all, 0, static_cast<size_t>(slots)));
      }
    }
  // The order matters: added one after another they have other bits.
  if (comm.size() == 4) {
    std::vector<float> serial(1000), ordered;
    std::vector<std::vector<float>> all;
    for (int s = 0; s < 4; ++s) {
      all.push_back(bits(numbers(static_cast<std::uint64_t>(s), 1000)));
      for (size_t i = 0; i < 1000; ++i) serial[i] += all.back()[i];
    }
    CHECK(serial != tree(all, 0, 4));
  }
}

TEST_CASE("stretches of all ranks cover a vector") {
  const Comm comm = Comm::world();
  for (const int ranks : {1, 2, 4}) {
    const Comm some = comm.block(ranks);
    for (const Index n : {1, 4095, 4097, 70001}) {
      std::vector<int> seen(static_cast<size_t>(n));
      for (int r = 0; r < ranks; ++r) {
        const Stretch s = some.stretch_of(n, r);
        CHECK((s.begin % kStretchAlign == 0 || s.begin == n));
        for (Index i = s.begin; i < s.end; ++i) ++seen[static_cast<size_t>(i)];
      }
      CHECK(*std::min_element(seen.begin(), seen.end()) == 1);
      CHECK(*std::max_element(seen.begin(), seen.end()) == 1);
      CHECK(some.own(n).begin == some.stretch_of(n, some.rank()).begin);
    }
  }
}

TEST_CASE("sums over nodes, by messages, and in parts, have the bits of the tree") {
  const Comm world = Comm::world();
  const Exec exec;
  // Four ranks as one node, as two, and as four that only send messages.
  for (const int node_ranks : {4, 2, 1}) {
    Comm comm = world.block(4, node_ranks);
    for (const Index n : {1, 5000, 70001, 600001}) {
      if (n > 70001 && node_ranks > 1) continue;  // where messages are halved
      std::vector<std::vector<float>> all;
      for (int r = 0; r < 4; ++r) all.push_back(bits(numbers(static_cast<std::uint64_t>(r), n)));
      const std::vector<float> expected = [&] {
        std::vector<float> sum = tree(all, 0, 4);
        for (float& x : sum) x *= 0.3f;
        return sum;
      }();
      const std::vector<KeptVec> vectors{comm.vector("varion::test::shared", n), {draw(0, n), nullptr}};
      for (const KeptVec& kept : vectors) {
        const Vec v = kept;
        const auto fill = [&] { Kokkos::deep_copy(v, numbers(static_cast<std::uint64_t>(comm.rank()), n)); };
        INFO(n << " numbers, nodes of " << node_ranks << (kept.memory ? ", shared" : ""));
        CHECK((kept.memory != nullptr) == (&kept == &vectors[0] && node_ranks > 1));
        fill();
        comm.tree_sum(exec, v, 0.3f);
        CHECK(bits(v) == expected);
        fill();
        comm.reduce_scatter(exec, v, 0.3f);
        const Stretch own = comm.own(n);
        const std::vector<float> scattered = bits(v);
        const std::vector<float> part(scattered.begin() + own.begin, scattered.begin() + own.end);
        CHECK(part == std::vector<float>(expected.begin() + own.begin, expected.begin() + own.end));
        // What lies outside of the own stretch comes from the others.
        for (Index i = 0; i < n; ++i)
          if (i < own.begin || i >= own.end) v(i) = -1;
        comm.barrier();
        comm.all_gather(exec, v);
        CHECK(bits(v) == expected);
        CHECK(comm.join(part, n, true) == expected);
        CHECK(comm.join(part, n, false) == (comm.is_first() ? expected : std::vector<float>()));
        comm.barrier();
      }
    }
  }
}

TEST_CASE("a sum of slots whose number is no power of two holds all of them") {
  for (const int slots : {3, 5, 6, 7}) {
    SlotSum sum;
    for (int s = 0; s < slots; ++s) {
      const Vec v("varion::test::v", 10);
      Kokkos::deep_copy(v, Real(1 << s));
      sum.add(Exec(), v);
    }
    for (const float x : bits(sum.take(Exec()))) CHECK(x == static_cast<float>((1 << slots) - 1));
  }
  SlotSum empty;
  CHECK_THROWS_AS(empty.take(Exec()), Error);
}

TEST_CASE("small things reach every rank") {
  const Comm comm = Comm::world();
  CHECK(comm.size() == 4);
  CHECK(comm.any(std::uint64_t(1) << comm.rank()) == 15);
  CHECK(comm.from_first(comm.is_first() ? "said by the first" : "said by another") == "said by the first");
  CHECK(comm.from_first("") == "");
  std::vector<float> numbers = comm.is_first() ? std::vector<float>{1.5f, -2, 3} : std::vector<float>(7, 9.f);
  comm.from_first(numbers);
  CHECK(numbers == std::vector<float>{1.5f, -2, 3});
  const auto all = comm.gather(std::string(static_cast<size_t>(comm.rank()), 'x') + "!");
  for (int r = 0; r < 4; ++r) CHECK(all[static_cast<size_t>(r)] == std::string(static_cast<size_t>(r), 'x') + "!");
  std::vector<double> values{comm.rank() == 2 ? 7.0 : 0.0, 1.0};
  comm.sum(values);
  CHECK(values == std::vector<double>{7, 4});
  Comm same = comm;
  const Vec v("varion::test::v", 1001);
  Kokkos::deep_copy(v, Real(comm.rank() + 1));
  same.sum(Exec(), v);
  for (const float x : bits(v)) CHECK(x == 10);
}

TEST_CASE("one rank alone needs no MPI") {
  Comm alone;
  CHECK(alone.size() == 1);
  CHECK(alone.is_first());
  CHECK(alone.any(5) == 5);
  CHECK(alone.gather("x") == std::vector<std::string>{"x"});
  const Vec v = draw(1, 10);
  const auto before = bits(v);
  alone.tree_sum(Exec(), v);
  alone.sum(Exec(), v);
  CHECK(bits(v) == before);
}
