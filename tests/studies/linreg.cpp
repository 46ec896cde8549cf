// Linear regression with Gaussian noise: IVON against the exact mean-field posterior, AdamW against MAP.
#include <cmath>

#include "support/catch.hpp"
#include "train/run.hpp"

using namespace varion;

namespace {
Config config(const std::string& optimizer, const std::string& options) {
  Config c;
  c.read_text("[model]\nname = mlp\nsizes =\n[data]\nname = linreg\nglobal_batch = 200\n[run]\noverwrite = true\n"
              "resume = never\n[eval]\nsamples = 1\nevery = 0st\n[checkpoint]\nevery = 0st\n[log]\nevery = 0st\n"
              "[optim]\n" + options + "name = " + optimizer + "\n", "test");
  c.set("run.dir", "linreg-" + optimizer, "test");
  c.resolve();
  return c;
}

/// A[d][d], b[d] of the posterior precision and its right-hand side, scaled by 1/N (per example), with the
/// bias as the last coordinate and prior precision delta.
void normal_equations(const DataSet& data, double delta, std::vector<std::vector<double>>& a, std::vector<double>& b) {
  const auto d = static_cast<size_t>(data.train.example.size()) + 1;
  a.assign(d, std::vector<double>(d, 0));
  b.assign(d, 0);
  const double scale = 1 / (data.noise_sigma * data.noise_sigma * static_cast<double>(data.train.count));
  for (size_t i = 0; i < static_cast<size_t>(data.train.count); ++i) {
    std::vector<double> x(d, 1.0);
    for (size_t k = 0; k + 1 < d; ++k) x[k] = static_cast<double>(data.train.x[i * (d - 1) + k]);
    for (size_t k = 0; k < d; ++k) {
      b[k] += scale * x[k] * static_cast<double>(data.train.targets[i]);
      for (size_t l = 0; l < d; ++l) a[k][l] += scale * x[k] * x[l];
    }
  }
  for (size_t k = 0; k < d; ++k) a[k][k] += delta;
}

std::vector<double> solve(std::vector<std::vector<double>> a, std::vector<double> b) {
  const size_t d = b.size();
  for (size_t k = 0; k < d; ++k)
    for (size_t i = k + 1; i < d; ++i) {
      const double f = a[i][k] / a[k][k];
      for (size_t j = k; j < d; ++j) a[i][j] -= f * a[k][j];
      b[i] -= f * b[k];
    }
  for (size_t k = d; k-- > 0;) {
    for (size_t j = k + 1; j < d; ++j) b[k] -= a[k][j] * b[j];
    b[k] /= a[k][k];
  }
  return b;
}
}  // namespace

// The optimum of a mean-field Gaussian for a Gaussian posterior has the exact mean and the diagonal of the
// precision matrix. Tolerances: 0.02 posterior standard deviations for the mean (the rate is annealed, so little
// gradient noise is left: with a cosine from lr over T steps about sqrt(lr_e / samples) posterior standard deviations,
// lr_e = lr^(1/3) T^(-2/3) being the rate when the mean last forgets, 0.009 here) and 5 % for the precision: its
// estimate has a relative variance of about 2 a sample, which averages to sqrt((1 - beta2) / samples), 0.6 % here.
TEST_CASE("IVON finds the exact mean-field posterior of linear regression") {
  const double delta = 0.01;
  const Config c = config("ivon", "weight_decay = 0.01\nlr = 0.02\nrescale_lr = false\nbeta2 = 0.9995\nhess_init = 4\n"
                                  "mc_samples = 16\nschedule = cosine\n[train]\nsteps = 10000\n[optim]\n");
  train_run(c, true);
  const DataSet data = load_data(c);
  std::vector<std::vector<double>> a;
  std::vector<double> b;
  normal_equations(data, delta, a, b);
  const std::vector<double> exact = solve(a, b);
  const io::PosteriorFile f = io::load_posterior("linreg-ivon/final.h5");
  REQUIRE(f.mean.size() == exact.size());
  for (size_t k = 0; k < exact.size(); ++k) {
    const double precision = 200 * a[k][k], sd = 1 / std::sqrt(precision);
    const double found = 200 * (static_cast<double>(f.states[0].second[k]) + delta);
    INFO("weight " << k << ": mean " << f.mean[k] << " exact " << exact[k] << " sd " << sd << ", precision " << found << " exact " << precision);
    CHECK(std::abs(static_cast<double>(f.mean[k]) - exact[k]) < 0.02 * sd);
    CHECK(std::abs(found / precision - 1) < 0.05);
  }
}

TEST_CASE("AdamW without decay finds the maximum of the likelihood") {
  const Config c = config("adamw", "weight_decay = 0\nlr = 0.05\nschedule = cosine\n[train]\nsteps = 4000\n[optim]\n");
  train_run(c, true);
  const DataSet data = load_data(c);
  std::vector<std::vector<double>> a;
  std::vector<double> b;
  normal_equations(data, 0, a, b);
  const std::vector<double> exact = solve(a, b);
  const io::PosteriorFile f = io::load_posterior("linreg-adamw/final.h5");
  for (size_t k = 0; k < exact.size(); ++k)
    CHECK(std::abs(static_cast<double>(f.mean[k]) - exact[k]) < 1e-3);
}
