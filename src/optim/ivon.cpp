// IVON and its predecessor VON: a diagonal Gaussian N(mean, 1/(ess (hess + weight_decay))).
// IVON: Shen et al. 2024 (arXiv:2402.17641), Algorithm 1. VON: Khan et al. 2018, without the
// correction that keeps IVON's precision positive.
#include <cmath>

#include "optim/optimizer.hpp"

namespace varion {

struct NewtonOptions {
  bool correct = true;  // IVON's Riemannian correction
  double beta1, beta2, ess, clip_radius;
  std::array<double, Layout::kGroups> hess_init, weight_decay;
  bool gradsq, rescale_lr, debias;
  int mc_samples;
};

/// What the kernels need of one group, as plain numbers.
struct NewtonGroup {
  Real decay, ess;
};
struct NewtonStep {
  Real decay, ess, beta1, keep1, rho, unbias, rate, clip, floor;
  bool gradsq, correct;
};

/// One step of one weight. `curvature` is the mean over samples of noise times gradient, or of the squared gradient.
// h is stored, s = h + delta is what must stay positive. s' = (s + t^2/s)/2 >= s/2 in exact arithmetic and > 0 in
// float; the floor keeps the rounding of h' = s' - delta, an ulp of delta, small against s' (docs/equations.md).
KOKKOS_INLINE_FUNCTION void newton_step(const NewtonStep& c, Real grad, Real curvature, Real& mean, Real& hess,
                                        Real& momentum, double& nonfinite, double& nonpositive) {
  const Real s = hess + c.decay;
  const Real estimate = c.gradsq ? c.ess * curvature : std::sqrt(c.ess * s) * curvature;
  Real t = s + c.rho * (estimate - hess);
  if (c.correct) {
    t = Real(0.5) * (s + t * (t / s));
    if (t < c.floor) nonpositive += 1;
    t = t < c.floor ? c.floor : t;
  } else if (!(t > 0)) {
    nonpositive += 1;  // VON: the precision would not be one; the entry keeps its old value
    t = s;
  }
  const Real h = t - c.decay;
  const Real m = c.beta1 * momentum + c.keep1 * grad;
  Real direction = (m * c.unbias + c.decay * mean) / (h + c.decay);
  direction = direction > c.clip ? c.clip : direction < -c.clip ? -c.clip : direction;
  const Real w = mean - c.rate * direction;
  hess = h;
  momentum = m;
  mean = w;
  nonfinite += not_finite(w + h);
}

class Newton final : public Optimizer {
 public:
  Newton(const Layout& layout, const std::string& name, const NewtonOptions& o)
      : Optimizer(layout, name), o_(o) {
    const auto n = static_cast<size_t>(layout.size());
    hess_ = Vec("varion::optim::hess", n);
    momentum_ = Vec("varion::optim::momentum", n);
  }

  void start(const Exec& exec) override {
    for (const GroupRange& g : layout_.groups())
      Kokkos::deep_copy(exec, slice(hess_, g.begin, g.end - g.begin), static_cast<Real>(o_.hess_init[at(g.group)]));
    Kokkos::deep_copy(exec, momentum_, Real(0));
  }

  int samples_per_step() const override { return o_.mc_samples; }
  bool is_variational() const override { return true; }

  void perturb(const Exec& exec, const Noise& noise, Vec weights) const override {
    for (const GroupRange& g : layout_.groups()) perturb_range(exec, noise, g, weights);
  }

  void collect(const Exec& exec, int sample, const Noise& noise, ConstVec gradient) override {
    if (grad_.extent(0) == 0) {  // never with one sample a step: `finish` needs no running means
      grad_ = Vec("varion::optim::gradient", hess_.extent(0));
      curvature_ = Vec("varion::optim::curvature", hess_.extent(0));
    }
    for (const GroupRange& g : layout_.groups()) collect_range(exec, sample, noise, g, gradient);
  }

  void update(const Exec& exec, std::uint64_t step, double lr) override {
    for (const GroupRange& g : layout_.groups()) update_range(exec, step, lr, g);
  }

