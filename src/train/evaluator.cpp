#include "train/evaluator.hpp"

#include <algorithm>
#include <cmath>

#include "core/profile.hpp"

namespace varion {

namespace {
/// log(1 + e^x), which no x makes infinite.
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

/// Examples a pass, no more than any set has. Windows of a text are large: as many as have some thousand tokens.
Index pass_size(const Config& config, const DataSet& data) {
  const Index most = std::max({data.test.count, data.validation.count, data.shifted.count, Index(1)});
  const Index asked = std::min(config.integer("eval.batch"), most);
  return data.vocabulary > 0 ? std::clamp<Index>(4096 / data.train.example.size(), 1, asked) : asked;
}
}  // namespace

Evaluator::Evaluator(Layout& layout, const Config& config, const DataSet& data, const Exec& exec, const Comm& comm)
    : data_(data),
      exec_(exec),
      comm_(comm),
      net_(layout, config, data, pass_size(config, data), false),
      plan_(net_.batch, false, 0),
      masks_(masks_of(Models::of().find(config.text("model.name")), config, data)) {}

void Evaluator::fill_batch(const Examples& e, Index first, Replay& replay) {
  if (e.tokens) {
    auto& windows = windows_.try_emplace(&e, e, net_.batch, WindowOrder::epoch, masks_).first->second;
    return windows.in_order(exec_, first, replay.ints(net_.x), e.is_row() ? replay.ints(net_.target) : IntVec());
  }
  const DeviceExamples& device = on_device_.try_emplace(&e, exec_, e).first->second;
  plan_.in_order(exec_, first, e.count);
  plan_.gather(exec_, device, replay.value(net_.x));
}

std::vector<float> Evaluator::outputs(const Examples& e, ConstVec weights) {
  between_passes();
  Replay replay(net_.graph, exec_);
  replay.weights = weights;
  const auto host_y = Kokkos::create_mirror_view(replay.value(net_.output));
  const Index width = static_cast<Index>(host_y.extent(0)) / net_.batch;  // numbers an example
  std::vector<float> out(static_cast<size_t>(e.count * width));
  for (Index first = 0; first < e.count; first += net_.batch) {
    if (first / net_.batch % comm_.size() != comm_.rank()) continue;
    working();
    const Index count = std::min(net_.batch, e.count - first);
    fill_batch(e, first, replay);
    replay.forward();
    Kokkos::deep_copy(exec_, host_y, replay.value(net_.output));
    exec_.fence();  // the host reads the outputs
    for (Index i = 0; i < count * width; ++i) out[static_cast<size_t>(first * width + i)] = host_y(i);
  }
  comm_.sum(out);  // each number stands on one rank and is zero on the others
  return out;
}

/// What the weights of one draw say of every example, `share` of the whole.
void Evaluator::Predictions::add(const DataSet& data, const Examples& e, const std::vector<float>& y, double share) {
  const auto n = static_cast<size_t>(e.count), width = static_cast<size_t>(outputs_of(data));
  likelihood.resize(n);
  mean.resize(data.classes > 0 ? n * width : n);
  std::vector<double> row(width);
  for (size_t i = 0; i < n; ++i) {
    const float* const out = y.data() + i * width;
    if (data.classes > 0) {
      double largest = -1e300, sum = 0;
      for (size_t k = 0; k < width; ++k) largest = std::max(largest, static_cast<double>(out[k]));
      for (size_t k = 0; k < width; ++k) sum += row[k] = std::exp(static_cast<double>(out[k]) - largest);
      for (size_t k = 0; k < width; ++k) mean[i * width + k] += share * row[k] / sum;
      likelihood[i].add(static_cast<double>(out[e.labels[i]]) - largest - std::log(sum));
    } else {
      const auto mu = static_cast<double>(out[0]);
      const double sigma = data.noise_sigma > 0 ? data.noise_sigma : softplus(static_cast<double>(out[1])) + 1e-6;
      const double z = (static_cast<double>(e.targets[i]) - mu) / sigma;
      mean[i] += share * mu;
      likelihood[i].add(-0.5 * z * z - std::log(sigma) - 0.9189385332046727);
    }
  }
}

Metrics Evaluator::reduce(const Examples& e, const Predictions& all) {
  std::vector<double> logs;
  for (const LogMean& l : all.likelihood) logs.push_back(l.value());
  if (data_.classes > 0) {
    last_probabilities = all.mean;
    return classification_metrics(all.mean, e.labels, data_.classes, &reliability, &logs);
  }
  const auto n = static_cast<double>(e.count);
  double squares = 0, nll = 0;
  for (size_t i = 0; i < logs.size(); ++i) {
    const double error = all.mean[i] - static_cast<double>(e.targets[i]);
    nll -= logs[i];
    squares += error * error;
  }
  // In the original units of the target.
  return {{"rmse", data_.target_scale * std::sqrt(squares / n)}, {"nll", nll / n + std::log(data_.target_scale)}};
}

Metrics Evaluator::at(const Examples& e, ConstVec weights) {
  const Region region("evaluate");
  if (!e.is_row()) {
    Predictions all;
    all.add(data_, e, outputs(e, weights), 1);
    return reduce(e, all);
  }
  const std::vector<float> terms = outputs(e, weights);
  return text_metrics(asked_for(e, {terms.begin(), terms.end()}));
}

/// Of every token's log likelihood those that count. Errors (78): none.
std::vector<double> Evaluator::asked_for(const Examples& e, const std::vector<double>& terms) const {
  if (masks_.share == 0) return terms;
  std::vector<double> out;
  const Index length = e.example.size();
  for (Index i = 0; i < e.count; ++i) {
    const RandomKey key = Masks::evaluation(static_cast<std::uint64_t>(i));
    for (Index t = 0; t < length; ++t)
      if (masks_.hides(key, t)) out.push_back(terms[static_cast<size_t>(i * length + t)]);
  }
  require(!out.empty(), Exit::config, "model.masked = ", masks_.share, " asks for none of the ", terms.size(),
          " tokens of an evaluation: take a larger share, or more text");
  return out;
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
  Predictions all;
  std::vector<LogMean> likelihoods;  // of a text's tokens
  const int draws = optimizer.is_variational() ? samples : 1;
  for (int s = 0; s < draws; ++s) {
    optimizer.sample(exec_, RandomKey::make(seed, Stream::eval_noise, 0, static_cast<std::uint64_t>(s)),
                     weights);
    complete(optimizer, weights);
    const std::vector<float> one = outputs(e, weights);
    if (!e.is_row()) {
      all.add(data_, e, one, 1.0 / draws);
      continue;
    }
    likelihoods.resize(one.size());
    for (size_t i = 0; i < one.size(); ++i) likelihoods[i].add(static_cast<double>(one[i]));
  }
  if (!e.is_row()) return reduce(e, all);
  std::vector<double> logs;
  for (const LogMean& l : likelihoods) logs.push_back(l.value());
  return text_metrics(asked_for(e, logs));
}

std::vector<std::string> Evaluator::metric_names() const {
  const Metrics some = data_.test.is_row()  ? text_metrics({0})
                       : data_.classes > 0 ? classification_metrics({1}, {0}, 1)
                                           : Metrics{{"nll", 0}, {"rmse", 0}};
  std::vector<std::string> names;
  for (const auto& [name, value] : some) names.push_back(name);
  return names;
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
  const bool shifted = data.classes > 0 && data.vocabulary == 0 && data.shifted.count > 0;
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
