// U11: steps and examples counted far beyond what a run will see: right, or refused.
#include <set>

#include "core/error.hpp"
#include "core/random.hpp"
#include "io/posterior_file.hpp"
#include "optim/schedule.hpp"
#include "support/catch.hpp"
#include "support/config.hpp"
#include "train/batch.hpp"
#include "train/checkpoint.hpp"

using namespace varion;

namespace {
const std::uint64_t edges[] = {(1ull << 31) - 2, (1ull << 32) - 2, (1ull << 53) - 2, (1ull << 63) - 2};

io::PosteriorFile file_at(const std::string& step, const std::string& samples) {
  io::PosteriorFile f;
  f.step = static_cast<long>(std::stoull(step));
  f.train = {{"step", step}, {"samples_seen", samples}, {"record_bytes", "0"}, {"record_sha256", ""}, {"nonpositive", "0"}, {"best", "none"}};
  return f;
}
}  // namespace

TEST_CASE("U11: numbers of steps beyond 2^31 and 2^32 have noise of their own; beyond 2^48 they are refused") {
  std::set<std::uint64_t> seen;
  for (const std::uint64_t edge : edges)
    for (std::uint64_t step = edge; step < edge + 4; ++step) {
      INFO(step);
      if (step >= (1ull << 48)) {
        CHECK_THROWS_AS(RandomKey::make(1, Stream::train_noise, step), Error);
        continue;
      }
      const RandomKey key = RandomKey::make(1, Stream::train_noise, step);
      CHECK((static_cast<std::uint64_t>(key.c2 >> 16) << 32 | key.c0) == step);
      const Words4 w = key.words(0);
      CHECK(seen.insert(static_cast<std::uint64_t>(w.w[0]) << 32 | w.w[1]).second);
    }
  CHECK(seen.size() == 8);
}

TEST_CASE("U11: an order's position beyond 2^31, 2^32 and 2^53 is a permutation of its epoch") {
  constexpr Index examples = 7;
  const BatchPlan plan(examples, false, 0);
  for (const std::uint64_t edge : {edges[0], edges[1], edges[2]}) {
    const std::uint64_t first = edge / examples * examples + examples;  // an epoch's begin beyond it
    if (first / examples >= (1ull << 48)) {  // epochs are counted like steps
      CHECK_THROWS_AS(plan.shuffled(Exec(), 1, first, examples), Error);
      continue;
    }
    plan.shuffled(Exec(), 1, first, examples);
    const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), plan.example);
    std::set<int> seen;
    for (Index i = 0; i < examples; ++i) seen.insert(host(i));
    INFO(first);
    CHECK(seen == std::set<int>{0, 1, 2, 3, 4, 5, 6});
    // One position on, everything is one further.
    const int second = host(1);
    plan.shuffled(Exec(), 1, first + 1, examples);
    CHECK(Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), plan.example)(0) == second);
  }
  // An epoch number beyond 2^32, of a data set of one batch.
  CHECK_NOTHROW(plan.shuffled(Exec(), 1, (1ull << 33) * examples, examples));
}

TEST_CASE("U11: rates at steps beyond 2^32 lie on the schedule") {
  for (const std::uint64_t edge : {edges[0], edges[1]})
    for (const std::string name : {"constant", "cosine", "linear", "step", "paper"}) {
      const Schedule& schedule = Schedules::of().find(name);
      const Index total = static_cast<Index>(edge) * 2;
      INFO(name << " " << edge);
      const double half = schedule.factor({total / 2 - 1, total, 100, 0, 0}), end = schedule.factor({total - 1, total, 100, 0, 0});
      CHECK(half == Approx(name == "constant" || name == "step" ? 1 : 0.5).epsilon(1e-6));
      CHECK(end == Approx(name == "constant" ? 1 : name == "step" ? 0.01 : 0).margin(1e-8));
    }
}

TEST_CASE("U11: what cannot be counted exactly is refused, in options and in checkpoints") {
  for (const char* key : {"train.steps", "train.stop_after"}) {
    CHECK(config_of({{key, "1000000000000000"}}).integer(key) == 1000000000000000);
    for (const char* value : {"9007199254740993", "9223372036854775806", "18446744073709551616", "1e16", "-1", "0.5"}) {
      INFO(key << " = " << value);
      CHECK_THROWS_AS(config_of({{key, value}}), Error);
    }
  }
  CHECK_THROWS_AS(config_of({{"run.seed", "9007199254740993"}}), Error);
  for (const std::uint64_t edge : {edges[0], edges[1]}) {
    const RunPosition at = position_of(file_at(std::to_string(edge), std::to_string(edge + 3)), "f.h5");
    CHECK(at.step == edge);
    CHECK(at.samples == edge + 3);
  }
  CHECK(position_of(file_at("8999999999999999", "8999999999999999"), "f.h5").samples == 8999999999999999);
  for (const std::string big : {"9007199254740993", "9223372036854775806"}) {
    CHECK_THROWS_AS(position_of(file_at(big, "1"), "f.h5"), Error);
    CHECK_THROWS_AS(position_of(file_at("1", big), "f.h5"), Error);
  }
}
