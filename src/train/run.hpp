// A run: one directory, trained from its newest valid checkpoint to the end.
#pragma once

#include <memory>
#include <string>

#include "core/options.hpp"
#include "io/posterior_file.hpp"
#include "posterior/metrics.hpp"
#include "train/network.hpp"

namespace varion {

struct RunOutcome {
  Exit code = Exit::ok;
  Metrics metrics;  // "test/nll", "mean/nll", "ood/auroc", "seconds_per_step" ...
};

/// Trains the resolved configuration in its directory. Errors as Error; stopping early is an outcome.
RunOutcome train_run(Config config, bool quiet);

/// The directory with {name} replaced. Errors (78): a name outside [A-Za-z0-9._-].
std::string run_directory(const Config& config);

/// Fills optim.ess = auto with the number of training examples.
void resolve_ess(Config& config, const DataSet& data);

/// State of a training run as a posterior file, and back.
io::PosteriorFile to_file(const Layout& layout, const Optimizer& optimizer, const Config& config,
                          const DataSet& data, std::uint64_t step);
/// Errors (65): another model, shapes, optimizer, or (unless `any_data`) data set.
void from_file(const io::PosteriorFile& file, const std::string& name, const Layout& layout,
               Optimizer& optimizer, const DataSet& data, bool any_data);

/// A configuration, data set and optimizer rebuilt from a posterior file.
struct Restored {
  Config config;
  DataSet data;
  Layout layout;
  std::unique_ptr<Evaluator> evaluator;
  std::unique_ptr<Optimizer> optimizer;
  io::PosteriorFile file;
};
std::unique_ptr<Restored> restore(const std::string& path);

/// All final metrics: at the mean, averaged, and out of distribution.
Metrics final_metrics(Evaluator& evaluator, const Optimizer& optimizer, const DataSet& data,
                      const Config& config);

/// Set by signal handlers: stop at the next step boundary with a checkpoint.
void install_signal_handlers();

}  // namespace varion
