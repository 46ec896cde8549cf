#include "train/network.hpp"

#include <cmath>

#include "backends/backend.hpp"
#include "core/blocks.hpp"
#include "core/error.hpp"
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
  x = graph.input(batched(n, data.train.example));
  const bool classes = data.classes > 0;
  if (train) target = graph.input(classes ? Shape{n} : Shape{n, 1}, classes);
  output = Models::of().find(config.text("model.name")).build(graph, x, config, outputs_of(data));
  graph.output(output);
  if (train) {
    loss = classes ? cross_entropy(graph, output, target)
           : data.noise_sigma > 0
               ? gaussian_nll_fixed(graph, output, target, static_cast<Real>(data.noise_sigma))
               : gaussian_nll(graph, output, target);
    graph.output(loss);
  }
  graph.finish(train);
}

Evaluator::Evaluator(Layout& layout, const Config& config, const DataSet& data, const Exec& exec, const Comm& comm)
    : data_(data),
      exec_(exec),
      comm_(comm),
      net_(layout, config, data, config.integer("eval.batch"), false),
      plan_(net_.batch, false, 0) {}

std::vector<float> Evaluator::outputs(const Examples& e, ConstVec weights) {
  between_passes();
  const DeviceExamples& device = on_device_.try_emplace(&e, exec_, e).first->second;
  const Index width = outputs_of(data_);
  std::vector<float> out(static_cast<size_t>(e.count * width));
  Replay replay(net_.graph, exec_);
  replay.weights = weights;
  const auto host_y = Kokkos::create_mirror_view(replay.value(net_.output));
  for (Index first = 0; first < e.count; first += net_.batch) {
    if (first / net_.batch % comm_.size() != comm_.rank()) continue;
    const Index count = std::min(net_.batch, e.count - first);
    plan_.in_order(exec_, first, e.count);
    plan_.gather(exec_, device, replay.value(net_.x));
    replay.forward();
    Kokkos::deep_copy(exec_, host_y, replay.value(net_.output));
    exec_.fence();  // the host reads the outputs
    for (Index i = 0; i < count * width; ++i) out[static_cast<size_t>(first * width + i)] = host_y(i);
  }
  comm_.sum(out);  // each number stands on one rank and is zero on the others
  return out;
}

Metrics Evaluator::reduce(const Examples& e, const std::vector<std::vector<float>>& passes) {
  const auto n = static_cast<size_t>(e.count), width = static_cast<size_t>(outputs_of(data_));
  const double share = 1 / static_cast<double>(passes.size());
  if (data_.classes > 0) {
    std::vector<double>& p = last_probabilities;
    p.assign(n * width, 0.0);
    std::vector<double> row(width);
    for (const auto& logits : passes)
      for (size_t i = 0; i < n; ++i) {
        double largest = -1e300, sum = 0;
        for (size_t k = 0; k < width; ++k)
          largest = std::max(largest, static_cast<double>(logits[i * width + k]));
        for (size_t k = 0; k < width; ++k)
          sum += row[k] = std::exp(static_cast<double>(logits[i * width + k]) - largest);
        for (size_t k = 0; k < width; ++k) p[i * width + k] += share * row[k] / sum;
      }
    return classification_metrics(p, e.labels, data_.classes, &reliability);
  }
  double squares = 0, nll = 0;
  for (size_t i = 0; i < n; ++i) {
    double mean = 0, density = 0, largest = -1e300;
    std::vector<double> logs;
    for (const auto& y : passes) {
      const double mu = static_cast<double>(y[i * width]);
      const double sigma = data_.noise_sigma > 0
                               ? data_.noise_sigma
                               : std::log1p(std::exp(static_cast<double>(y[i * width + 1]))) + 1e-6;
      const double z = (static_cast<double>(e.targets[i]) - mu) / sigma;
      mean += share * mu;
      logs.push_back(-0.5 * z * z - std::log(sigma) - 0.9189385332046727);
      largest = std::max(largest, logs.back());
    }
    for (const double l : logs) density += share * std::exp(l - largest);
    nll -= largest + std::log(density);
    squares += (mean - static_cast<double>(e.targets[i])) * (mean - static_cast<double>(e.targets[i]));
  }
  // In the original units of the target.
  return {{"rmse", data_.target_scale * std::sqrt(squares / static_cast<double>(n))},
          {"nll", nll / static_cast<double>(n) + std::log(data_.target_scale)}};
}

