// Was a step of a run computed as it would be again? Finds what memory or a processor has done silently.
#pragma once

#include <string>

#include "comm/comm.hpp"
#include "core/options.hpp"

namespace varion {

struct ReplayResult {
  std::uint64_t from = 0, step = 0;  // the checkpoint's step; the step compared
  std::string recorded, replayed;    // hashes of the state after `step`
  bool ok() const { return recorded == replayed; }
};

/// Trains from the newest checkpoint before `step` of the run in `dir` to `step`, with the configuration that the checkpoint
/// names, and compares the state's hash with the run's, from its records or a checkpoint. `step` 0: the last one that
/// can be. Nothing in `dir` is changed. Collective. Errors: 66 no run; 65 no checkpoint before or no hash of that step.
ReplayResult replay_step(const std::string& dir, std::uint64_t step, const Comm& comm);

}  // namespace varion
