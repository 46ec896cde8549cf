// A configured network on a data set, and the training step.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "backends/capture.hpp"
#include "comm/comm.hpp"
#include "data/dataset.hpp"
#include "models/model.hpp"
#include "optim/optimizer.hpp"
#include "train/batch.hpp"
#include "train/slot_sum.hpp"
#include "train/square_sum.hpp"
#include "train/windows.hpp"

namespace varion {

/// A recorded graph of one batch size with its inputs and ends. Where tokens of a text are predicted the output is the log likelihood
/// of every one, and inputs and targets are i32 [batch, T].
struct BatchGraph {
  /// Errors (78): the model does not read such data, or has another task.
  BatchGraph(Layout& layout, const Config& config, const DataSet& data, Index batch, bool train);
  Graph graph;
  Node x, target, output, loss;
  Index batch;
};

/// [n, example...].
Shape batched(Index n, const Shape& example);

/// Outputs a model needs: classes (of a text: tokens), or mean (and raw sigma where the noise is not known).
Index outputs_of(const DataSet& data);

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
  /// Called in every step once its gradient is there, before the state is changed: until then others may read it.
  std::function<void()> before_update = [] {};
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
  Vec gradient() const { return means_[0]; }
  Index arena_words() const { return net_.graph.arena_words(); }
  /// Whether passes are launched as one recorded piece: not before the second.
  bool is_recorded() const { return recorded_.ready(); }
  /// GEMM and convolution flops of one sample's forward and backward pass.
  double flops() const { return net_.graph.flops(true); }

 private:
  void fill_batch(std::uint64_t first);
  void slot_pass(std::uint64_t step, std::uint64_t first, Index slot, int sample);
  void clip_mean();
  void measure_collected();
  void mean_pass(std::uint64_t step, std::uint64_t first, int sample);
  void slots_apart(std::uint64_t step, std::uint64_t first, double lr, bool want_norm, const std::function<bool()>& judge);
  const std::vector<Vec>& mean_over_slots();
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
  std::optional<Windows> windows_;  // of a text
  std::unique_ptr<Optimizer> optimizer_;
  Replay replay_;
  backend::Capture recorded_;  // of a pass
  bool records_;               // passes are to be recorded
  std::uint64_t passes_ = 0;
  std::vector<KeptVec> memory_;  // of what ranks of a node share
  Vec weights_, gradient_;
  std::vector<Vec> collected_, means_;  // of a slot, to be averaged over slots; the averages
  std::uint64_t perturbed_ = 0;  // the step whose first weights stand in weights_
  std::uint64_t skipped_ = 0;
  double clip_;
  bool clips_mean_;  // and no slot's own gradient
  std::vector<SlotSum> sums_;
  Kokkos::View<double*, Memory> loss_;     // [slots] of the last step; those of other ranks are zero
  Kokkos::View<double, Memory> squares_of_ranks_{"varion::train::squares_of_ranks"};
  SquareSum squares_;                      // of the last mean gradient that was asked for
  SquareSum clipped_;                      // of the last gradient that might be clipped
  SquareSum others_;                       // the same of what else was collected
  Kokkos::View<std::int64_t, Memory> bad_loss_;  // the first step with a loss that is not finite; 0: none
};

}  // namespace varion
