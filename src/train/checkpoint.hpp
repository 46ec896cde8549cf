// Between a run and its posterior files.
#pragma once

#include <memory>
#include <string>

#include "io/posterior_plan.hpp"
#include "train/evaluator.hpp"
#include "train/host_copy.hpp"
#include "train/run_folder.hpp"
#include "train/spikes.hpp"

namespace varion {

/// Where a run stands, besides the optimizer's vectors.
struct RunPosition {
  std::uint64_t step = 0, samples = 0;  // steps done, training examples seen
  RecordMark records;
  double nonpositive = 0;  // refused or floored Hessian updates so far
  std::string parent_uuid;  // of the checkpoint the run continued from
  std::string best;        // smallest value of checkpoint.best so far, empty before the first
  SpikeMemory spikes;
  std::string state_hash;  // of the file it was read from (state_hash.hpp)
};

/// Everything but `history`, `layers`, the state's hash and the numbers of the state vectors, whose names it has.
io::PosteriorFile to_file(const Layout& layout, const Optimizer& optimizer, const Config& config, const DataSet& data,
                          const RunPosition& at, const std::string& env_json);
/// Up to 4096 numbers of every tensor, drawn evenly from all over it, tensor by tensor. Those that this stretch has not are zeros.
std::vector<float> layer_sample(const io::PosteriorFile& file, const io::Stretch& vector);
/// Of the frozen parameters, which stand in model.init and not in the file; empty where there are none.
std::string frozen_digest(const Layout& layout);
/// Sizes and quantiles of every tensor, for people who look into the file: of its sample. `hess` may be empty.
std::map<std::string, std::vector<double>> layer_table(const io::PosteriorFile& file, const std::vector<float>& mean,
                                                       const std::vector<float>& hess);
/// Errors (65): a field is missing or no count.
RunPosition position_of(const io::PosteriorFile& file, const std::string& name);
/// Fills the optimizer's state. Errors (65): another model, shapes, optimizer or data.
void from_file(const io::PosteriorFile& file, const std::string& name, const Layout& layout,
               Optimizer& optimizer, const DataSet& data);

/// Fills optim.ess = auto with the number of training examples.
void resolve_ess(Config& config, const DataSet& data);

/// A configuration, data set and optimizer rebuilt from a posterior file; `changes` are set on top.
struct Restored {
  Config config;
  DataSet data;
  Layout layout;
  std::unique_ptr<Evaluator> evaluator;
  std::unique_ptr<Optimizer> optimizer;
  io::PosteriorFile file;
  std::vector<std::string> notes;  // which of the changes have no effect
};
std::unique_ptr<Restored> restore(const std::string& path,
                                  const std::vector<std::pair<std::string, std::string>>& changes);

/// A language model rebuilt from a posterior file alone: its text is not needed.
struct TextModel {
  /// Errors (65, 66, 78): the file, its tokenizer; it holds no language model.
  TextModel(const std::string& path, const std::vector<std::pair<std::string, std::string>>& changes);
  Config config;
  std::shared_ptr<const Tokenizer> tokenizer;
  Index vocabulary = 0, length = 0;  // positions that were trained
  std::vector<std::string> notes;    // which of the changes have no effect
  std::unique_ptr<Layout> layout = std::make_unique<Layout>();
  std::unique_ptr<Optimizer> optimizer;
};

}  // namespace varion
