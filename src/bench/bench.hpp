// Measuring: ceilings of this machine first, then kernels and whole training steps as ratios to them.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "comm/comm.hpp"
#include "core/registry.hpp"
#include "core/types.hpp"

namespace varion {

/// What one call of a body must do, counted from its definition.
struct Work {
  double bytes = 0, flops = 0;  // 0: none to speak of
  double items = 1;             // parameters, images ...
  std::string item;             // their name, singular
  double parameters = 0;        // of what is trained; 0: nothing is
  std::string provider = {};    // where it is not the one in use
};

/// One line of the table. Times in seconds a call, bytes of device memory.
struct Measurement {
  std::string name;
  Work work;
  int calls = 0, repeats = 0;
  double median = 0, least = 0, most = 0;
  double limit = 0;       // seconds by bytes and flops at this run's ceilings; 0 for a ceiling itself
  double state_bytes = 0; // of vectors of parameters that were there at the end: weights, optimizer's states, gradients
  double device_peak = 0; // Kokkos allocations while the case ran
  double process_peak = 0;  // resident set, where the system tells
  double launches = 0;      // kernels a call, the libraries' own not counted
  double best_pair = 0;     // measured in turns with its limit: the best of the ratios, of which the table shows the median
};

struct BenchOptions {
  std::vector<std::string> chosen;  // parts of names; empty: all
  int repeats = 9;
  double seconds = 0.1;  // least time of one repeat
  bool quick = false;    // tiny sizes: shows that everything runs, measures nothing
  std::string dir;       // where files are written and read
};

/// Runs bodies and keeps what it measured. On several ranks all of them run the same bodies at the same time, so that
/// ceilings are what each gets of a shared machine; a rank's times are its own.
class Bench {
 public:
  explicit Bench(BenchOptions options) : options_(std::move(options)) {}
  const BenchOptions& options() const { return options_; }
  bool wants(const std::string& name) const;
  /// `full`, or `tiny` in a quick run.
  Index size(Index full, Index tiny) const { return options_.quick ? tiny : full; }

  /// Times `body`, which may leave work running on the device. Called within a case.
  void measure(const std::string& name, const Work& work, const std::function<void()>& body);
  /// Two bodies in turns, the first one first in every other round, with `before` ahead of each, untimed: the first is the limit
  /// of the second, round by round. For what a machine does at another speed a minute later.
  void measure_pair(const std::string& limit, const std::string& name, const Work& work, const std::function<void()>& before,
                    const std::function<void()>& limit_body, const std::function<void()>& body);
  /// The same as `measure` for a ceiling, whose best time sets the limits of everything after it.
  void ceiling(const std::string& name, const Work& work, const std::function<void()>& body);

  /// Runs all registered cases, ceilings first.
  void run();
  const std::vector<Measurement>& results() const { return results_; }
  std::function<void(const Measurement&)> told = [](const Measurement&) {};

 private:
  Measurement time(const std::string& name, const Work& work, const std::function<void()>& body);
  BenchOptions options_;
  Comm comm_ = Comm::world();
  std::vector<Measurement> results_;
  double bandwidth_ = 0, flops_ = 0;  // best bytes and flops a second among the ceilings
};

/// A group of measurements. Ceilings have rank 0 and run always; then kernels 1, steps 2.
struct BenchCase {
  static const char* kind() { return "benchmark"; }
  std::string help;
  int rank;
  std::function<void(Bench&)> run;
};
using BenchCases = Registry<BenchCase>;

/// What the measurements are of: program, build, device, driver, clocks, precision, provider, threads.
nlohmann::json bench_machine();
nlohmann::json bench_json(const Bench& bench);
std::string bench_line(const Measurement& m);
std::string bench_header();
/// Reads two files of `varion bench --json` and prints B against A: rows of the same name and provider, and of every name the
/// preferred providers' of both, which stand last. Errors (65, 66): not such a file; (78): unequal work under the same name,
/// precision, or ranks of a training step, a sum or a file that they share. How many bytes an implementation moves is its own affair.
std::string bench_compare(const std::string& a, const std::string& b);

}  // namespace varion
