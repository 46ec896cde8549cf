// Point estimates: AdamW (Loshchilov and Hutter 2019) and SGD with momentum, as PyTorch defines them.
#include <cmath>

#include "core/blocks.hpp"
#include "optim/optimizer.hpp"

namespace varion {

/// The weights at which the gradient is taken are the mean itself.
class PointEstimate : public Optimizer {
 public:
  PointEstimate(const Layout& layout, const std::string& name, std::array<double, Layout::kGroups> decay)
      : Optimizer(layout, name, false), decay_(decay) {}
  void perturb(const Exec& exec, const Noise&, Vec weights) const override {
    if (weights.data() != mean_.data()) Kokkos::deep_copy(exec, weights, mean_);
  }
  void collect(const Exec&, int, const Noise&, ConstVec, ConstVec gradient) override { gradient_ = gradient; }

 protected:
  std::array<double, Layout::kGroups> decay_;
  ConstVec gradient_;  // the caller's: one sample a step, read before the next backward overwrites it
};

class AdamW final : public PointEstimate {
 public:
  AdamW(const Layout& layout, double beta1, double beta2, double eps,
        std::array<double, Layout::kGroups> decay)
      : PointEstimate(layout, "adamw", decay), beta1_(beta1), beta2_(beta2), eps_(eps) {
    first_ = own_vector("varion::optim::exp_avg");
    second_ = own_vector("varion::optim::exp_avg_sq");
  }
  void start(const Exec& exec) override {
    Kokkos::deep_copy(exec, own(first_), Real(0));
    Kokkos::deep_copy(exec, own(second_), Real(0));
  }
  void update(const Exec& exec, std::uint64_t step, double lr) override {
    for (const GroupRange& g : layout_.groups()) update_range(exec, step, lr, g);
  }
  /// Reads gradient and three states, writes three: 28 bytes per parameter.
  void update_range(const Exec& exec, std::uint64_t step, double lr, const GroupRange& range) const {
    const Real b1 = static_cast<Real>(beta1_), k1 = static_cast<Real>(1 - beta1_);
    const Real b2 = static_cast<Real>(beta2_), k2 = static_cast<Real>(1 - beta2_);
    const double t = static_cast<double>(step);
    const Real rate = static_cast<Real>(lr / (1 - std::pow(beta1_, t)));
    const Real root = static_cast<Real>(1 / std::sqrt(1 - std::pow(beta2_, t)));
    const Real shrink = static_cast<Real>(1 - lr * decay_[static_cast<size_t>(range.group)]);
    const Real eps = static_cast<Real>(eps_);
    const DeviceReport report = report_;
    for_streams("varion::adamw::update", exec, range.begin, range.end, reads(gradient_), updates(mean_, first_, second_), writes(),
                KOKKOS_LAMBDA(const Streams<1, 3, 0>& s, int lo, int hi) {
      const Real* const g = s.read[0];
      Real *const w = s.update[0], *const m = s.update[1], *const v = s.update[2];
      int bad = 0;
      VARION_IVDEP
      for (int i = lo; i < hi; ++i) {
        const Real m_new = std::fma(k1, g[i], b1 * m[i]), v_new = std::fma(k2 * g[i], g[i], b2 * v[i]);
        const Real step_i = rate * m_new / std::fma(std::sqrt(v_new), root, eps);
        const Real w_new = std::fma(w[i], shrink, -step_i);
        m[i] = m_new;
        v[i] = v_new;
        w[i] = w_new;
        bad += not_finite(w_new + m_new + v_new);  // an infinite v divides to a finite step
      }
      add_report(report, step, bad, 0);
    });
  }
  std::vector<StateVector> state() const override {
    return {{"mean", own(mean_)}, {"exp_avg", own(first_)}, {"exp_avg_sq", own(second_)}};
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
    momentum_ = own_vector("varion::optim::momentum");
  }
  void start(const Exec& exec) override { Kokkos::deep_copy(exec, own(momentum_), Real(0)); }
  /// d = g + decay w; b = mu b + d; w -= lr b. (From b = 0 the first b is d, as in PyTorch.)
  /// Reads gradient, mean, momentum, writes two: 20 bytes per parameter.
  void update(const Exec& exec, std::uint64_t step, double lr) override {
    for (const GroupRange& g : layout_.groups()) update_range(exec, step, lr, g);
  }
  void update_range(const Exec& exec, std::uint64_t step, double lr, const GroupRange& range) const {
    const Real mu = static_cast<Real>(momentum_factor_), rate = static_cast<Real>(lr);
    const Real decay = static_cast<Real>(decay_[static_cast<size_t>(range.group)]);
    const DeviceReport report = report_;
    for_streams("varion::sgd::update", exec, range.begin, range.end, reads(gradient_), updates(mean_, momentum_), writes(),
                KOKKOS_LAMBDA(const Streams<1, 2, 0>& s, int lo, int hi) {
      const Real* const g = s.read[0];
      Real *const w = s.update[0], *const b = s.update[1];
      int bad = 0;
      VARION_IVDEP
      for (int i = lo; i < hi; ++i) {
        const Real b_new = std::fma(mu, b[i], std::fma(decay, w[i], g[i]));
        const Real w_new = std::fma(-rate, b_new, w[i]);
        b[i] = b_new;
        w[i] = w_new;
        bad += not_finite(w_new);
      }
      add_report(report, step, bad, 0);
    });
  }
  std::vector<StateVector> state() const override {
    return {{"mean", own(mean_)}, {"momentum", own(momentum_)}};
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
bool register_point() {
  return add_options("adamw", {{"optim.beta1", T::real, "0.9", "first moment's memory", {}, 0, 0.999999},
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
}
const bool registered_point = register_point();
}  // namespace

}  // namespace varion
