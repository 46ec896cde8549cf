#include <cmath>

#include "core/error.hpp"
#include "optim/schedule.hpp"

namespace varion {

Interval interval(const Config& config, const std::string& key, Index steps_per_epoch, bool time_too) {
  const std::string s = config.text(key);
  const size_t end = s.find_last_of("0123456789.");
  const std::string unit = end == std::string::npos ? "" : s.substr(end + 1);
  const auto v = end == std::string::npos ? std::nullopt : parse_real(s.substr(0, end + 1));
  const bool time = time_too && (unit == "s" || unit == "min" || unit == "h");
  require(v && *v >= 0 && *v < 1e12 && (unit == "st" || unit == "ep" || time), Exit::config, key, " = '", s,
          "' must be a number of steps or epochs such as 500st or 2ep", time_too ? ", or a time such as 10min" : "");
  Interval out;
  if (time)
    out.seconds = *v * (unit == "h" ? 3600 : unit == "min" ? 60 : 1);
  else
    out.steps = *v > 0 ? std::max(std::llround(*v * (unit == "ep" ? static_cast<double>(steps_per_epoch) : 1)), 1ll) : 0;
  return out;
}

namespace {
constexpr double kPi = 3.14159265358979323846;

/// Linear warm-up from lr / warmup, per step, then `after` of the share of the rest that is done.
template <class F>
auto warmed(F after) {
  return [after](const Progress& p) {
    if (p.step < p.warmup_steps)
      return static_cast<double>(p.step + 1) / static_cast<double>(p.warmup_steps);
    const double rest = static_cast<double>(std::max<Index>(p.total_steps - p.warmup_steps, 1));
    return after(p, static_cast<double>(p.step - p.warmup_steps) / rest);
  };
}

/// The paper's vision recipe (section 1.6 of its code): per epoch, factors 0.2 .. 0.84 over the
/// warm-up epochs, then a cosine whose T_max is all epochs, warm-up included, so it never reaches 0.
double paper(const Progress& p) {
  const double epoch = static_cast<double>(p.step / p.steps_per_epoch);
  // An epoch goes at one rate: less than one of warm-up is none.
  const double warmup = p.warmup_steps < p.steps_per_epoch ? 0 : static_cast<double>(p.warmup_steps) / static_cast<double>(p.steps_per_epoch);
  const double epochs = static_cast<double>(p.total_steps) / static_cast<double>(p.steps_per_epoch);
  if (epoch < warmup) return 1 / warmup + (1 - 1 / warmup) * epoch / warmup;
  return 0.5 * (1 + std::cos(kPi * (epoch - warmup) / epochs));
}

bool register_schedules() {
  return Schedules::of().add("constant", {"lr after the warm-up", warmed([](const Progress&, double) {
                                            return 1.0;
                                          })}) &&
         Schedules::of().add("cosine", {"half a cosine down to final_lr_frac",
                                        warmed([](const Progress& p, double x) {
                                          return p.final_fraction + (1 - p.final_fraction) * 0.5 *
                                                                        (1 + std::cos(kPi * x));
                                        })}) &&
         Schedules::of().add("linear", {"a line down to final_lr_frac",
                                        warmed([](const Progress& p, double x) {
                                          return 1 + (p.final_fraction - 1) * x;
                                        })}) &&
         Schedules::of().add("step", {"a tenth after half and after three quarters",
                                      warmed([](const Progress&, double x) {
                                        return x < 0.5 ? 1.0 : x < 0.75 ? 0.1 : 0.01;
                                      })}) &&
         Schedules::of().add("paper", {"per epoch, cosine with T_max = all epochs", paper});
}
const bool registered_schedules = register_schedules();
}  // namespace

}  // namespace varion