  void finish(const Exec& exec, int sample, const Noise& noise, ConstVec gradient, std::uint64_t step, double lr,
              const Noise& next, Vec weights) override {
    if (sample > 0 || next.given.extent(0) > 0)
      return Optimizer::finish(exec, sample, noise, gradient, step, lr, next, weights);
    for (const GroupRange& g : layout_.groups())
      finish_range(exec, noise, gradient, step_constants(step, lr, g.group), next, g, weights);
  }

  Vec sigma(const Exec& exec) const override {
    const Vec out("varion::optim::sigma", hess_.extent(0));
    const ConstVec hess = hess_;
    for (const GroupRange& g : layout_.groups()) {
      const NewtonGroup c = constants(g.group);
      Kokkos::parallel_for(
          "varion::newton::sigma", Range(exec, g.begin, g.end),
          KOKKOS_LAMBDA(const Index i) { out(i) = 1 / std::sqrt(c.ess * (hess(i) + c.decay)); });
    }
    return out;
  }

  std::vector<StateVector> state() const override {
    return {{"mean", mean_}, {"hess", hess_}, {"momentum", momentum_}};
  }
  std::vector<std::pair<std::string, double>> attributes() const override {
    return {{"ess", o_.ess},
            {"weight_decay", o_.weight_decay[0]},
            {"weight_decay_1d", o_.weight_decay[1]},
            {"hess_init", o_.hess_init[0]},
            {"hess_init_1d", o_.hess_init[1]},
            {"beta1", o_.beta1},
            {"beta2", o_.beta2},
            {"clip_radius", o_.clip_radius},
            {"mc_samples", o_.mc_samples},
            {"debias", o_.debias},
            {"rescale_lr", o_.rescale_lr},
            {"hess_approx_gradsq", o_.gradsq}};
  }

  static size_t at(int group) { return static_cast<size_t>(group); }
  NewtonGroup constants(int group) const {
    return {static_cast<Real>(o_.weight_decay[at(group)]), static_cast<Real>(o_.ess)};
  }

  /// w = m + eps / sqrt(ess (h + delta)). Reads mean, hess, writes w: 12 bytes per parameter.
  void perturb_range(const Exec& exec, const Noise& noise, const GroupRange& g, Vec weights) const {
    const ConstVec mean = mean_, hess = hess_, given = noise.given;
    const RandomKey key = noise.key;
    const NewtonGroup c = constants(g.group);
    const Index begin = g.begin, end = g.end;
    Kokkos::parallel_for(
        "varion::newton::perturb", Range(exec, begin / kNoiseBlock, (end - 1) / kNoiseBlock + 1),
        KOKKOS_LAMBDA(const Index b) {
          const Index base = b * kNoiseBlock;
          const Index lo = base < begin ? begin : base;
          const Index hi = base + kNoiseBlock < end ? base + kNoiseBlock : end;
          Real eps[kNoiseBlock];
          if (given.extent(0) == 0) normal_block(key, base, eps);
          else for (Index i = lo; i < hi; ++i) eps[i - base] = given(i);
          for (Index i = lo; i < hi; ++i)
            weights(i) = mean(i) + eps[i - base] / std::sqrt(c.ess * (hess(i) + c.decay));
        });
  }

  /// Running means over samples of the gradient and of the curvature estimate's random part: noise
  /// times gradient (Price), or the squared gradient. Noise is drawn again, not stored.
  /// Reads the gradient, writes both means: 12 bytes per parameter for the first sample.
  void collect_range(const Exec& exec, int sample, const Noise& noise, const GroupRange& g,
                     ConstVec gradient) const {
    const Vec grad = grad_, curvature = curvature_;
    const ConstVec given = noise.given;
    const RandomKey key = noise.key;
    const Index begin = g.begin, end = g.end;
    const bool gradsq = o_.gradsq;
    const Real share = 1 / static_cast<Real>(sample + 1);
    Kokkos::parallel_for(
        "varion::newton::collect", Range(exec, begin / kNoiseBlock, (end - 1) / kNoiseBlock + 1),
        KOKKOS_LAMBDA(const Index b) {
          const Index base = b * kNoiseBlock;
          const Index lo = base < begin ? begin : base;
          const Index hi = base + kNoiseBlock < end ? base + kNoiseBlock : end;
          Real eps[kNoiseBlock] = {};
          if (!gradsq) {
            if (given.extent(0) == 0) normal_block(key, base, eps);
            else for (Index i = lo; i < hi; ++i) eps[i - base] = given(i);
          }
          for (Index i = lo; i < hi; ++i) {
            const Real d = gradient(i);
            const Real v = gradsq ? d * d : d * eps[i - base];
            grad(i) = sample == 0 ? d : grad(i) + (d - grad(i)) * share;
            curvature(i) = sample == 0 ? v : curvature(i) + (v - curvature(i)) * share;
          }
        });
  }