Metrics Evaluator::at(const Examples& e, ConstVec weights) {
  const Region region("evaluate");
  return reduce(e, {outputs(e, weights)});
}

Metrics Evaluator::averaged(const Examples& e, const Optimizer& optimizer, std::uint64_t seed,
                            int samples) {
  const Region region("evaluate");
  const Vec weights("varion::evaluate::weights", static_cast<size_t>(optimizer.size()));
  std::vector<std::vector<float>> passes;
  for (int s = 0; s < (optimizer.is_variational() ? samples : 1); ++s) {
    optimizer.sample(exec_, RandomKey::make(seed, Stream::eval_noise, 0, static_cast<std::uint64_t>(s)),
                     weights);
    passes.push_back(outputs(e, weights));
  }
  return reduce(e, passes);
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
  require(batch % slots == 0, Exit::config, "data.global_batch = ", batch, " is no multiple of parallel.slots = ", slots,
          ": take ", std::max(batch / slots, Index(1)) * slots, " or ", (batch / slots + 1) * slots);
  require((slots & (slots - 1)) == 0 || comm.size() == 1 || config.text("parallel.mode") == "fast", Exit::config,
          "parallel.slots = ", slots, " is no power of two: sums over ranks are then only possible with parallel.mode=fast");
  return batch / slots;
}
}  // namespace

Trainer::Trainer(Layout& layout, const Config& config, const DataSet& data, const Exec& exec, const Comm& comm)
    : exec_(exec),
      comm_(comm),
      seed_(static_cast<std::uint64_t>(config.integer("run.seed"))),
      slots_(slots_of(config, comm)),
      fast_(config.text("parallel.mode") == "fast"),
      train_(exec, data.train),
      net_(layout, config, data, slot_batch(config, data, comm, slots_), true),
      plan_(net_.batch, data.flip, data.crop_pad),
      optimizer_(Optimizers::of().find(config.text("optim.name")).make(layout, config)),
      replay_(net_.graph, exec),
      records_(backend::Capture::supported() && config.text("train.capture") == "auto" && !net_.graph.draws()),
      clip_(config.real("optim.grad_clip")) {
  own_slots_ = slots_ / comm.size();
  first_slot_ = own_slots_ * comm.rank();
  apart_ = slots_ > 1 && config.text("parallel.noise") == "per_slot" && !optimizer_->collected().empty();
  sums_.resize(apart_ ? optimizer_->collected().size() : 1);
  steps_per_epoch_ = std::max<Index>(data.train.count / batch(), 1);
  loss_ = Kokkos::View<double*, Memory>("varion::train::loss", static_cast<size_t>(slots_));
  // The weights of a point estimate are its mean: no copy.
  weights_ = optimizer_->is_variational() ? long_vector("varion::train::weights", layout.size())
                                          : optimizer_->mean();
  gradient_ = long_vector("varion::train::gradient", layout.size());
  replay_.weights = weights_;
  replay_.gradient = gradient_;
  replay_.train = true;
  layout.initialise(exec_, seed_, optimizer_->mean());
  optimizer_->start(exec_);
}

/// Of one noise block.
KOKKOS_INLINE_FUNCTION double block_squares(const Real* v, Index block, Index n) {
  constexpr int lanes = 4;  // a noise block holds 4 numbers on a GPU, 32 times as many on a host
  const Index base = block * kNoiseBlock;
  const int count = static_cast<int>(n - base < kNoiseBlock ? n - base : Index(kNoiseBlock));
  const Real* const x = v + base;
  double part[lanes] = {};
  int i = 0;
  for (; i + lanes <= count; i += lanes)
    for (int k = 0; k < lanes; ++k) part[k] += double(x[i + k]) * double(x[i + k]);
  for (; i < count; ++i) part[0] += double(x[i]) * double(x[i]);
  return (part[0] + part[1]) + (part[2] + part[3]);
}

