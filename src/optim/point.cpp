// Point estimates: AdamW (Loshchilov and Hutter 2019) and SGD with momentum, as PyTorch defines them.
#include <cmath>

#include "optim/optimizer.hpp"

namespace varion {

/// The weights at which the gradient is taken are the mean itself.
class PointEstimate : public Optimizer {
 public:
  PointEstimate(const Layout& layout, const std::string& name, std::array<double, Layout::kGroups> decay)
      : Optimizer(layout, name), decay_(decay) {}
  void perturb(const Exec& exec, const Noise&, Vec weights) const override {
    Kokkos::deep_copy(exec, weights, mean_);
  }
  void collect(const Exec&, int, const Noise&, ConstVec gradient) override { gradient_ = gradient; }

 protected:
  std::array<double, Layout::kGroups> decay_;
  ConstVec gradient_;  // the caller's: one sample a step, read before the next backward overwrites it
};

class AdamW final : public PointEstimate {
 public:
  AdamW(const Layout& layout, double beta1, double beta2, double eps,
        std::array<double, Layout::kGroups> decay)
      : PointEstimate(layout, "adamw", decay), beta1_(beta1), beta2_(beta2), eps_(eps) {
    first_ = Vec("varion::optim::exp_avg", static_cast<size_t>(layout.size()));
    second_ = Vec("varion::optim::exp_avg_sq", static_cast<size_t>(layout.size()));
  }
  void start(const Exec& exec) override {
    Kokkos::deep_copy(exec, first_, Real(0));
    Kokkos::deep_copy(exec, second_, Real(0));
  }
  void update(const Exec& exec, std::uint64_t step, double lr) override {
    for (const GroupRange& g : layout_.groups()) update_range(exec, step, lr, g);
  }
  /// Reads gradient and three states, writes three: 28 bytes per parameter.
  void update_range(const Exec& exec, std::uint64_t step, double lr, const GroupRange& range) const {
    const Vec mean = mean_, first = first_, second = second_;
    const ConstVec gradient = gradient_;
    const Real b1 = static_cast<Real>(beta1_), k1 = static_cast<Real>(1 - beta1_);
    const Real b2 = static_cast<Real>(beta2_), k2 = static_cast<Real>(1 - beta2_);
    const double t = static_cast<double>(step);
    const Real rate = static_cast<Real>(lr / (1 - std::pow(beta1_, t)));
    const Real root = static_cast<Real>(1 / std::sqrt(1 - std::pow(beta2_, t)));
    const Real shrink = static_cast<Real>(1 - lr * decay_[static_cast<size_t>(range.group)]);
    const Real eps = static_cast<Real>(eps_);
    const auto report = report_;
    double bad = 0;
    Kokkos::parallel_reduce(
        "varion::adamw::update", Range(exec, range.begin, range.end),
        KOKKOS_LAMBDA(const Index i, double& nonfinite) {
          const Real g = gradient(i);
          const Real m = b1 * first(i) + k1 * g, v = b2 * second(i) + k2 * g * g;
          const Real w = mean(i) * shrink - rate * m / (std::sqrt(v) * root + eps);
          first(i) = m;
          second(i) = v;
          mean(i) = w;
          nonfinite += not_finite(w);
        },
        bad);
    Kokkos::parallel_for(
        "varion::adamw::report", Range(exec, 0, 1),
        KOKKOS_LAMBDA(const Index) { report(0) += bad; });
  }
  std::vector<StateVector> state() const override {
    return {{"mean", mean_}, {"exp_avg", first_}, {"exp_avg_sq", second_}};
  }
  std::vector<std::pair<std::string, double>> attributes() const override {
    return {{"beta1", beta1_}, {"beta2", beta2_}, {"eps", eps_}, {"weight_decay", decay_[0]}, {"weight_decay_1d", decay_[1]}};
  }