  /// What one step needs besides the vectors.
  NewtonStep step_constants(std::uint64_t step, double lr, int group) const {
    NewtonStep c;
    c.decay = static_cast<Real>(o_.weight_decay[at(group)]);
    c.ess = static_cast<Real>(o_.ess);
    c.beta1 = static_cast<Real>(o_.beta1);
    c.keep1 = static_cast<Real>(1 - o_.beta1);
    c.rho = static_cast<Real>(1 - o_.beta2);
    c.unbias = static_cast<Real>(o_.debias ? 1 / (1 - std::pow(o_.beta1, static_cast<double>(step))) : 1);
    c.rate = static_cast<Real>(lr * (o_.rescale_lr ? o_.hess_init[at(group)] + o_.weight_decay[at(group)] : 1));
    c.clip = static_cast<Real>(std::min(o_.clip_radius, 1e30));
    c.floor = c.decay * Real(0x1p-14);
    c.gradsq = o_.gradsq;
    c.correct = o_.correct;
    return c;
  }

  /// The step after several samples: reads gradient, curvature, mean, hess, momentum; writes the last three:
  /// 32 bytes per parameter.
  void update_range(const Exec& exec, std::uint64_t step, double lr, const GroupRange& g) const {
    const Vec mean = mean_, hess = hess_, momentum = momentum_;
    const ConstVec grad = grad_, curvature = curvature_;
    const NewtonStep c = step_constants(step, lr, g.group);
    double bad = 0, refused = 0;
    Kokkos::parallel_reduce(
        "varion::newton::update", Range(exec, g.begin, g.end),
        KOKKOS_LAMBDA(const Index i, double& nonfinite, double& nonpositive) {
          newton_step(c, grad(i), curvature(i), mean(i), hess(i), momentum(i), nonfinite, nonpositive);
        },
        bad, refused);
    add_report(exec, bad, refused);
  }

  /// The whole step with one sample: takes in its gradient (its noise drawn again), updates, and writes the next
  /// step's weights. Reads gradient, mean, hess, momentum; writes mean, hess, momentum, weights: 32 bytes per
  /// parameter.
  void finish_range(const Exec& exec, const Noise& noise, ConstVec gradient, const NewtonStep& c, const Noise& next,
                    const GroupRange& g, Vec weights) const {
    const Vec mean = mean_, hess = hess_, momentum = momentum_;
    const ConstVec given = noise.given;
    const RandomKey key = noise.key, next_key = next.key;
    const Index begin = g.begin, end = g.end;
    double bad = 0, refused = 0;
    Kokkos::parallel_reduce(
        "varion::newton::finish", Range(exec, begin / kNoiseBlock, (end - 1) / kNoiseBlock + 1),
        KOKKOS_LAMBDA(const Index b, double& nonfinite, double& nonpositive) {
          const Index base = b * kNoiseBlock;
          const Index lo = base < begin ? begin : base;
          const Index hi = base + kNoiseBlock < end ? base + kNoiseBlock : end;
          Real eps[kNoiseBlock] = {};
          if (given.extent(0) != 0) {
            for (Index i = lo; i < hi; ++i) eps[i - base] = given(i);
          } else if (!c.gradsq) {
            normal_block(key, base, eps);
          }
          for (Index i = lo; i < hi; ++i) {
            const Real d = gradient(i);
            newton_step(c, d, c.gradsq ? d * d : d * eps[i - base], mean(i), hess(i), momentum(i), nonfinite,
                        nonpositive);
          }
          normal_block(next_key, base, eps);
          for (Index i = lo; i < hi; ++i)
            weights(i) = mean(i) + eps[i - base] / std::sqrt(c.ess * (hess(i) + c.decay));
        },
        bad, refused);
    add_report(exec, bad, refused);
  }

