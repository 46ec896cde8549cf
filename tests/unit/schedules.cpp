#include "optim/schedule.hpp"

#include <cmath>

#include "core/error.hpp"
#include "support/catch.hpp"
#include "support/config.hpp"

using namespace varion;

namespace {
double factor(const std::string& name, Index step, Index total, Index per_epoch, Index warmup, double final_fraction = 0) {
  return Schedules::of().find(name).factor({step, total, per_epoch, warmup, final_fraction});
}
}  // namespace

TEST_CASE("the paper's schedule: 0.2 .. 0.84 per warm-up epoch, then a cosine that never reaches zero") {
  const double warm[] = {0.2, 0.36, 0.52, 0.68, 0.84};
  for (Index e = 0; e < 5; ++e)
    for (const Index within : {0, 999}) CHECK(factor("paper", e * 1000 + within, 200000, 1000, 5000) == Approx(warm[e]));
  CHECK(factor("paper", 5000, 200000, 1000, 5000) == Approx(1));
  CHECK(factor("paper", 199999, 200000, 1000, 5000) == Approx(0.00222).epsilon(0.01));  // epoch 199
}

TEST_CASE("warm-up, cosine, linear, step and constant") {
  CHECK(factor("constant", 0, 100, 10, 4) == Approx(0.25));
  CHECK(factor("constant", 3, 100, 10, 4) == Approx(1));
  CHECK(factor("constant", 99, 100, 10, 4) == 1);
  CHECK(factor("cosine", 0, 100, 10, 0) == Approx(1));
  CHECK(factor("cosine", 50, 100, 10, 0, 0.1) == Approx(0.55));
  CHECK(factor("cosine", 100, 100, 10, 0, 0.1) == Approx(0.1));
  CHECK(factor("linear", 25, 100, 10, 0, 0.2) == Approx(0.8));
  CHECK(factor("step", 49, 100, 10, 0) == 1);
  CHECK(factor("step", 50, 100, 10, 0) == Approx(0.1));
  CHECK(factor("step", 75, 100, 10, 0) == Approx(0.01));
}

TEST_CASE("intervals carry a unit") {
  const auto of = [](const std::string& text, bool time) {
    return interval(config_of({{"checkpoint.every", text}}), "checkpoint.every", 40, time);
  };
  CHECK(of("500st", false).steps == 500);
  CHECK(of("2.5ep", false).steps == 100);
  CHECK(of("10min", true).seconds == 600);
  CHECK(of("2h", true).seconds == 7200);
  CHECK(of("30s", true).seconds == 30);
  CHECK(of("3st", false).due(6));
  CHECK(!of("3st", false).due(7));
  CHECK(!of("0st", false).due(7));
  for (const char* bad : {"5", "st", "-1st", "1e99st", "10 min", "10fortnights", ""}) {
    INFO(bad);
    CHECK_THROWS_AS(of(bad, true), Error);
  }
  CHECK_THROWS_AS(of("10min", false), Error);
}
