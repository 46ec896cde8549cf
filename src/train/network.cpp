#include "train/network.hpp"

#include <algorithm>
#include <cmath>

#include "backends/backend.hpp"
#include "core/blocks.hpp"
#include "core/error.hpp"
#include "core/inject.hpp"
#include "core/memory.hpp"
#include "core/profile.hpp"

namespace varion {

Shape batched(Index n, const Shape& example) {
  Shape s;
  s.rank = example.rank + 1;
  s.dims[0] = n;
  for (int i = 0; i < example.rank; ++i) s.dims[static_cast<size_t>(i + 1)] = example[i];
  return s;
}

Index outputs_of(const DataSet& data) {
  return data.classes > 0 ? data.classes : data.noise_sigma > 0 ? 1 : 2;
}

BatchGraph::BatchGraph(Layout& layout, const Config& config, const DataSet& data, Index n, bool train)
    : graph(layout), batch(n) {
  const Config::Value& precision = config.values().at("train.precision");
  backend::use_precision(precision.text, precision.source + ": train.precision");
  graph.keep_bf16(backend::keeps_bf16());
  const Model& model = Models::of().find(config.text("model.name"));
  freeze(layout, model, config);
  const bool reads = data.vocabulary > 0, classes = data.classes > 0, text = data.train.is_row();  // text: its tokens are predicted
  require(reads == model.reads_text(), Exit::config, "model.name = ", config.text("model.name"), " reads ", reads ? "no text" : "text only",
          ", data.name = ", config.text("data.name"), " is ", reads ? "one" : "none");
  const bool classifies = reads && model.text_task(config) == TextTask::passage;
  require(!classifies || !text, Exit::config, "model.name = ", config.text("model.name"), " classifies passages, data.name = ",
          config.text("data.name"), " is one text: set model.task=masked, or data.name=passages");
  require(!reads || classifies || text, Exit::config, "model.name = ", config.text("model.name"), " predicts tokens, data.name = ",
          config.text("data.name"), " is passages of classes: set model.name=encoder model.task=classify");
  require(model.example.rank < 3 || data.train.example.rank == 3, Exit::config, "model.name = ", config.text("model.name"),
          " wants images [H, W, C], an example of data.name = ", config.text("data.name"), " is ", data.train.example.text());
  x = graph.input(batched(n, data.train.example), reads);
  if (train || text) target = graph.input(text ? graph.shape(x) : classes ? Shape{n} : Shape{n, 1}, classes);
  output = model.build(graph, x, config, {outputs_of(data), data.vocabulary});
  if (text && !train) output = tied_log_likelihood(graph, output, model.head, target);
  if (train) {
    loss = text      ? tied_cross_entropy(graph, output, model.head, target)
           : classes ? cross_entropy(graph, output, target)
           : data.noise_sigma > 0
               ? gaussian_nll_fixed(graph, output, target, static_cast<Real>(data.noise_sigma))
               : gaussian_nll(graph, output, target);
    graph.output(loss);
  }
  if (!text || !train) graph.output(output);
  graph.finish(train);
  require_trained(layout, config);
}

Index slots_of(const Config& config, const Comm& comm) {
  const std::string value = config.text("parallel.slots");
  if (value == "auto") return comm.size();
  const auto slots = parse_real(value);
  require(slots && *slots >= 1 && *slots <= 4096 && *slots == std::floor(*slots), Exit::config, "parallel.slots = '", value,
          "' must be a whole number from 1 to 4096, or auto");
  return static_cast<Index>(*slots);
}

namespace {
/// Examples a slot. Errors (78).
Index slot_batch(const Config& config, const DataSet& data, const Comm& comm, Index slots) {
  const Index batch = std::min(config.integer("data.global_batch"), data.train.count);
  require(slots % comm.size() == 0, Exit::config, "parallel.slots = ", slots, " is no multiple of the ", comm.size(), " ranks");
  require(slots <= data.train.count, Exit::config, "parallel.slots = ", slots, " are more than the ", data.train.count, " training examples");
  const bool cut = batch < config.integer("data.global_batch");
  require(batch % slots == 0, Exit::config, "data.global_batch = ", batch, cut ? " (all training examples)" : "", " is no multiple of parallel.slots = ",
          slots, ": take ", std::max(batch / slots, Index(1)) * slots, cut || batch < slots ? "" : text(" or ", (batch / slots + 1) * slots));
  require((slots & (slots - 1)) == 0 || comm.size() == 1 || config.text("parallel.mode") == "fast", Exit::config,
          "parallel.slots = ", slots, " is no power of two: sums over ranks are then only possible with parallel.mode=fast");
  return batch / slots;
}

/// The layout, of which this rank keeps its stretch where the posterior is sharded.
const Layout& shared_out(Layout& layout, bool sharded, const Comm& comm) {
  const Stretch own = sharded ? comm.own(layout.size()) : Stretch{0, layout.size()};
  require(!sharded || comm.stretch_of(layout.size(), 0).size() < layout.size(), Exit::config, "parallel.shard_posterior: ", layout.size(),
          " parameters are too few to be shared out over ", comm.size(), " ranks");
  layout.keep(own.begin, own.end);
  return layout;
}

std::optional<Windows> training_windows(const Config& config, const DataSet& data, Index batch) {
  if (data.vocabulary == 0) return {};
  return Windows(data.train, batch, config.text("data.windows") == "epoch" ? WindowOrder::epoch : WindowOrder::random,
                 masks_of(Models::of().find(config.text("model.name")), config, data));
}
}  // namespace

Trainer::Trainer(Layout& layout, const Config& config, const DataSet& data, const Exec& exec, const Comm& comm)
    : exec_(exec),
      comm_(comm),
      seed_(static_cast<std::uint64_t>(config.integer("run.seed"))),
      slots_(slots_of(config, comm)),
      fast_(config.text("parallel.mode") == "fast"),
      sharded_(config.flag("parallel.shard_posterior") && comm.size() > 1),
      train_(exec, data.train),
      net_(layout, config, data, slot_batch(config, data, comm, slots_), true),
      plan_(net_.batch, data.flip, data.crop_pad),
      windows_(training_windows(config, data, net_.batch)),
      optimizer_(Optimizers::of().find(config.text("optim.name")).make(shared_out(layout, sharded_, comm_), config)),
      replay_(net_.graph, exec),
      records_(backend::Capture::supported() && config.text("train.capture") == "auto"),
      clip_(config.real("optim.grad_clip")),
      clips_mean_(clip_ > 0 && optimizer_->collects() == 0) {
  own_slots_ = slots_ / comm.size();
  first_slot_ = own_slots_ * comm.rank();
  apart_ = slots_ > 1 && config.text("parallel.noise") == "per_slot" && optimizer_->collects() > 0;
  require(!apart_ || !sharded_, Exit::config, "parallel.shard_posterior needs parallel.noise=shared with ", optimizer_->name(),
          ": a rank that keeps a part of mean and Hessian cannot draw weights of its own");
  comm_.use_device_memory(backend::mpi_takes_device_memory(config.text("parallel.gpu_aware_mpi")));
  steps_per_epoch_ = std::max<Index>(data.train.count / batch(), 1);
  loss_ = Kokkos::View<double*, Memory>("varion::train::loss", static_cast<size_t>(slots_));
  bad_loss_ = Kokkos::View<std::int64_t, Memory>("varion::train::bad_loss");
  const auto shared = [&](const char* label) {
    memory_.push_back(comm_.vector(label, layout.size()));
    return memory_.back().vec;
  };
  gradient_ = shared("varion::train::gradient");
  // The weights of a point estimate are its mean: no copy.
  weights_ = !optimizer_->is_variational() ? optimizer_->mean()
             : sharded_                    ? shared("varion::train::weights")
                                           : long_vector("varion::train::weights", layout.size());
  // Where a step has one sample its gradient is the mean of its samples.
  for (size_t k = 0; k < (apart_ ? optimizer_->collects() : 1); ++k)
    collected_.push_back(k == 0 && (!apart_ || optimizer_->samples_per_step() == 1) ? gradient_ : shared("varion::train::collected"));
  means_ = collected_;
  if (own_slots_ > 1) sums_.assign(collected_.size(), SlotSum(comm_));
  replay_.weights = weights_;
  replay_.gradient = gradient_;
  replay_.train = true;
  layout.initialise(exec_, seed_, weights_);
  if (optimizer_->is_variational())
    Kokkos::deep_copy(exec_, slice(optimizer_->mean(), optimizer_->own_begin(), optimizer_->own_size()),
                      slice(weights_, optimizer_->own_begin(), optimizer_->own_size()));
  optimizer_->start(exec_);
}

/// g *= limit / |g| where |g| is larger. 8 bytes per element.
void clip_to_norm(const Exec& exec, Kokkos::View<const double, Memory> squares, double limit, Vec gradient) {
  for_streams("varion::train::clip", exec, 0, static_cast<Index>(gradient.extent(0)), reads(), updates(gradient), writes(),
              KOKKOS_LAMBDA(const Streams<0, 1, 0>& s, int lo, int hi) {
                const double norm = std::sqrt(squares());
                if (!(norm > limit)) return;
                const Real factor = static_cast<Real>(limit / norm);
                Real* const g = s.update[0];
                VARION_IVDEP
                for (int i = lo; i < hi; ++i) g[i] *= factor;
              });
}

/// sum[slot] (+)= share times the one number in `value`; `bad` becomes the first step in which it was not finite.
void add_share(const Exec& exec, ConstVec value, double share, bool add, Index slot, Kokkos::View<double*, Memory> sum,
               std::uint64_t step, Kokkos::View<std::int64_t, Memory> bad) {
  Kokkos::parallel_for(
      "varion::train::loss", Range(exec, 0, 1), KOKKOS_LAMBDA(const Index) {
        sum(slot) = (add ? sum(slot) : 0.0) + share * static_cast<double>(value(0));
        if (not_finite(value(0)) != 0 && bad() == 0) bad() = static_cast<std::int64_t>(step);
      });
}

void Trainer::fill_batch(std::uint64_t first) {
  if (windows_) return windows_->train(exec_, seed_, first, replay_.ints(net_.x), replay_.ints(net_.target));
  plan_.shuffled(exec_, seed_, first, train_.count);
  plan_.gather(exec_, train_, replay_.value(net_.x));
  if (train_.labels.extent(0) > 0)
    plan_.gather_labels(exec_, train_, replay_.ints(net_.target));
  else
    plan_.gather_targets(exec_, train_, replay_.value(net_.target));
}

void Trainer::queue_pass() {
  replay_.forward();
  replay_.backward(net_.loss);
}

/// Forward and backward of the batch in place. Nothing in it changes from step to step but what memory holds, so it is
/// recorded at its second time; the first lets libraries and Kokkos allocate.
void Trainer::pass() {
  if (records_ && passes_++ == 1) {
    recorded_.begin(exec_);
    queue_pass();
    recorded_.end();
  }
  if (is_recorded()) recorded_.launch(exec_);
  else queue_pass();
}

/// Gradient of a slot's mean loss at the weights in place, clipped where the optimizer collects from it, and its loss.
void Trainer::slot_pass(std::uint64_t step, std::uint64_t first, Index slot, int sample) {
  const int samples = optimizer_->samples_per_step();
  // With one slot a rank the batch of the last sample is still in place.
  if (sample == 0 || own_slots_ > 1) fill_batch(first + static_cast<std::uint64_t>(slot * net_.batch));
  replay_.draw_from(RandomKey::make(seed_, Stream::dropout, step, static_cast<std::uint64_t>(sample), static_cast<std::uint64_t>(slot)));
  if constexpr (inject::kOn) {
    inject::process("forward", step);
    if (!windows_) inject::value("input", step, exec_, replay_.value(net_.x));
    inject::value("weight", step, exec_, weights_);
    inject::value("noise", step, exec_, weights_);
  }
  pass();
  if constexpr (inject::kOn) {
    inject::value("loss", step, exec_, replay_.value(net_.loss));
    inject::value("gradient", step, exec_, gradient_);
  }
  add_share(exec_, replay_.value(net_.loss), 1.0 / samples, sample > 0, slot, loss_, step, bad_loss_);
  if (clip_ > 0 && !clips_mean_) {
    clipped_.take(exec_, gradient_, 0, static_cast<Index>(gradient_.extent(0)));
    clip_to_norm(exec_, clipped_.value(), clip_, gradient_);
  }
}

/// The means over all slots of what this rank's have added to the sums, or has been collected where there is one slot a rank.
/// Where the posterior is sharded, only the own stretch of them. They stand in the vectors that hold the sums.
const std::vector<Vec>& Trainer::mean_over_slots() {
  const Region region("reduce");
  for (size_t k = 0; slots_ > 1 && k < means_.size(); ++k) {
    if (own_slots_ > 1) means_[k] = sums_[k].take(exec_);
    const Real share = 1 / static_cast<Real>(slots_);
    if (fast_) comm_.sum(exec_, means_[k], share);
    else if (sharded_) comm_.reduce_scatter(exec_, means_[k], share);
    else comm_.tree_sum(exec_, means_[k], share);
  }
  return means_;
}

/// Weights of which this rank has written its stretch: all of them.
void Trainer::complete(const Vec& weights) {
  if (sharded_) comm_.all_gather(exec_, weights);
}

/// means_[0] = the mean over all slots at the weights in place.
void Trainer::mean_pass(std::uint64_t step, std::uint64_t first, int sample) {
  for (Index slot = first_slot_; slot < first_slot_ + own_slots_; ++slot) {
    slot_pass(step, first, slot, sample);
    if (own_slots_ > 1) sums_[0].add(exec_, gradient_);
  }
  inject::process("reduce", step);
  mean_over_slots();
}

/// Clips the mean gradient, of which this rank has its stretch. Where others have theirs, waits for them.
void Trainer::clip_mean() {
  squares_.take(exec_, means_[0], optimizer_->own_begin(), optimizer_->own_begin() + optimizer_->own_size());
  Kokkos::View<const double, Memory> all = squares_.value();
  if (sharded_) {
    Kokkos::deep_copy(exec_, squares_of_ranks_, squares_.over_ranks(exec_, comm_));
    all = squares_of_ranks_;
  }
  clip_to_norm(exec_, all, clip_, slice(means_[0], optimizer_->own_begin(), optimizer_->own_size()));
}

/// What the optimizer has collected besides the gradient is finite exactly where the sum of its squares is.
void Trainer::measure_collected() {
  const std::vector<Vec> collected = optimizer_->collected();
  if (collected.size() > 1) others_.take(exec_, collected[1], optimizer_->own_begin(), optimizer_->own_begin() + optimizer_->own_size());
}

/// The step where every slot has weight samples of its own.
void Trainer::slots_apart(std::uint64_t step, std::uint64_t first, double lr, bool want_norm, const std::function<bool()>& judge) {
  const int samples = optimizer_->samples_per_step();
  optimizer_->collect_in(collected_);
  for (Index slot = first_slot_; slot < first_slot_ + own_slots_; ++slot) {
    for (int s = 0; s < samples; ++s) {
      if (s > 0 || slot > first_slot_ || perturbed_ != step) optimizer_->perturb(exec_, noise(step, s, slot), weights_);
      slot_pass(step, first, slot, s);
      optimizer_->collect(exec_, s, noise(step, s, slot), weights_, gradient_);
    }
    for (size_t k = 0; own_slots_ > 1 && k < collected_.size(); ++k) sums_[k].add(exec_, collected_[k]);
  }
  inject::process("reduce", step);
  optimizer_->collect_in(mean_over_slots());
  if (want_norm || judge) squares_.take(exec_, means_[0], 0, optimizer_->size());
  if (judge) {
    measure_collected();
    if (!judge()) return;
  }
  before_update();
  optimizer_->update_and_perturb(exec_, step - skipped_, lr, noise(step + 1, 0, first_slot_), weights_);
  perturbed_ = step + 1;
}

void Trainer::step(std::uint64_t step, std::uint64_t first, double lr, bool want_norm, const std::function<bool()>& judge) {
  const Region region("step");
  if constexpr (inject::kOn) {
    before_update();  // a fault changes the state
    for (const StateVector& s : optimizer_->state()) inject::value(s.name, step, exec_, s.data);
  }
  if (apart_) return slots_apart(step, first, lr, want_norm, judge);
  const int samples = optimizer_->samples_per_step();
  for (int s = 0; s < samples; ++s) {
    // The last step has left the first sample's weights, unless the run begins here.
    if (s > 0 || perturbed_ != step) {
      optimizer_->perturb(exec_, noise(step, s), weights_);
      complete(weights_);
    }
    mean_pass(step, first, s);
    const bool last = s + 1 == samples;
    if (clips_mean_) clip_mean();  // the norm that is told and judged is the one before
    else if (last && (want_norm || judge) && clip_ > 0 && slots_ == 1) squares_ = clipped_;  // before it was clipped
    else if (last && (want_norm || judge))
      squares_.take(exec_, means_[0], optimizer_->own_begin(), optimizer_->own_begin() + optimizer_->own_size());
    if (!last || judge) {
      optimizer_->collect(exec_, s, noise(step, s), weights_, means_[0]);
    } else {
      before_update();
      optimizer_->finish(exec_, s, noise(step, s), means_[0], step - skipped_, lr, noise(step + 1, 0), weights_);
      complete(weights_);
      perturbed_ = step + 1;
    }
  }
  if (!judge) return;  // else the last step in its parts, and the next one's weights are written when it comes
  measure_collected();
  if (!judge()) return;
  before_update();
  optimizer_->update(exec_, step - skipped_, lr);
}

StepNews Trainer::news() {
  StepNews n;
  std::vector<double> losses(static_cast<size_t>(slots_));
  using HostScalar = Kokkos::View<double, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>;
  using HostVector = Kokkos::View<double*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>;
  Kokkos::deep_copy(exec_, HostVector(losses.data(), losses.size()), loss_);
  using HostCount = Kokkos::View<std::int64_t, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>;
  std::int64_t bad_loss = 0;
  Kokkos::deep_copy(exec_, HostScalar(&n.gradient_norm), squares_.value());
  Kokkos::deep_copy(exec_, HostScalar(&n.curvature_norm), others_.value());
  Kokkos::deep_copy(exec_, HostCount(&bad_loss), bad_loss_);
  n.report = optimizer_->take_report(exec_);  // waits
  if (bad_loss > 0) Kokkos::deep_copy(exec_, bad_loss_, std::int64_t(0));
  if (sharded_) {
    n.gradient_norm = squares_.over_ranks(exec_, comm_);
    n.curvature_norm = others_.over_ranks(exec_, comm_);
  }
  n.gradient_norm = std::sqrt(n.gradient_norm);
  n.curvature_norm = std::sqrt(n.curvature_norm);
  // A number of one rank stands in its own place and is zero on the others. What is wrong may be so on one rank only,
  // and all must decide alike.
  constexpr size_t kinds = 4;
  const auto slots = losses.size(), own = slots + kinds * static_cast<size_t>(comm_.rank());
  losses.resize(slots + kinds * static_cast<size_t>(comm_.size()));
  losses[own] = static_cast<double>(n.report.nonfinite);
  losses[own + 1] = static_cast<double>(n.report.nonpositive);
  losses[own + 2] = static_cast<double>(n.report.first_bad);
  losses[own + 3] = static_cast<double>(bad_loss);
  comm_.sum(losses);
  const auto earliest = [](auto& known, double other) {
    if (other > 0 && (known == 0 || other < static_cast<double>(known))) known = static_cast<std::decay_t<decltype(known)>>(other);
  };
  // Ranks that keep a part each counted different entries, else the same ones.
  const auto together = [&](std::int64_t& all, double other) {
    all = sharded_ ? all + static_cast<std::int64_t>(other) : std::max(all, static_cast<std::int64_t>(other));
  };
  n.report = {};
  for (size_t k = 0; k < slots; ++k) n.loss += losses[k] / static_cast<double>(slots_);
  for (size_t k = slots; k < losses.size(); k += kinds) {
    together(n.report.nonfinite, losses[k]);
    together(n.report.nonpositive, losses[k + 1]);
    earliest(n.report.first_bad, losses[k + 2]);
    earliest(n.bad_loss, losses[k + 3]);
  }
  if (n.report.first_bad > 0) n.report.first_bad += static_cast<std::int64_t>(skipped_);  // it counts updates
  return n;
}

}  // namespace varion