 private:
  double beta1_, beta2_, eps_;
  Vec first_, second_;
};

class Sgd final : public PointEstimate {
 public:
  Sgd(const Layout& layout, double momentum, std::array<double, Layout::kGroups> decay)
      : PointEstimate(layout, "sgd", decay), momentum_factor_(momentum) {
    momentum_ = Vec("varion::optim::momentum", static_cast<size_t>(layout.size()));
  }
  void start(const Exec& exec) override { Kokkos::deep_copy(exec, momentum_, Real(0)); }
  /// d = g + decay w; b = mu b + d; w -= lr b. (From b = 0 the first b is d, as in PyTorch.)
  /// Reads gradient, mean, momentum, writes two: 20 bytes per parameter.
  void update(const Exec& exec, std::uint64_t, double lr) override {
    for (const GroupRange& g : layout_.groups()) update_range(exec, lr, g);
  }
  void update_range(const Exec& exec, double lr, const GroupRange& range) const {
    const Vec mean = mean_, momentum = momentum_;
    const ConstVec gradient = gradient_;
    const Real mu = static_cast<Real>(momentum_factor_), rate = static_cast<Real>(lr);
    const Real decay = static_cast<Real>(decay_[static_cast<size_t>(range.group)]);
    const auto report = report_;
    double bad = 0;
    Kokkos::parallel_reduce(
        "varion::sgd::update", Range(exec, range.begin, range.end),
        KOKKOS_LAMBDA(const Index i, double& nonfinite) {
          const Real b = mu * momentum(i) + (gradient(i) + decay * mean(i));
          const Real w = mean(i) - rate * b;
          momentum(i) = b;
          mean(i) = w;
          nonfinite += not_finite(w);
        },
        bad);
    Kokkos::parallel_for(
        "varion::sgd::report", Range(exec, 0, 1),
        KOKKOS_LAMBDA(const Index) { report(0) += bad; });
  }
  std::vector<StateVector> state() const override {
    return {{"mean", mean_}, {"momentum", momentum_}};
  }
  std::vector<std::pair<std::string, double>> attributes() const override {
    return {{"momentum_factor", momentum_factor_}, {"weight_decay", decay_[0]}, {"weight_decay_1d", decay_[1]}};
  }

 private:
  double momentum_factor_;
  Vec momentum_;
};

namespace {
using T = OptionSpec::Type;
const bool registered =
    add_options("adamw", {{"optim.beta1", T::real, "0.9", "first moment's memory", {}, 0, 0.999999},
                          {"optim.beta2", T::real, "0.999", "second moment's memory", {}, 0, 0.999999999},
                          {"optim.eps", T::real, "1e-8", "added to the root", {}, 0, 1},
                          {"optim.weight_decay", T::real, "0.01", "decoupled decay", {}, 0, 1e9},
                          {"optim.weight_decay_1d", T::real, "-1", "the same for 1-D tensors (-1: equal)", {}, -1, 1e9}}) &&
    add_options("sgd", {{"optim.momentum", T::real, "0.9", "momentum", {}, 0, 1},
                        {"optim.weight_decay", T::real, "0.0001", "L2 term", {}, 0, 1e9},
                        {"optim.weight_decay_1d", T::real, "-1", "the same for 1-D tensors (-1: equal)", {}, -1, 1e9}}) &&
    Optimizers::of().add("adamw", {"Adam with decoupled weight decay", false,
                                   [](const Layout& l, const Config& c) {
                                     return std::unique_ptr<Optimizer>(std::make_unique<AdamW>(
                                         l, c.real("optim.beta1"), c.real("optim.beta2"),
                                         c.real("optim.eps"), per_group(c, "optim.weight_decay")));
                                   }}) &&
    Optimizers::of().add("sgd", {"SGD with momentum", false, [](const Layout& l, const Config& c) {
                                   return std::unique_ptr<Optimizer>(std::make_unique<Sgd>(
                                       l, c.real("optim.momentum"), per_group(c, "optim.weight_decay")));
                                 }});
}  // namespace

}  // namespace varion
