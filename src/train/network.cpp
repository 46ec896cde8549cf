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

Evaluator::Evaluator(Layout& layout, const Config& config, const DataSet& data, const Exec& exec)
    : data_(data),
      exec_(exec),
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
    const Index count = std::min(net_.batch, e.count - first);
    plan_.in_order(exec_, first, e.count);
    plan_.gather(exec_, device, replay.value(net_.x));
    replay.forward();
    Kokkos::deep_copy(exec_, host_y, replay.value(net_.output));
    exec_.fence();  // the host reads the outputs
    for (Index i = 0; i < count * width; ++i) out[static_cast<size_t>(first * width + i)] = host_y(i);
  }
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

Trainer::Trainer(Layout& layout, const Config& config, const DataSet& data, const Exec& exec)
    : exec_(exec),
      seed_(static_cast<std::uint64_t>(config.integer("run.seed"))),
      train_(exec, data.train),
      net_(layout, config, data, std::min(config.integer("data.global_batch"), data.train.count), true),
      plan_(net_.batch, data.flip, data.crop_pad),
      optimizer_(Optimizers::of().find(config.text("optim.name")).make(layout, config)),
      replay_(net_.graph, exec),
      records_(backend::Capture::supported() && config.text("train.capture") == "auto" && !net_.graph.draws()),
      clip_(config.real("optim.grad_clip")) {
  steps_per_epoch_ = std::max<Index>(data.train.count / net_.batch, 1);
  loss_ = Kokkos::View<double, Memory>("varion::train::loss");
  squares_ = Kokkos::View<double, Memory>("varion::train::squares");
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

void sum_of_squares(const Exec& exec, ConstVec v, Kokkos::View<double, Memory> out) {
  constexpr int lanes = 4;  // a noise block holds 4 numbers on a GPU, 32 times as many on a host
  const Index n = static_cast<Index>(v.extent(0));
  Kokkos::parallel_reduce(
      "varion::train::norm", Range(exec, 0, (n + kNoiseBlock - 1) / kNoiseBlock),
      KOKKOS_LAMBDA(const Index block, double& sum) {
        const Index base = block * kNoiseBlock;
        const int count = static_cast<int>(n - base < kNoiseBlock ? n - base : Index(kNoiseBlock));
        const Real* const x = v.data() + base;
        double part[lanes] = {};
        int i = 0;
        for (; i + lanes <= count; i += lanes)
          for (int k = 0; k < lanes; ++k) part[k] += double(x[i + k]) * double(x[i + k]);
        for (; i < count; ++i) part[0] += double(x[i]) * double(x[i]);
        sum += (part[0] + part[1]) + (part[2] + part[3]);
      },
      out);
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

/// sum (+)= share times the one number in `value`.
void add_share(const Exec& exec, ConstVec value, double share, bool add, Kokkos::View<double, Memory> sum) {
  Kokkos::parallel_for(
      "varion::train::loss", Range(exec, 0, 1),
      KOKKOS_LAMBDA(const Index) { sum() = (add ? sum() : 0.0) + share * static_cast<double>(value(0)); });
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

void Trainer::step(std::uint64_t step, std::uint64_t first, double lr, bool want_norm) {
  const Region region("step");
  const int samples = optimizer_->samples_per_step();
  fill_batch(first);
  for (int s = 0; s < samples; ++s) {
    // The last step has left the first sample's weights, unless the run begins here.
    if (s > 0 || perturbed_ != step) optimizer_->perturb(exec_, noise(step, s), weights_);
    replay_.dropout = RandomKey::make(seed_, Stream::dropout, step, static_cast<std::uint64_t>(s));
    pass();
    add_share(exec_, replay_.value(net_.loss), 1.0 / samples, s > 0, loss_);
    if (clip_ > 0 || (want_norm && s + 1 == samples)) sum_of_squares(exec_, gradient_, squares_);
    if (clip_ > 0) clip_to_norm(exec_, squares_, clip_, gradient_);
    if (s + 1 < samples) {
      optimizer_->collect(exec_, s, noise(step, s), weights_, gradient_);
    } else {
      optimizer_->finish(exec_, s, noise(step, s), gradient_, step, lr, noise(step + 1, 0), weights_);
      perturbed_ = step + 1;
    }
  }
}

StepNews Trainer::news() {
  StepNews n;
  using Host = Kokkos::View<double, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>;
  Kokkos::deep_copy(exec_, Host(&n.loss), loss_);
  Kokkos::deep_copy(exec_, Host(&n.gradient_norm), squares_);
  n.report = optimizer_->take_report(exec_);  // waits
  n.gradient_norm = std::sqrt(n.gradient_norm);
  return n;
}

}  // namespace varion
