// Learning-rate schedules: functions of the step, by name.
#pragma once

#include <functional>
#include <string>

#include "core/options.hpp"
#include "core/registry.hpp"

namespace varion {

/// Where a run is. `step` counts from 0; epochs are whole numbers of `steps_per_epoch`.
struct Progress {
  Index step, total_steps, steps_per_epoch, warmup_steps;
  double final_fraction;
};

struct Schedule {
  static const char* kind() { return "schedule"; }
  std::string help;
  std::function<double(const Progress&)> factor;  // of the base rate
};
using Schedules = Registry<Schedule>;

/// How often something happens: every so many steps, or every so many seconds, or never.
struct Interval {
  Index steps = 0;
  double seconds = 0;
  bool due(Index step) const { return steps > 0 && step % steps == 0; }
};

/// "500st", "2ep" as steps; "30s", "10min", "2h" as time where `time_too`. What is above zero is at least a step. Errors (78): no unit, or not a number.
Interval interval(const Config& config, const std::string& key, Index steps_per_epoch, bool time_too);

}  // namespace varion
