#include "posterior/metrics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/error.hpp"

namespace varion {

namespace {
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
bool all_finite(const std::vector<double>& numbers) {
  return std::all_of(numbers.begin(), numbers.end(), [](double v) { return std::isfinite(v); });
}
}  // namespace

double LogMean::value() const { return largest_ + std::log(sum_ / count_); }

double auroc(const std::vector<double>& score, const std::vector<char>& positive) {
  if (!all_finite(score)) return kNone;  // they have no order
  std::vector<size_t> order(score.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return score[a] < score[b]; });
  double positives = 0, rank_sum = 0;
  for (size_t i = 0; i < order.size();) {  // equal scores share their mean rank
    size_t j = i;
    while (j < order.size() && score[order[j]] == score[order[i]]) ++j;
    const double rank = 0.5 * static_cast<double>(i + j + 1);
    for (; i < j; ++i)
      if (positive[order[i]]) {
        positives += 1;
        rank_sum += rank;
      }
  }
  const double negatives = static_cast<double>(score.size()) - positives;
  if (positives == 0 || negatives == 0) return 0.5;
  return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives);
}

Metrics text_metrics(const std::vector<double>& log_likelihoods) {
  ensure(!log_likelihoods.empty(), "metrics of no token");
  const double nll = -std::accumulate(log_likelihoods.begin(), log_likelihoods.end(), 0.0) / static_cast<double>(log_likelihoods.size());
  return {{"nll", nll}, {"ppl", std::exp(nll)}};
}

Metrics classification_metrics(const std::vector<double>& p, const std::vector<std::int32_t>& labels,
                               long classes, std::vector<ReliabilityBin>* reliability,
                               const std::vector<double>* log_likelihoods) {
  const size_t n = labels.size(), c = static_cast<size_t>(classes);
  ensure(n > 0 && p.size() == n * c, "metrics: ", p.size(), " probabilities for ", n, " labels");
  constexpr int bins = 20;
  std::vector<ReliabilityBin> bin(bins);
  if (!all_finite(p)) {
    if (reliability != nullptr) *reliability = bin;
    return {{"acc", kNone}, {"top5", kNone}, {"nll", kNone}, {"ece", kNone}, {"brier", kNone}, {"entropy", kNone}, {"auroc", kNone}};
  }
  std::vector<double> confidence(n);
  std::vector<char> right(n);
  double nll = 0, brier = 0, entropy = 0, top1 = 0, top5 = 0;
  for (size_t i = 0; i < n; ++i) {
    const double* row = p.data() + i * c;
    const auto y = static_cast<size_t>(labels[i]);
    const size_t best = static_cast<size_t>(std::max_element(row, row + c) - row);
    size_t above = 0;
    for (size_t k = 0; k < c; ++k) {
      above += row[k] > row[y];
      brier += (row[k] - (k == y)) * (row[k] - (k == y));
      if (row[k] > 0) entropy -= row[k] * std::log(row[k]);
    }
    nll -= log_likelihoods != nullptr ? (*log_likelihoods)[i] : std::log(row[y]);
    confidence[i] = row[best];
    right[i] = best == y;
    top1 += right[i];
    top5 += above < 5;
    auto& b = bin[static_cast<size_t>(std::clamp(static_cast<int>(bins * confidence[i]), 0, bins - 1))];
    b.confidence += confidence[i];
    b.correct += right[i];
    b.count += 1;
  }
  const double count = static_cast<double>(n);
  double ece = 0;
  for (const ReliabilityBin& b : bin) ece += std::abs(b.correct - b.confidence) / count;
  if (reliability != nullptr) *reliability = bin;
  return {{"acc", top1 / count},     {"top5", top5 / count},
          {"nll", nll / count},      {"ece", ece},
          {"brier", brier / count},  {"entropy", entropy / count},
          {"auroc", auroc(confidence, right)}};
}

}  // namespace varion
