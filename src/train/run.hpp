// A run: one directory, trained from its newest valid checkpoint to the end.
#pragma once

#include <memory>
#include <string>

#include "comm/comm.hpp"
#include "core/options.hpp"
#include "posterior/metrics.hpp"
#include "train/checkpoint.hpp"

namespace varion {

struct RunOutcome {
  Exit code = Exit::ok;
  Metrics metrics;  // "test/nll", "mean/nll", "ood/auroc", "seconds_per_step" ...
};

/// Trains the resolved configuration in its directory. Collective; only the first rank writes. Errors as Error; stopping
/// early is an outcome.
RunOutcome train_run(Config config, bool quiet, const Comm& comm = {});

}  // namespace varion
