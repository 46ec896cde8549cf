// How long a run may take.
#pragma once

#include <optional>

#include "core/options.hpp"

namespace varion {

/// Seconds from now until the run must have ended by run.walltime: HH:MM:SS from now, or for auto what Slurm says
/// (SLURM_JOB_END_TIME); nothing where there is no limit. Errors (78): another text.
std::optional<double> seconds_allowed(const Config& config);

/// run.watchdog as Watchdog takes it. Errors (78).
double watchdog_limit(const Config& config);

/// Whether somebody has put the file `name` into `dir`; it is then removed. Looks at most once a second.
class Request {
 public:
  Request(std::string dir, std::string name) : dir_(std::move(dir)), name_(std::move(name)) {}
  bool arrived();

 private:
  std::string dir_, name_;
  double looked_ = -1;
};

}  // namespace varion
