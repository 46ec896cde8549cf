// Steps whose loss or gradient leaps: found before the update, and what a run remembers of them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/options.hpp"

namespace varion {

/// What becomes of such a step: nothing is looked for; exit code 10; the update is left out; the newest checkpoint is taken
/// up again and the step passed over when it comes round.
enum class SpikePolicy { off, stop, skip, rollback };

/// Part of every checkpoint, so that a resumed run decides as the unbroken one.
struct SpikeMemory {
  std::vector<double> losses, norms;            // of the last clean steps, oldest first
  std::map<std::uint64_t, std::string> spikes;  // step and cause: of the last window, and those to be passed over
  std::uint64_t skipped = 0;                    // steps without an update so far
};

/// Loss and gradient norm against those of the last clean steps: a leap is more than `sigma` standard deviations above their
/// mean. Nothing leaps before the window is full; what is not finite always does.
class SpikeRule {
 public:
  SpikeRule(double sigma, size_t window, size_t limit) : sigma_(sigma), window_(window), limit_(limit) {}
  /// From train.spike_*.
  explicit SpikeRule(const Config& config);

  /// Empty for a clean step, which the memory takes in; else what is wrong with it.
  std::string judge(double loss, double norm, SpikeMemory& memory) const;
  /// Remembers a spike; true where there are now more than the limit in the window of steps that ends with it.
  bool add(std::uint64_t step, const std::string& cause, SpikeMemory& memory) const;

 private:
  std::string leap(const char* what, double value, const std::vector<double>& before) const;
  double sigma_;
  size_t window_, limit_;
};

SpikePolicy spike_policy(const Config& config);

/// As attributes of a file's `train` group, and back. Missing ones are empty. Errors (65), with the file's name.
void write_spikes(const SpikeMemory& memory, std::map<std::string, std::string>& train);
SpikeMemory read_spikes(const std::map<std::string, std::string>& train, const std::string& name);

}  // namespace varion
