#include "bench/bench.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <sstream>

#include "backends/backend.hpp"
#include "build_info.hpp"
#include "core/profile.hpp"
#include "git_describe.hpp"
#include "io/process_memory.hpp"
#include <nlohmann/json.hpp>

namespace varion {

namespace {
double allocated = 0, allocated_peak = 0, kept = 0, launched = 0;
std::mutex counting;  // Kokkos' threads make room for teams each for itself
void on_launch(const char*, std::uint32_t, std::uint64_t*) { ++launched; }
/// Whether a vector's label says that it is of the optimizer's, or holds weights or gradients.
bool is_state(const std::string& label) {
  if (label.rfind("varion::optim::", 0) == 0) return true;
  const std::string last = label.substr(label.rfind(':') + 1);  // all of it where there is none
  return last == "weights" || last == "gradient" || last == "collected" || last == "slots";
}
void on_allocate(Kokkos::Profiling::SpaceHandle, const char* label, const void*, std::uint64_t bytes) {
  const std::lock_guard<std::mutex> one(counting);
  allocated += static_cast<double>(bytes);
  allocated_peak = std::max(allocated_peak, allocated);
  if (is_state(label)) kept += static_cast<double>(bytes);
}
void on_release(Kokkos::Profiling::SpaceHandle, const char* label, const void*, std::uint64_t bytes) {
  const std::lock_guard<std::mutex> one(counting);
  allocated -= static_cast<double>(bytes);
  if (is_state(label)) kept -= static_cast<double>(bytes);
}
double bytes_per_parameter(const Measurement& m) { return m.work.parameters > 0 ? m.state_bytes / m.work.parameters : 0; }
}  // namespace

bool Bench::wants(const std::string& name) const {
  return options_.chosen.empty() ||
         std::any_of(options_.chosen.begin(), options_.chosen.end(),
                     [&](const std::string& part) { return name.find(part) != std::string::npos; });
}

Measurement Bench::time(const std::string& name, const Work& work, const std::function<void()>& body) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [&](int calls) {
    Kokkos::fence();
    comm_.barrier();
    const auto from = Clock::now();
    for (int i = 0; i < calls; ++i) body();
    Kokkos::fence();
    return std::chrono::duration<double>(Clock::now() - from).count();
  };
  Measurement m;
  m.name = name;
  m.work = work;
  allocated_peak = allocated;
  io::reset_resident_peak();
  seconds(1);  // caches, lazy allocations
  launched = 0;
  const double once = std::max(seconds(1), 1e-9);
  std::vector<double> agreed{once};  // ranks measure together
  comm_.sum(agreed);
  m.calls = options_.quick ? 1 : static_cast<int>(std::clamp(options_.seconds * comm_.size() / agreed[0], 1.0, 1e5));
  m.repeats = options_.repeats;
  m.launches = launched;  // of the one call just timed
  std::vector<double> times;
  for (int r = 0; r < m.repeats; ++r) times.push_back(seconds(m.calls) / m.calls);
  std::sort(times.begin(), times.end());
  m.least = times.front();
  m.most = times.back();
  m.median = times[times.size() / 2];
  m.state_bytes = kept;
  m.device_peak = allocated_peak;
  m.process_peak = io::resident_peak();
  return m;
}

void Bench::measure(const std::string& name, const Work& work, const std::function<void()>& body) {
  if (!wants(name)) return;
  const Region region(name.c_str());
  Measurement m = time(name, work, body);
  if (bandwidth_ > 0) m.limit = work.bytes / bandwidth_;
  if (flops_ > 0) m.limit = std::max(m.limit, work.flops / flops_);
  results_.push_back(m);
  told(m);
}

void Bench::measure_pair(const std::string& limit, const std::string& name, const Work& work, const std::function<void()>& before,
                         const std::function<void()>& limit_body, const std::function<void()>& body) {
  using Clock = std::chrono::steady_clock;
  Measurement pair[2];
  std::vector<double> times[2], ratios;
  const std::function<void()>* const bodies[] = {&limit_body, &body};
  io::reset_resident_peak();
  for (int r = -1; r < options_.repeats; ++r)  // the first round fills caches
    for (const int turn : {0, 1}) {
      const int k = (turn + r) & 1;
      before();
      const auto from = Clock::now();
      (*bodies[k])();
      if (r < 0) continue;
      times[k].push_back(std::chrono::duration<double>(Clock::now() - from).count());
      if (turn == 1) ratios.push_back(times[0].back() / times[1].back());
    }
  std::sort(ratios.begin(), ratios.end());
  for (const int k : {0, 1}) {
    Measurement& m = pair[k];
    std::sort(times[k].begin(), times[k].end());
    m.name = k == 0 ? limit : name;
    m.work = work;
    m.calls = 1;
    m.repeats = options_.repeats;
    m.least = times[k].front();
    m.most = times[k].back();
    m.median = times[k][times[k].size() / 2];
    m.process_peak = io::resident_peak();
  }
  pair[1].limit = ratios[ratios.size() / 2] * pair[1].median;
  pair[1].best_pair = ratios.back();
  for (const Measurement& m : pair) {
    results_.push_back(m);
    told(m);
  }
}

