// What weights and posteriors are worth on a set of examples.
#pragma once

#include <functional>
#include <map>

#include "posterior/metrics.hpp"
#include "train/network.hpp"

namespace varion {

/// Evaluates weights on a set of examples, batch by batch, padding the last batch. Ranks share the batches; every rank
/// gets all results.
class Evaluator {
 public:
  Evaluator(Layout& layout, const Config& config, const DataSet& data, const Exec& exec, const Comm& comm = {});
  /// Metrics at one weight vector, or at the optimizer's mean.
  Metrics at(const Examples& e, ConstVec weights);
  Metrics at_mean(const Examples& e, const Optimizer& optimizer);
  /// Metrics of the average over `samples` posterior draws (probabilities, not logits, are averaged).
  /// One draw serves the whole set.
  Metrics averaged(const Examples& e, const Optimizer& optimizer, std::uint64_t seed, int samples);
  /// What the metrics of a set are called: acc, nll ...
  std::vector<std::string> metric_names() const;
  std::function<void()> between_passes = [] {};  // called before every pass; may throw to stop
  std::function<void()> working = [] {};         // called for every batch, not on all ranks together
  std::vector<ReliabilityBin> reliability;  // of the last classification
  std::vector<double> last_probabilities;   // [n, classes]

 private:
  std::vector<float> outputs(const Examples& e, ConstVec weights);
  void fill_batch(const Examples& e, Index first, Replay& replay);
  std::vector<double> asked_for(const Examples& e, const std::vector<double>& terms) const;
  void complete(const Optimizer& optimizer, const Vec& weights);
  std::map<const Examples*, DeviceExamples> on_device_;
  std::map<const Examples*, Windows> windows_;  // of texts
  struct Predictions {
    std::vector<double> mean;         // probabilities [n, classes], or means [n]
    std::vector<LogMean> likelihood;  // of what is true [n]
    void add(const DataSet& data, const Examples& e, const std::vector<float>& y, double share);
  };
  Metrics reduce(const Examples& e, const Predictions& all);
  const DataSet& data_;
  Exec exec_;
  Comm comm_;
  BatchGraph net_;
  BatchPlan plan_;
  Masks masks_;
};

/// All final metrics: at the mean, averaged, and out of distribution.
Metrics final_metrics(Evaluator& evaluator, const Optimizer& optimizer, const DataSet& data,
                      const Config& config);

}  // namespace varion