void sum_of_squares(const Exec& exec, ConstVec v, Squares out) {
  const Index n = static_cast<Index>(v.extent(0)), blocks = (n + kNoiseBlock - 1) / kNoiseBlock;
  const Real* const x = v.data();
  if (!kHostExec) {  // the cut is the device's
    Kokkos::parallel_reduce("varion::train::norm", Range(exec, 0, blocks),
                            KOKKOS_LAMBDA(const Index block, double& sum) { sum += block_squares(x, block, n); }, out.total);
    return;
  }
  // On a host the length alone decides the cut: gradients are clipped by this number, and a sum that went with the number of
  // threads would bring that into the bits of a run.
  const Kokkos::View<double*, Memory> parts = out.parts;
  const Index count = static_cast<Index>(parts.extent(0)), each = (blocks + count - 1) / count;
  Kokkos::parallel_for(
      "varion::train::norm_parts", Range(exec, 0, count), KOKKOS_LAMBDA(const Index p) {
        double sum = 0;
        for (Index block = p * each; block < (p + 1) * each && block < blocks; ++block) sum += block_squares(x, block, n);
        parts(p) = sum;
      });
  const Kokkos::View<double, Memory> total = out.total;
  Kokkos::parallel_for(
      "varion::train::norm", Range(exec, 0, 1), KOKKOS_LAMBDA(const Index) {
        double sum = 0;
        for (Index p = 0; p < count; ++p) sum += parts(p);
        total() = sum;
      });
}

/// g *= limit / |g| where |g| is larger. 8 bytes per element.
void clip_to_norm(const Exec& exec, Kokkos::View<const double, Memory> squares, double limit, Vec gradient) {
  for_blocks("varion::train::clip", exec, 0, static_cast<Index>(gradient.extent(0)),
             KOKKOS_LAMBDA(const Index base, int lo, int hi) {
               const double norm = std::sqrt(squares());
               if (!(norm > limit)) return;
               const Real factor = static_cast<Real>(limit / norm);
               Real* const g = gradient.data() + base;
               VARION_IVDEP
               for (int i = lo; i < hi; ++i) g[i] *= factor;
             });
}

/// sum[slot] (+)= share times the one number in `value`.
void add_share(const Exec& exec, ConstVec value, double share, bool add, Index slot, Kokkos::View<double*, Memory> sum) {
  Kokkos::parallel_for(
      "varion::train::loss", Range(exec, 0, 1), KOKKOS_LAMBDA(const Index) {
        sum(slot) = (add ? sum(slot) : 0.0) + share * static_cast<double>(value(0));
      });
}

/// to = factor from, which may be the same vector. 8 bytes per element.
void scale(const Exec& exec, Real factor, ConstVec from, Vec to) {
  for_blocks("varion::train::scale", exec, 0, static_cast<Index>(to.extent(0)),
             KOKKOS_LAMBDA(const Index base, int lo, int hi) {
               const Real* const x = from.data() + base;
               Real* const y = to.data() + base;
               VARION_IVDEP
               for (int i = lo; i < hi; ++i) y[i] = factor * x[i];
             });
}