  void add_report(const Exec& exec, double bad, double refused) const {
    const auto report = report_;
    Kokkos::parallel_for(
        "varion::newton::report", Range(exec, 0, 1), KOKKOS_LAMBDA(const Index) {
          report(0) += bad;
          report(1) += refused;
        });
  }

 private:
  NewtonOptions o_;
  Vec hess_, momentum_;     // [P] state
  Vec grad_, curvature_;    // [P] running means over the step's samples
};

namespace {
using T = OptionSpec::Type;

std::vector<OptionSpec> newton_options(bool ivon) {
  return {{"optim.beta1", T::real, ivon ? "0.9" : "0", "momentum of the gradient", {}, 0, 1},
          {"optim.beta2", T::real, "0.99999", "memory of the Hessian", {}, 0, 1},
          {"optim.weight_decay", T::real, "0.0001", "prior precision / ess (delta)", {}, 0, 1e9},
          {"optim.weight_decay_1d", T::real, "-1", "the same for 1-D tensors (-1: equal)", {}, -1, 1e9},
          {"optim.ess", T::text, "auto", "effective sample size; auto: training examples"},
          {"optim.hess_init", T::real, "0.1", "Hessian at the start", {}, 1e-12, 1e12},
          {"optim.hess_init_1d", T::real, "-1", "the same for 1-D tensors (-1: equal)", {}, -1, 1e12},
          {"optim.mc_samples", T::integer, "1", "weight samples a step", {}, 1, 4096},
          {"optim.clip_radius", T::real, "inf", "largest preconditioned step per entry", {}, 1e-30, 1e300},
          {"optim.hess_approx", T::choice, "price", "Hessian estimate", {"price", "gradsq"}},
          {"optim.rescale_lr", T::flag, "true", "lr times (hess_init + weight_decay)"},
          {"optim.debias", T::flag, "true", "divide the momentum by 1 - beta1^t"}};
}

std::unique_ptr<Optimizer> make_newton(const Layout& layout, const Config& c, bool ivon) {
  NewtonOptions o;
  o.correct = ivon;
  o.beta1 = c.real("optim.beta1");
  o.beta2 = c.real("optim.beta2");
  const auto ess = parse_real(c.text("optim.ess"));
  require(ess && *ess > 0, Exit::config, "optim.ess = '", c.text("optim.ess"),
          "' must be a positive number or auto");
  o.ess = *ess;
  o.weight_decay = per_group(c, "optim.weight_decay");
  o.hess_init = per_group(c, "optim.hess_init");
  require(o.hess_init[1] > 0, Exit::config, "optim.hess_init_1d must be positive");
  o.mc_samples = static_cast<int>(c.integer("optim.mc_samples"));
  o.clip_radius = c.real("optim.clip_radius");
  o.gradsq = c.text("optim.hess_approx") == "gradsq";
  o.rescale_lr = c.flag("optim.rescale_lr");
  o.debias = c.flag("optim.debias");
  return std::make_unique<Newton>(layout, ivon ? "ivon" : "von", o);
}

const bool registered =
    add_options("ivon", newton_options(true)) && add_options("von", newton_options(false)) &&
    Optimizers::of().add("ivon", {"improved variational online Newton", true,
                                  [](const Layout& l, const Config& c) {
                                    return make_newton(l, c, true);
                                  }}) &&
    Optimizers::of().add("von", {"variational online Newton, no positivity correction", true,
                                 [](const Layout& l, const Config& c) {
                                   return make_newton(l, c, false);
                                 }});
}  // namespace

}  // namespace varion
