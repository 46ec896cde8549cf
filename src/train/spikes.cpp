#include "train/spikes.hpp"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "core/error.hpp"

namespace varion {

SpikeRule::SpikeRule(const Config& c)
    : SpikeRule(c.real("train.spike_sigma"), static_cast<size_t>(c.integer("train.spike_window")),
                static_cast<size_t>(c.integer("train.spike_limit"))) {}

/// Sums run in the order of the steps, in double: the same numbers give the same decision after a resume and on every rank.
std::string SpikeRule::leap(const char* what, double value, const std::vector<double>& before) const {
  if (!std::isfinite(value)) return text(what, " ", std::isnan(value) ? std::abs(value) : value, " is not finite");  // no -nan
  if (before.size() < window_) return "";
  const double n = static_cast<double>(before.size());
  double mean = 0, squares = 0;
  for (const double v : before) mean += v / n;
  for (const double v : before) squares += (v - mean) * (v - mean);
  // Of numbers that hardly differ, a rounding would be a leap.
  const double deviation = std::max(std::sqrt(squares / (n - 1)), 1e-3 * std::abs(mean));
  if (!(value - mean > sigma_ * deviation)) return "";
  return text(what, " ", value, " leaps: ", mean, " +- ", deviation, " in the last ", before.size(), " clean steps");
}

std::string SpikeRule::judge(double loss, double norm, SpikeMemory& m) const {
  for (std::vector<double>* v : {&m.losses, &m.norms})
    if (v->size() > window_) v->erase(v->begin(), v->end() - static_cast<long>(window_));  // it has been made smaller
  std::string cause = leap("loss", loss, m.losses);
  if (cause.empty()) cause = leap("gradient norm", norm, m.norms);
  if (!cause.empty()) return cause;
  for (const auto& [v, value] : {std::pair{&m.losses, loss}, {&m.norms, norm}}) {
    if (v->size() == window_) v->erase(v->begin());
    v->push_back(value);
  }
  return "";
}

bool SpikeRule::add(std::uint64_t step, const std::string& cause, SpikeMemory& m) const {
  m.spikes[step] = cause;
  const auto first = m.spikes.lower_bound(step >= window_ ? step - window_ + 1 : 0);
  const auto recent = static_cast<size_t>(std::distance(first, m.spikes.upper_bound(step)));
  m.spikes.erase(m.spikes.begin(), first);
  return recent > limit_;
}

SpikePolicy spike_policy(const Config& c) {
  const std::string p = c.text("train.spike_policy");
  return p == "stop" ? SpikePolicy::stop : p == "skip" ? SpikePolicy::skip : p == "rollback" ? SpikePolicy::rollback : SpikePolicy::off;
}

void write_spikes(const SpikeMemory& m, std::map<std::string, std::string>& train) {
  std::string window, spikes;
  for (size_t i = 0; i < m.losses.size(); ++i) window += shortest(m.losses[i]) + " " + shortest(m.norms[i]) + "\n";
  for (const auto& [step, cause] : m.spikes) spikes += text(step, " ", cause, "\n");
  if (!window.empty()) train["spike_window"] = window;
  if (!spikes.empty()) train["spikes"] = spikes;
  if (m.skipped > 0) train["skipped"] = std::to_string(m.skipped);
}

SpikeMemory read_spikes(const std::map<std::string, std::string>& train, const std::string& name) {
  const auto text_of = [&](const char* key) {
    const auto it = train.find(key);
    return it == train.end() ? std::string() : it->second;
  };
  const auto count = [&](const std::string& s, const char* key) {
    const auto v = parse_real(s);
    require(v && *v >= 0 && *v < 9e15 && *v == std::floor(*v), Exit::data, name, ": train/", key, ": '", s.substr(0, 40), "' is no count");
    return static_cast<std::uint64_t>(*v);
  };
  SpikeMemory m;
  std::istringstream window(text_of("spike_window")), spikes(text_of("spikes"));
  for (std::string line; std::getline(window, line);) {
    const size_t blank = line.find(' ');
    const auto loss = parse_real(line.substr(0, blank)), norm = parse_real(blank == std::string::npos ? "" : line.substr(blank + 1));
    require(loss && norm, Exit::data, name, ": train/spike_window: '", line.substr(0, 40), "' is no pair of numbers");
    m.losses.push_back(*loss);
    m.norms.push_back(*norm);
  }
  for (std::string line; std::getline(spikes, line);) {
    const size_t blank = std::min(line.find(' '), line.size() - 1);
    m.spikes[count(line.substr(0, blank), "spikes")] = line.substr(blank + 1);
  }
  if (const std::string skipped = text_of("skipped"); !skipped.empty()) m.skipped = count(skipped, "skipped");
  return m;
}

}  // namespace varion