void Trainer::fill_batch(std::uint64_t first) {
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

/// Forward and backward of the batch in place. Nothing in it changes from step to step unless the model draws numbers, so
/// it is recorded at its second time; the first lets libraries and Kokkos allocate.
void Trainer::pass() {
  if (records_ && passes_++ == 1) {
    recorded_.begin(exec_);
    queue_pass();
    recorded_.end();
  }
  if (is_recorded()) recorded_.launch(exec_);
  else queue_pass();
}

/// Gradient of a slot's mean loss at the weights in place, clipped, and its loss.
void Trainer::slot_pass(std::uint64_t step, std::uint64_t first, Index slot, int sample) {
  const int samples = optimizer_->samples_per_step();
  // With one slot a rank the batch of the last sample is still in place.
  if (sample == 0 || own_slots_ > 1) fill_batch(first + static_cast<std::uint64_t>(slot * net_.batch));
  replay_.dropout = RandomKey::make(seed_, Stream::dropout, step, static_cast<std::uint64_t>(sample), static_cast<std::uint64_t>(slot));
  pass();
  add_share(exec_, replay_.value(net_.loss), 1.0 / samples, sample > 0, slot, loss_);
  if (clip_ > 0) {
    sum_of_squares(exec_, gradient_, squares_);
    clip_to_norm(exec_, squares_.total, clip_, gradient_);
  }
}

/// out = the mean over all slots of what this rank's have added to `sums`.
void Trainer::mean_over_slots(std::vector<SlotSum>& sums, const std::vector<Vec>& out) {
  const Region region("reduce");
  for (size_t k = 0; k < out.size(); ++k) {
    const Vec sum = own_slots_ > 1 ? sums[k].take(exec_) : out[k];
    if (fast_) comm_.sum(exec_, sum);
    else comm_.tree_sum(exec_, sum);
    scale(exec_, 1 / static_cast<Real>(slots_), sum, out[k]);
  }
}

/// gradient_ = the mean over all slots at the weights in place.
void Trainer::mean_pass(std::uint64_t step, std::uint64_t first, int sample) {
  for (Index slot = first_slot_; slot < first_slot_ + own_slots_; ++slot) {
    slot_pass(step, first, slot, sample);
    if (own_slots_ > 1) sums_[0].add(exec_, gradient_);
  }
  if (slots_ > 1) mean_over_slots(sums_, {gradient_});
}

/// The step where every slot has weight samples of its own.
void Trainer::slots_apart(std::uint64_t step, std::uint64_t first, double lr, bool want_norm) {
  const int samples = optimizer_->samples_per_step();
  const std::vector<Vec> collected = optimizer_->collected();
  for (Index slot = first_slot_; slot < first_slot_ + own_slots_; ++slot) {
    for (int s = 0; s < samples; ++s) {
      optimizer_->perturb(exec_, noise(step, s, slot), weights_);
      slot_pass(step, first, slot, s);
      optimizer_->collect(exec_, s, noise(step, s, slot), weights_, gradient_);
    }
    for (size_t k = 0; own_slots_ > 1 && k < collected.size(); ++k) sums_[k].add(exec_, collected[k]);
  }
  mean_over_slots(sums_, collected);
  if (want_norm) sum_of_squares(exec_, collected[0], squares_);
  optimizer_->update(exec_, step, lr);
}

void Trainer::step(std::uint64_t step, std::uint64_t first, double lr, bool want_norm) {
  const Region region("step");
  if (apart_) return slots_apart(step, first, lr, want_norm);
  const int samples = optimizer_->samples_per_step();
  for (int s = 0; s < samples; ++s) {
    // The last step has left the first sample's weights, unless the run begins here.
    if (s > 0 || perturbed_ != step) optimizer_->perturb(exec_, noise(step, s), weights_);
    mean_pass(step, first, s);
    const bool last = s + 1 == samples;
    if (last && want_norm && (clip_ <= 0 || slots_ > 1)) sum_of_squares(exec_, gradient_, squares_);
    if (!last) {
      optimizer_->collect(exec_, s, noise(step, s), weights_, gradient_);
    } else {
      optimizer_->finish(exec_, s, noise(step, s), gradient_, step, lr, noise(step + 1, 0), weights_);
      perturbed_ = step + 1;
    }
  }
}

StepNews Trainer::news() {
  StepNews n;
  std::vector<double> losses(static_cast<size_t>(slots_));
  using HostScalar = Kokkos::View<double, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>;
  using HostVector = Kokkos::View<double*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>;
  Kokkos::deep_copy(exec_, HostVector(losses.data(), losses.size()), loss_);
  Kokkos::deep_copy(exec_, HostScalar(&n.gradient_norm), squares_.total);
  n.report = optimizer_->take_report(exec_);  // waits
  n.gradient_norm = std::sqrt(n.gradient_norm);
  comm_.sum(losses);  // each stands on one rank and is zero on the others
  for (const double loss : losses) n.loss += loss / static_cast<double>(slots_);
  return n;
}

}  // namespace varion
