#include "train/evaluator.hpp"

#include <algorithm>
#include <cmath>

#include "core/profile.hpp"

namespace varion {

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

/// Every rank's stretch of the weights to every rank.
void Evaluator::complete(const Optimizer& optimizer, const Vec& weights) {
  if (optimizer.own_size() < optimizer.size()) comm_.all_gather(exec_, weights);
}

Metrics Evaluator::at_mean(const Examples& e, const Optimizer& optimizer) {
  if (optimizer.own_size() == optimizer.size()) return at(e, optimizer.mean());
  const Vec weights("varion::evaluate::weights", static_cast<size_t>(optimizer.size()));
  Kokkos::deep_copy(exec_, slice(weights, optimizer.own_begin(), optimizer.own_size()),
                    slice(optimizer.mean(), optimizer.own_begin(), optimizer.own_size()));
  complete(optimizer, weights);
  return at(e, weights);
}

Metrics Evaluator::averaged(const Examples& e, const Optimizer& optimizer, std::uint64_t seed,
                            int samples) {
  const Region region("evaluate");
  const Vec weights("varion::evaluate::weights", static_cast<size_t>(optimizer.size()));
  std::vector<std::vector<float>> passes;
  for (int s = 0; s < (optimizer.is_variational() ? samples : 1); ++s) {
    optimizer.sample(exec_, RandomKey::make(seed, Stream::eval_noise, 0, static_cast<std::uint64_t>(s)),
                     weights);
    complete(optimizer, weights);
    passes.push_back(outputs(e, weights));
  }
  return reduce(e, passes);
}

Metrics final_metrics(Evaluator& evaluator, const Optimizer& optimizer, const DataSet& data,
                      const Config& config) {
  Metrics out;
  const auto seed = static_cast<std::uint64_t>(config.integer("run.seed"));
  const int samples = static_cast<int>(config.integer("eval.samples"));
  for (const auto& [k, v] : evaluator.at_mean(data.test, optimizer)) out["mean/" + k] = v;
  const auto confidence = [&] {  // largest probability of every example
    std::vector<double> c;
    const auto& p = evaluator.last_probabilities;
    const auto w = static_cast<size_t>(data.classes);
    for (size_t i = 0; i < p.size(); i += w)
      c.push_back(*std::max_element(p.begin() + static_cast<long>(i), p.begin() + static_cast<long>(i + w)));
    return c;
  };
  const bool shifted = data.classes > 0 && data.shifted.count > 0;
  const auto ood = [&](const std::string& key, const auto& evaluate) {
    // In-domain is the positive class, the score is the largest probability (paper, section 5).
    std::vector<double> score = confidence();
    std::vector<char> inside(score.size(), 1);
    evaluate();
    for (const double c : confidence()) score.push_back(c);
    inside.resize(score.size(), 0);
    out[key] = auroc(score, inside);
  };
  if (shifted) ood("mean/ood_auroc", [&] { evaluator.at_mean(data.shifted, optimizer); });
  if (data.validation.count > 0)
    for (const auto& [k, v] : evaluator.averaged(data.validation, optimizer, seed + 2, samples)) out["val/" + k] = v;
  for (const auto& [k, v] : evaluator.averaged(data.test, optimizer, seed, samples)) out["test/" + k] = v;
  const auto diagram = evaluator.reliability;
  if (shifted)
    ood("test/ood_auroc", [&] { evaluator.averaged(data.shifted, optimizer, seed + 1, samples); });
  evaluator.reliability = diagram;
  return out;
}

}  // namespace varion
