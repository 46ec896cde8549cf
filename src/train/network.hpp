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
  /// Metrics at one weight vector, or at the optimizer's mean.
  Metrics at(const Examples& e, ConstVec weights);
  Metrics at_mean(const Examples& e, const Optimizer& optimizer);
  /// Metrics of the average over `samples` posterior draws (probabilities, not logits, are averaged).
  /// One draw serves the whole set.
  Metrics averaged(const Examples& e, const Optimizer& optimizer, std::uint64_t seed, int samples);
  std::function<void()> between_passes = [] {};  // called before every pass; may throw to stop
  std::vector<ReliabilityBin> reliability;  // of the last classification
  std::vector<double> last_probabilities;   // [n, classes]

 private:
  std::vector<float> outputs(const Examples& e, ConstVec weights);
  void complete(const Optimizer& optimizer, const Vec& weights);
  std::map<const Examples*, DeviceExamples> on_device_;
  Metrics reduce(const Examples& e, const std::vector<std::vector<float>>& passes);
  const DataSet& data_;
  Exec exec_;
  Comm comm_;
  BatchGraph net_;
  BatchPlan plan_;
};

/// A vector's sum of squares, on the device, added in an order that depends on nothing but its length.
class SquareSum {
 public:
  /// Of the numbers [begin, end) of v, of which begin is a multiple of 4096; the rest counts as zeros. 4 bytes read per number.
  void take(const Exec& exec, ConstVec v, Index begin, Index end);
  /// The last one taken; 0 before the first.
  Kokkos::View<const double, Memory> value() const { return value_; }
  /// The sum over ranks that each took another stretch.
  double over_ranks(const Exec& exec, const Comm& comm) const;

 private:
  Kokkos::View<double*, Memory> parts_;
  Kokkos::View<double, Memory> value_{"varion::train::squares"};
};

/// What the host learns of the steps since it last asked.
struct StepNews {
  double loss = 0;           // of the last step, the mean over its samples
  double gradient_norm = 0;  // of the last gradient that it was asked for
  double curvature_norm = 0; // of what else was collected, where a judge was asked
  StepReport report;         // non-finite entries: of the rank that has most of them
  std::uint64_t bad_loss = 0;  // the first step in which a slot's loss was not finite; 0: none
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
  /// Where there is a `judge`, it is asked when loss and gradient of all slots are known, and the update is left out where
  /// it says no; it may call `news`, which waits. The bits of a step do not depend on its being there.
  void step(std::uint64_t step, std::uint64_t first, double lr, bool want_norm, const std::function<bool()>& judge = {});
  /// Steps so far that were left out: the optimizer counts its updates, not steps.
  void skipped(std::uint64_t count) { skipped_ = count; }
  /// The optimizer's state has been replaced: what follows from the one before is forgotten.
  void state_replaced() { perturbed_ = 0; }
  /// Waits for the steps queued, and reads and clears their counts. Collective.
  StepNews news();
  /// The standard normals of a step's sample in a slot.
  Noise noise(std::uint64_t step, int sample, Index slot = 0) const {
    return {RandomKey::make(seed_, Stream::train_noise, step, static_cast<std::uint64_t>(sample), static_cast<std::uint64_t>(slot)), {}};
  }
  /// Of the last step's last sample, the mean over slots.
  Vec gradient() const { return mean_gradient_; }
  Index arena_words() const { return net_.graph.arena_words(); }
  /// Whether passes are launched as one recorded piece: not before the second.
  bool is_recorded() const { return recorded_.ready(); }
  /// GEMM and convolution flops of one sample's forward and backward pass.
  double flops() const { return net_.graph.flops(true); }

 private:
  void fill_batch(std::uint64_t first);
  void slot_pass(std::uint64_t step, std::uint64_t first, Index slot, int sample);
  void measure_collected();
  void mean_pass(std::uint64_t step, std::uint64_t first, int sample);
  void slots_apart(std::uint64_t step, std::uint64_t first, double lr, bool want_norm, const std::function<bool()>& judge);
  std::vector<Vec> mean_over_slots(const std::vector<Vec>& last);
  void complete(const Vec& weights);
  void pass();
  void queue_pass();
  Exec exec_;
  Comm comm_;
  std::uint64_t seed_;
  Index slots_, first_slot_, own_slots_;  // of all ranks; this rank's
  bool apart_;                            // slots have weight samples of their own
  bool fast_;                             // sums over ranks as MPI likes
  bool sharded_;                          // every rank keeps a stretch of the posterior
  DeviceExamples train_;
  Index steps_per_epoch_;
  BatchGraph net_;
  BatchPlan plan_;
  std::unique_ptr<Optimizer> optimizer_;
  Replay replay_;
  backend::Capture recorded_;  // of a pass
  bool records_;               // passes are to be recorded
  std::uint64_t passes_ = 0;
  KeptVec weights_memory_, gradient_memory_;
  std::vector<KeptVec> collected_;
  Vec weights_, gradient_, mean_gradient_;
  std::uint64_t perturbed_ = 0;  // the step whose first weights stand in weights_
  std::uint64_t skipped_ = 0;
  double clip_;
  std::vector<SlotSum> sums_;
  Kokkos::View<double*, Memory> loss_;     // [slots] of the last step; those of other ranks are zero
  SquareSum squares_;                      // of the last mean gradient that was asked for
  SquareSum clipped_;                      // of the last gradient that might be clipped
  SquareSum others_;                       // the same of what else was collected
  Kokkos::View<std::int64_t, Memory> bad_loss_;  // the first step with a loss that is not finite; 0: none
};

}  // namespace varion
