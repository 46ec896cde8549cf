// A configured network on a data set: its graphs, its device data, its predictions.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "backends/capture.hpp"
#include "comm/comm.hpp"
#include "data/dataset.hpp"
#include "models/model.hpp"
#include "optim/optimizer.hpp"
#include "posterior/metrics.hpp"
#include "train/batch.hpp"
#include "train/slot_sum.hpp"

namespace varion {

/// A recorded graph of one batch size with its inputs and ends.
struct BatchGraph {
  BatchGraph(Layout& layout, const Config& config, const DataSet& data, Index batch, bool train);
  Graph graph;
  Node x, target, output, loss;
  Index batch;
};

/// [n, example...].
Shape batched(Index n, const Shape& example);

/// Outputs a model needs: classes, or mean (and raw sigma where the noise is not known).
Index outputs_of(const DataSet& data);

/// Evaluates weights on a set of examples, batch by batch, padding the last batch. Ranks share the batches; every rank
/// gets all results.
class Evaluator {
 public:
  Evaluator(Layout& layout, const Config& config, const DataSet& data, const Exec& exec, const Comm& comm = {});
  /// Metrics at one weight vector.
  Metrics at(const Examples& e, ConstVec weights);
  /// Metrics of the average over `samples` posterior draws (probabilities, not logits, are averaged).
  /// One draw serves the whole set.
  Metrics averaged(const Examples& e, const Optimizer& optimizer, std::uint64_t seed, int samples);
  std::function<void()> between_passes = [] {};  // called before every pass; may throw to stop
  std::vector<ReliabilityBin> reliability;  // of the last classification
  std::vector<double> last_probabilities;   // [n, classes]

 private:
  std::vector<float> outputs(const Examples& e, ConstVec weights);
  std::map<const Examples*, DeviceExamples> on_device_;
  Metrics reduce(const Examples& e, const std::vector<std::vector<float>>& passes);
  const DataSet& data_;
  Exec exec_;
  Comm comm_;
  BatchGraph net_;
  BatchPlan plan_;
};

/// A sum of squares on the device, and room for the parts that a host adds up.
struct Squares {
  Kokkos::View<double, Memory> total{"varion::train::squares"};
  Kokkos::View<double*, Memory> parts{"varion::train::square_parts", 512};
};

/// out = the sum of squares of a vector, on a host the same bits for any number of threads. 4 bytes read per element.
void sum_of_squares(const Exec& exec, ConstVec v, Squares out);

/// What the host learns of the steps since it last asked.
struct StepNews {
  double loss = 0;           // of the last step, the mean over its samples
  double gradient_norm = 0;  // of the last sample's gradient where it was asked for, else of the last that was
  StepReport report;
};

/// parallel.slots as a number. Errors (78): no positive number.
Index slots_of(const Config& config, const Comm& comm);

/// The gradient-side: one training step at a time. Steps are queued; on one rank the host waits only in `news`.
///
/// The global batch is cut into slots; every rank does a block of them, one after another. A slot has its own
/// examples and, unless noise is shared, its own weight samples (paper, section 3.3: independent samples on every
/// machine, averaged gradient and Hessian estimate). Slots are added in one fixed tree (SlotSum, Comm::tree_sum), so that
/// the bits do not depend on the number of ranks.
class Trainer {
 public:
  /// Collective. Errors (78): slots that ranks or batch do not fit.
  Trainer(Layout& layout, const Config& config, const DataSet& data, const Exec& exec, const Comm& comm = {});
  Optimizer& optimizer() { return *optimizer_; }
  Index steps_per_epoch() const { return steps_per_epoch_; }
  Index batch() const { return net_.batch * slots_; }
  Index slots() const { return slots_; }
  /// Queues step `step` (from 1) at this rate on the examples from position `first` of the training order. The
  /// gradient's norm costs a pass over it: it is taken where `want_norm`, or where gradients are clipped.
  void step(std::uint64_t step, std::uint64_t first, double lr, bool want_norm);
  /// Waits for the steps queued, and reads and clears their counts. Collective.
  StepNews news();
  /// The standard normals of a step's sample in a slot.
  Noise noise(std::uint64_t step, int sample, Index slot = 0) const {
    return {RandomKey::make(seed_, Stream::train_noise, step, static_cast<std::uint64_t>(sample), static_cast<std::uint64_t>(slot)), {}};
  }
  /// Of the last step's last sample, the mean over slots.
  Vec gradient() const { return apart_ ? optimizer_->collected()[0] : gradient_; }
  Index arena_words() const { return net_.graph.arena_words(); }
  /// Whether passes are launched as one recorded piece: not before the second.
  bool is_recorded() const { return recorded_.ready(); }
  /// GEMM and convolution flops of one sample's forward and backward pass.
  double flops() const { return net_.graph.flops(true); }

 private:
  void fill_batch(std::uint64_t first);
  void slot_pass(std::uint64_t step, std::uint64_t first, Index slot, int sample);
  void mean_pass(std::uint64_t step, std::uint64_t first, int sample);
  void slots_apart(std::uint64_t step, std::uint64_t first, double lr, bool want_norm);
  void mean_over_slots(std::vector<SlotSum>& sums, const std::vector<Vec>& out);
  void pass();
  void queue_pass();
  Exec exec_;
  Comm comm_;
  std::uint64_t seed_;
  Index slots_, first_slot_, own_slots_;  // of all ranks; this rank's
  bool apart_;                            // slots have weight samples of their own
  bool fast_;                             // sums over ranks as MPI likes
  DeviceExamples train_;
  Index steps_per_epoch_;
  BatchGraph net_;
  BatchPlan plan_;
  std::unique_ptr<Optimizer> optimizer_;
  Replay replay_;
  backend::Capture recorded_;  // of a pass
  bool records_;               // passes are to be recorded
  std::uint64_t passes_ = 0;
  Vec weights_, gradient_;
  std::uint64_t perturbed_ = 0;  // the step whose first weights stand in weights_
  double clip_;
  std::vector<SlotSum> sums_;
  Kokkos::View<double*, Memory> loss_;     // [slots] of the last step; those of other ranks are zero
  Squares squares_;                        // of the last gradient that was asked for
};

}  // namespace varion
