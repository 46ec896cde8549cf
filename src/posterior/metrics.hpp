// Metrics of predictive distributions (paper, section 5), on the host in double.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace varion {

using Metrics = std::map<std::string, double>;

/// One bin of a reliability diagram.
struct ReliabilityBin {
  double confidence = 0, correct = 0;  // sums
  long count = 0;
};

/// The mean of numbers given by their logarithms, one after the other; none of them over- or underflows.
class LogMean {
 public:
  void add(double logarithm) {
    if (logarithm > largest_) {
      sum_ *= std::exp(largest_ - logarithm);
      largest_ = logarithm;
    }
    sum_ += std::exp(logarithm - largest_);
    count_ += 1;
  }
  /// The mean's logarithm; of one number that number.
  double value() const;

 private:
  double largest_ = -1e300, sum_ = 0, count_ = 0;
};

/// probabilities [n, classes], rows sum to 1. acc; top5; nll = mean -log p_y, from `log_likelihoods` [n] where they are given
/// (a p_y too small for a double has one); ece with 20 equal bins of
/// the largest probability; brier = mean sum_c (p_c - [c = y])^2; entropy; auroc of telling right from
/// wrong by the largest probability (0.5 when all are right or all wrong).
Metrics classification_metrics(const std::vector<double>& probabilities,
                               const std::vector<std::int32_t>& labels, long classes,
                               std::vector<ReliabilityBin>* reliability = nullptr,
                               const std::vector<double>* log_likelihoods = nullptr);

/// Of a text, from the log likelihood of every token [n]: nll = its mean, negative, in nats a token; ppl = e^nll, the perplexity.
Metrics text_metrics(const std::vector<double>& log_likelihoods);

/// Area under the ROC curve of `score` for `positive`, ties counted half.
double auroc(const std::vector<double>& score, const std::vector<char>& positive);

}  // namespace varion