void Bench::ceiling(const std::string& name, const Work& work, const std::function<void()>& body) {
  const Measurement m = time(name, work, body);
  bandwidth_ = std::max(bandwidth_, work.bytes / m.least);
  flops_ = std::max(flops_, work.flops / m.least);
  results_.push_back(m);
  told(m);
}

void Bench::run() {
  Kokkos::Tools::Experimental::set_allocate_data_callback(on_allocate);
  Kokkos::Tools::Experimental::set_deallocate_data_callback(on_release);
  Kokkos::Tools::Experimental::set_begin_parallel_for_callback(on_launch);
  Kokkos::Tools::Experimental::set_begin_parallel_reduce_callback(on_launch);
  Kokkos::Tools::Experimental::set_begin_parallel_scan_callback(on_launch);
  for (int rank = 0; rank < 3; ++rank)
    for (const auto& [name, c] : BenchCases::of().all()) {
      if (c.rank != rank) continue;
      allocated = kept = 0;
      c.run(*this);
    }
  Kokkos::Tools::Experimental::set_allocate_data_callback(nullptr);
  Kokkos::Tools::Experimental::set_deallocate_data_callback(nullptr);
  Kokkos::Tools::Experimental::set_begin_parallel_for_callback(nullptr);
  Kokkos::Tools::Experimental::set_begin_parallel_reduce_callback(nullptr);
  Kokkos::Tools::Experimental::set_begin_parallel_scan_callback(nullptr);
}

nlohmann::json bench_machine() {
  nlohmann::json j{{"program", text("varion ", VARION_VERSION, " ", VARION_GIT)},
                   {"compiler", VARION_COMPILER},
                   {"flags", VARION_BUILD_FLAGS},
                   {"kokkos", VARION_KOKKOS_VERSION},
                   {"precision", backend::precision_name()},
                   {"ranks", std::to_string(Comm::world().size())},
                   {"provider", text(backend::provider().name(), " (", backend::provider().description(), ")")}};
  for (const auto& [key, value] : backend::device_facts()) j[key] = value;
  return j;
}

nlohmann::json bench_json(const Bench& bench) {
  nlohmann::json rows = nlohmann::json::array();
  for (const Measurement& m : bench.results())
    rows.push_back({{"name", m.name},
                    {"provider", m.work.provider.empty() ? backend::provider().name() : m.work.provider},
                    {"bytes", m.work.bytes},
                    {"flops", m.work.flops},
                    {"items", m.work.items},
                    {"item", m.work.item},
                    {"calls", m.calls},
                    {"repeats", m.repeats},
                    {"median_s", m.median},
                    {"min_s", m.least},
                    {"max_s", m.most},
                    {"limit_s", m.limit},
                    {"best_pair", m.best_pair},
                    {"bytes_per_parameter", bytes_per_parameter(m)},
                    {"device_peak_bytes", m.device_peak},
                    {"process_peak_bytes", m.process_peak},
                    {"launches", m.launches}});
  return {{"schema", "varion-bench-1"}, {"machine", bench_machine()}, {"quick", bench.options().quick}, {"results", rows}};
}

std::string bench_header() {
  char line[256];
  std::snprintf(line, sizeof line, "%-48s %11s %11s %11s %9s %9s %7s %16s %7s %9s %8s", "benchmark", "median ms", "min", "max",
                "GB/s", "GFLOP/s", "ratio", "", "B/param", "peak MB", "launches");
  return line;
}

std::string bench_line(const Measurement& m) {
  char line[320], rate[32] = "";
  const auto number = [](double v, const char* format) {
    char s[32] = "";
    if (v > 0) std::snprintf(s, sizeof s, format, v);
    return std::string(s);
  };
  if (m.work.item == "parameter" || m.work.item == "draw")  // plenty of small items: time each
    std::snprintf(rate, sizeof rate, "%.3f ns/%.5s", 1e9 * m.median / m.work.items, m.work.item.c_str());
  else if (m.best_pair > 0)
    std::snprintf(rate, sizeof rate, "best pair %.2f", m.best_pair);
  else if (!m.work.item.empty())
    std::snprintf(rate, sizeof rate, "%.0f %s/s", m.work.items / m.median, m.work.item.c_str());
  const std::string label = m.work.provider.empty() ? m.name : text(m.name, " ", m.work.provider);
  std::snprintf(line, sizeof line, "%-48s %11.4f %11.4f %11.4f %9s %9s %7s %16s %7s %9s %8.0f", label.c_str(), 1e3 * m.median,
                1e3 * m.least, 1e3 * m.most, number(m.work.bytes / m.median / 1e9, "%.1f").c_str(),
                number(m.work.flops / m.median / 1e9, "%.1f").c_str(), number(m.limit / m.median, "%.2f").c_str(), rate,
                number(bytes_per_parameter(m), "%.1f").c_str(), number(m.device_peak / 1e6, "%.1f").c_str(), m.launches);
  return line;
}

}  // namespace varion
