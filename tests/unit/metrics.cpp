// Metrics against values worked out by hand.
#include "posterior/metrics.hpp"

#include <cmath>
#include <limits>

#include "support/catch.hpp"

using namespace varion;

TEST_CASE("classification metrics") {
  const std::vector<double> p = {0.7, 0.2, 0.1, 0.3, 0.4, 0.3, 0.05, 0.05, 0.9, 0.6, 0.3, 0.1};
  std::vector<ReliabilityBin> bins;
  Metrics m = classification_metrics(p, {0, 0, 2, 1}, 3, &bins);
  CHECK(m["acc"] == Approx(0.5));
  CHECK(m["top5"] == 1);
  CHECK(m["nll"] == Approx(-(std::log(0.7) + std::log(0.3) + std::log(0.9) + std::log(0.3)) / 4));
  CHECK(m["brier"] == Approx((0.09 + 0.04 + 0.01 + 0.49 + 0.16 + 0.09 + 0.0025 + 0.0025 + 0.01 + 0.36 + 0.49 + 0.01) / 4));
  CHECK(m["ece"] == Approx((0.3 + 0.4 + 0.1 + 0.6) / 4));  // every example in a bin of its own
  double entropy = 0;
  for (const double v : p) entropy -= v * std::log(v) / 4;
  CHECK(m["entropy"] == Approx(entropy));
  CHECK(m["auroc"] == 1);  // both right ones are surer than both wrong ones
  CHECK(bins.size() == 20);
}

TEST_CASE("ECE of a calibrated bin is zero, and a confidence of one has a bin") {
  std::vector<double> p;
  std::vector<std::int32_t> labels;
  for (int i = 0; i < 10; ++i) {
    p.insert(p.end(), {0.8, 0.2});
    labels.push_back(i < 8 ? 0 : 1);
  }
  CHECK(classification_metrics(p, labels, 2, nullptr)["ece"] == Approx(0).margin(1e-12));
  CHECK(classification_metrics({1, 0}, {0}, 2, nullptr)["ece"] == 0);
  CHECK(classification_metrics({1, 0}, {0}, 2, nullptr)["entropy"] == 0);
}

TEST_CASE("AUROC: order, ties, one class") {
  CHECK(auroc({1, 2, 3, 4}, {0, 0, 1, 1}) == 1);
  CHECK(auroc({1, 2, 3, 4}, {1, 1, 0, 0}) == 0);
  CHECK(auroc({1, 2, 3, 4}, {0, 1, 0, 1}) == Approx(0.75));
  CHECK(auroc({5, 5, 5, 5}, {0, 1, 0, 1}) == 0.5);
  CHECK(auroc({1, 2, 2, 3}, {0, 0, 1, 1}) == Approx(0.875));
  CHECK(auroc({1, 2}, {1, 1}) == 0.5);
}

TEST_CASE("numbers that are none make metrics that are none") {
  const double none = std::nan(""), infinite = std::numeric_limits<double>::infinity();
  CHECK(std::isnan(auroc({1, none, 3, none}, {0, 1, 1, 0})));
  for (const double wrong : {none, infinite})
    for (const auto& [name, value] : classification_metrics({0.5, 0.5, wrong, 0.5}, {0, 1}, 2, nullptr)) {
      INFO(name);
      CHECK(std::isnan(value));
    }
}

TEST_CASE("the mean of numbers that no double holds, by their logarithms") {
  LogMean one, two, wide;
  one.add(-2000);
  CHECK(one.value() == -2000);
  for (int i = 0; i < 3; ++i) two.add(-800);
  CHECK(two.value() == Approx(-800));
  for (const double l : {-900.0, 800.0, -1000.0, 799.0}) wide.add(l);
  CHECK(wide.value() == Approx(800 + std::log((1 + std::exp(-1.0)) / 4)));
  const std::vector<double> logs{-1000};
  CHECK(classification_metrics({0, 1}, {0}, 2, nullptr, &logs)["nll"] == 1000);
}
