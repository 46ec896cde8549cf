#include "train/job_time.hpp"

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "core/error.hpp"
#include "io/commit_file.hpp"

namespace varion {

std::optional<double> seconds_allowed(const Config& config) {
  const std::string value = config.text("run.walltime");
  if (value == "off") return std::nullopt;
  if (value == "auto") {
    const char* end = std::getenv("SLURM_JOB_END_TIME");
    const auto at = end == nullptr ? std::nullopt : parse_real(end);
    if (!at) return std::nullopt;
    return *at - static_cast<double>(std::time(nullptr));
  }
  unsigned hours = 0, minutes = 0, seconds = 0;
  int used = 0;
  require(value.find_first_not_of("0123456789:") == std::string::npos && std::sscanf(value.c_str(), "%u:%2u:%2u%n", &hours, &minutes, &seconds, &used) == 3 &&
              static_cast<size_t>(used) == value.size() && hours < 100000 && minutes < 60 && seconds < 60,
          Exit::config, "run.walltime = '", value, "' must be HH:MM:SS, auto or off");
  return 3600.0 * hours + 60.0 * minutes + seconds;
}

double watchdog_limit(const Config& config) {
  const std::string value = config.text("run.watchdog");
  if (value == "auto") return 0;
  if (value == "off") return -1;
  const auto seconds = parse_real(value);
  require(seconds && *seconds > 0, Exit::config, "run.watchdog = '", value, "' must be a positive number of seconds, auto or off");
  return *seconds;
}

bool Request::arrived() {
  const double now = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  if (looked_ >= 0 && now - looked_ < 1) return false;
  looked_ = now;
  if (::access((dir_ + "/" + name_).c_str(), F_OK) != 0) return false;
  io::remove_file(dir_ + "/" + name_);
  return true;
}

}  // namespace varion
