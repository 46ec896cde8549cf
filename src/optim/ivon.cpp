// IVON and its predecessor VON: a diagonal Gaussian N(mean, 1/(ess (hess + weight_decay))).
// IVON: Shen et al. 2024 (arXiv:2402.17641), Algorithm 1. VON: Khan et al. 2018, without the
// correction that keeps IVON's precision positive.
#include <cmath>
#include <limits>

#include "core/blocks.hpp"
#include "optim/optimizer.hpp"

namespace varion {

struct NewtonOptions {
  bool correct = true;  // IVON's Riemannian correction
  double beta1, beta2, ess, clip_radius;
  std::array<double, Layout::kGroups> hess_init, weight_decay;
  bool gradsq, rescale_lr, debias;
  int mc_samples;
};

/// What the kernels need of one group and step, as plain numbers.
struct NewtonStep {
  Real decay, ess, beta1, keep1, rho, unbias, rate, clip;
  Real floor;  // the smallest precision taken: IVON's floor, VON's least positive number
  bool gradsq, correct;
};

/// sigma^2 = 1 / (ess (h + delta)).
KOKKOS_INLINE_FUNCTION Real variance(Real hess, Real decay, Real ess) { return 1 / (ess * (hess + decay)); }

/// w = m + sigma eps.
KOKKOS_INLINE_FUNCTION Real perturbed(Real mean, Real variance, Real eps) {
  return std::fma(eps, std::sqrt(variance), mean);
}

/// A weight's state, and the variance that goes with it.
struct NewtonState {
  Real mean, hess, momentum, variance;
};

/// One step of one weight. `curvature` is the mean over samples of (w - m) g, or of g^2.
// h is stored, s = h + delta is what must stay positive. s' = (s + t^2/s)/2 >= s/2 in exact arithmetic and > 0 in
// float; the floor keeps the rounding of h' = s' - delta, an ulp of delta, small against s' (docs/equations.md).
// The method is a template argument: a flag tested in the loop would keep it from being vectorised.
template <bool correct, bool gradsq>
KOKKOS_INLINE_FUNCTION NewtonState newton_step(const NewtonStep& c, Real grad, Real curvature, Real mean, Real hess,
                                               Real momentum, int& nonfinite, int& nonpositive) {
  const Real s = hess + c.decay;
  const Real estimate = c.ess * (gradsq ? curvature : s * curvature);
  Real t = std::fma(c.rho, estimate - hess, s);
  t = correct ? Real(0.5) * std::fma(t, t / s, s) : t;
  // IVON holds the entry at the floor; what is no number stays none, to be counted. VON's precision would not be one: the
  // entry keeps its old value.
  const bool low = correct ? t < c.floor : !(t >= c.floor);
  const Real kept = low ? (correct ? c.floor : s) : t;
  nonpositive += low ? 1 : 0;
  const Real h = kept - c.decay;
  const Real m = std::fma(c.beta1, momentum, c.keep1 * grad);
  const Real v = variance(h, c.decay, c.ess);
  Real direction = std::fma(c.decay, mean, m * c.unbias) * (c.ess * v);
  direction = direction > c.clip ? c.clip : direction;  // written so that a NaN passes, to be counted
  direction = direction < -c.clip ? -c.clip : direction;
  const Real w = std::fma(-c.rate, direction, mean);
  nonfinite += not_finite(w + h + m);
  return {w, h, m, v};
}

/// One block of the step after several samples, and the next weights where `perturbs`.
template <bool perturbs, bool correct, bool gradsq>
KOKKOS_INLINE_FUNCTION void update_block(const NewtonStep c, const Real* g, const Real* v, const Real* eps, Real* m, Real* h,
                                         Real* b, Real* w, int lo, int hi, int& bad, int& refused) {
  int nonfinite = 0, nonpositive = 0;
  VARION_IVDEP
  for (int i = lo; i < hi; ++i) {
    const auto s = newton_step<correct, gradsq>(c, g[i], v[i], m[i], h[i], b[i], nonfinite, nonpositive);
    m[i] = s.mean;
    h[i] = s.hess;
    b[i] = s.momentum;
    if (perturbs) w[i] = perturbed(s.mean, s.variance, eps[i]);
  }
  bad = nonfinite;
  refused = nonpositive;
}

/// One block of the step with one sample. `moved`: w - m, where it is not taken from the weights.
template <bool correct, bool gradsq>
KOKKOS_INLINE_FUNCTION void finish_block(const NewtonStep c, const Real* g, const Real* moved, const Real* eps, Real* m,
                                         Real* h, Real* b, Real* w, int lo, int hi, int& bad, int& refused) {
  int nonfinite = 0, nonpositive = 0;
  VARION_IVDEP
  for (int i = lo; i < hi; ++i) {
    const Real d = gradsq ? g[i] : kHostExec ? w[i] - m[i] : moved[i];
    const auto s = newton_step<correct, gradsq>(c, g[i], d * g[i], m[i], h[i], b[i], nonfinite, nonpositive);
    m[i] = s.mean;
    h[i] = s.hess;
    b[i] = s.momentum;
    w[i] = perturbed(s.mean, s.variance, eps[i]);
  }
  bad = nonfinite;
  refused = nonpositive;
}

KOKKOS_INLINE_FUNCTION void finish_method(const NewtonStep& c, const Real* g, const Real* moved, const Real* eps, Real* m, Real* h,
                                          Real* b, Real* w, int lo, int hi, int& bad, int& refused) {
  if (c.correct && c.gradsq) finish_block<true, true>(c, g, moved, eps, m, h, b, w, lo, hi, bad, refused);
  else if (c.correct) finish_block<true, false>(c, g, moved, eps, m, h, b, w, lo, hi, bad, refused);
  else if (c.gradsq) finish_block<false, true>(c, g, moved, eps, m, h, b, w, lo, hi, bad, refused);
  else finish_block<false, false>(c, g, moved, eps, m, h, b, w, lo, hi, bad, refused);
}

/// The same on a GPU, through registers: whole blocks are read and written 16 bytes at a time. The sample's noise is drawn again.
KOKKOS_INLINE_FUNCTION void finish_words(const NewtonStep& c, const RandomKey& key, Index base, const Real* g, const Real* eps, Real* m,
                                         Real* h, Real* b, Real* w, int lo, int hi, int& bad, int& refused) {
  if constexpr (!kHostExec) {
    FourReals grad, mean, hess, momentum, weights;
    load_words(g, lo, hi, 0, grad);
    load_words(m, lo, hi, 0, mean);
    load_words(h, lo, hi, 1, hess);  // outside the range stands a weight at which nothing is wrong
    load_words(b, lo, hi, 0, momentum);
    Real moved[kNoiseBlock];
    if (!c.gradsq) {
      normal_block(key, base, moved);
      for (int i = 0; i < kNoiseBlock; ++i) moved[i] *= std::sqrt(variance(hess.word[i], c.decay, c.ess));
    }
    finish_method(c, grad.word, moved, eps, mean.word, hess.word, momentum.word, weights.word, 0, 4, bad, refused);
    store_words(mean, lo, hi, m);
    store_words(hess, lo, hi, h);
    store_words(momentum, lo, hi, b);
    store_words(weights, lo, hi, w);
  }
}

/// The block's standard normals, drawn or given.
KOKKOS_INLINE_FUNCTION void noise_block(const RandomKey& key, const ConstVec& given, Index base, int lo, int hi,
                                        Real* eps) {
  if (given.extent(0) == 0) return normal_block(key, base, eps);
  for (int i = lo; i < hi; ++i) eps[i] = given(base + i);
}

/// w - m of the block's sample. A host reads both: drawing a normal costs it more than a word. A GPU computes sigma eps
/// from the counter again, as happens wherever the noise was given.
KOKKOS_INLINE_FUNCTION void displacement_block(const NewtonStep& c, const RandomKey& key, const ConstVec& given,
                                               Index base, int lo, int hi, const ConstVec& mean, const ConstVec& hess,
                                               const ConstVec& weights, Real* moved) {
  if (c.gradsq) {
    for (int i = lo; i < hi; ++i) moved[i] = 0;  // not asked for
  } else if (kHostExec && given.extent(0) == 0) {
    for (int i = lo; i < hi; ++i) moved[i] = weights(base + i) - mean(base + i);
  } else {
    noise_block(key, given, base, lo, hi, moved);
    for (int i = lo; i < hi; ++i) moved[i] *= std::sqrt(variance(hess(base + i), c.decay, c.ess));
  }
}

class Newton final : public Optimizer {
 public:
  Newton(const Layout& layout, const std::string& name, const NewtonOptions& o)
      : Optimizer(layout, name, true), o_(o) {
    hess_ = own_vector("varion::optim::hess");
    momentum_ = own_vector("varion::optim::momentum");
  }

  void start(const Exec& exec) override {
    for (const GroupRange& g : layout_.groups())
      Kokkos::deep_copy(exec, slice(hess_, g.begin, g.end - g.begin), static_cast<Real>(o_.hess_init[at(g.group)]));
    Kokkos::deep_copy(exec, own(momentum_), Real(0));
  }

  int samples_per_step() const override { return o_.mc_samples; }
  bool is_variational() const override { return true; }

  void perturb(const Exec& exec, const Noise& noise, Vec weights) const override {
    for (const GroupRange& g : layout_.groups()) perturb_range(exec, noise, g, weights);
  }

  void collect(const Exec& exec, int sample, const Noise& noise, ConstVec weights, ConstVec gradient) override {
    if (grad_.extent(0) == 0)  // never with one sample and one slot a step: `finish` needs no running means
      collect_in({own_vector("varion::optim::gradient"), own_vector("varion::optim::curvature")});
    for (const GroupRange& g : layout_.groups()) collect_range(exec, sample, noise, g, weights, gradient);
  }

  size_t collects() const override { return 2; }
  std::vector<Vec> collected() const override { return grad_.extent(0) == 0 ? std::vector<Vec>() : std::vector<Vec>{grad_, curvature_}; }
  void collect_in(const std::vector<Vec>& vectors) override {
    grad_ = vectors[0];
    curvature_ = vectors[1];
  }

  void update(const Exec& exec, std::uint64_t step, double lr) override {
    for (const GroupRange& g : layout_.groups()) update_range<false>(exec, step, lr, {}, g, {});
  }

  void update_and_perturb(const Exec& exec, std::uint64_t step, double lr, const Noise& next, Vec weights) override {
    for (const GroupRange& g : layout_.groups()) update_range<true>(exec, step, lr, next, g, weights);
  }

  void finish(const Exec& exec, int sample, const Noise& noise, ConstVec gradient, std::uint64_t step, double lr,
              const Noise& next, Vec weights) override {
    if (sample > 0 || noise.given.extent(0) > 0 || next.given.extent(0) > 0)
      return Optimizer::finish(exec, sample, noise, gradient, step, lr, next, weights);
    for (const GroupRange& g : layout_.groups())
      finish_range(exec, noise, gradient, step, step_constants(step, lr, g.group), next, g, weights);
  }

  Vec sigma(const Exec& exec) const override {
    const Vec out("varion::optim::sigma", static_cast<size_t>(layout_.own_size()));
    const ConstVec hess = hess_;
    const Index first = layout_.own_begin();
    for (const GroupRange& g : layout_.groups()) {
      const Real decay = static_cast<Real>(o_.weight_decay[at(g.group)]), ess = static_cast<Real>(o_.ess);
      Kokkos::parallel_for(
          "varion::newton::sigma", Range(exec, g.begin, g.end),
          KOKKOS_LAMBDA(const Index i) { out(i - first) = std::sqrt(variance(hess(i), decay, ess)); });
    }
    return out;
  }

  std::vector<StateVector> state() const override {
    return {{"mean", own(mean_)}, {"hess", own(hess_)}, {"momentum", own(momentum_)}};
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
  /// Reads mean, hess, writes w: 12 bytes per parameter.
  void perturb_range(const Exec& exec, const Noise& noise, const GroupRange& g, Vec weights) const {
    const ConstVec mean = mean_, hess = hess_, given = noise.given;
    const RandomKey key = noise.key;
    const Real decay = static_cast<Real>(o_.weight_decay[at(g.group)]), ess = static_cast<Real>(o_.ess);
    for_blocks("varion::newton::perturb", exec, g.begin, g.end, KOKKOS_LAMBDA(const Index base, int lo, int hi) {
      Real eps[kNoiseBlock];
      noise_block(key, given, base, lo, hi, eps);
      const Real *const m = mean.data() + base, *const h = hess.data() + base;
      Real* const w = weights.data() + base;
      VARION_IVDEP
      for (int i = lo; i < hi; ++i) w[i] = perturbed(m[i], variance(h[i], decay, ess), eps[i]);
    });
  }

  /// Running means over samples of the gradient and of the curvature estimate's random part: (w - m) g (Price), or
  /// the squared gradient. Reads gradient, weights, mean, writes both means: 20 bytes per parameter for the first.
  void collect_range(const Exec& exec, int sample, const Noise& noise, const GroupRange& range, ConstVec weights,
                     ConstVec gradient) const {
    const Vec grad = grad_, curvature = curvature_;
    const ConstVec mean = mean_, hess = hess_, given = noise.given;
    const RandomKey key = noise.key;
    const NewtonStep c = step_constants(1, 0, range.group);
    const Real share = 1 / static_cast<Real>(sample + 1);
    for_blocks("varion::newton::collect", exec, range.begin, range.end, KOKKOS_LAMBDA(const Index base, int lo, int hi) {
      Real moved[kNoiseBlock];
      displacement_block(c, key, given, base, lo, hi, mean, hess, weights, moved);
      const Real* const g = gradient.data() + base;
      Real *const g_mean = grad.data() + base, *const v_mean = curvature.data() + base;
      if (g == g_mean) {  // the one sample's gradient is its mean
        VARION_IVDEP
        for (int i = lo; i < hi; ++i) v_mean[i] = c.gradsq ? g[i] * g[i] : moved[i] * g[i];
        return;
      }
      VARION_IVDEP
      for (int i = lo; i < hi; ++i) {
        const Real v = c.gradsq ? g[i] * g[i] : moved[i] * g[i];
        g_mean[i] = sample == 0 ? g[i] : std::fma(g[i] - g_mean[i], share, g_mean[i]);
        v_mean[i] = sample == 0 ? v : std::fma(v - v_mean[i], share, v_mean[i]);
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
    c.floor = o_.correct ? std::max(c.decay * Real(0x1p-14), std::numeric_limits<Real>::min())
                         : std::numeric_limits<Real>::denorm_min();
    c.gradsq = o_.gradsq;
    c.correct = o_.correct;
    return c;
  }

  /// The step after several samples: reads gradient, curvature, mean, hess, momentum; writes the last three, and the next
  /// weights where `perturbs`: 32 or 36 bytes per parameter.
  template <bool perturbs>
  void update_range(const Exec& exec, std::uint64_t step, double lr, const Noise& next, const GroupRange& range, Vec weights) const {
    const Vec mean = mean_, hess = hess_, momentum = momentum_;
    const ConstVec grad = grad_, curvature = curvature_, given = next.given;
    const RandomKey key = next.key;
    const NewtonStep c = step_constants(step, lr, range.group);
    const DeviceReport report = report_;
    for_blocks("varion::newton::update", exec, range.begin, range.end, KOKKOS_LAMBDA(const Index base, int lo, int hi) {
      Real eps[kNoiseBlock];
      if (perturbs) noise_block(key, given, base, lo, hi, eps);
      const Real *const g = grad.data() + base, *const v = curvature.data() + base;
      Real *const m = mean.data() + base, *const h = hess.data() + base, *const b = momentum.data() + base;
      Real* const w = weights.data() + base;
      int bad = 0, refused = 0;
      if (c.correct && c.gradsq) update_block<perturbs, true, true>(c, g, v, eps, m, h, b, w, lo, hi, bad, refused);
      else if (c.correct) update_block<perturbs, true, false>(c, g, v, eps, m, h, b, w, lo, hi, bad, refused);
      else if (c.gradsq) update_block<perturbs, false, true>(c, g, v, eps, m, h, b, w, lo, hi, bad, refused);
      else update_block<perturbs, false, false>(c, g, v, eps, m, h, b, w, lo, hi, bad, refused);
      add_report(report, step, bad, refused);
    });
  }

  /// The whole step with one sample: takes in its gradient, updates, and writes the next step's weights. Reads
  /// gradient, mean, hess, momentum (on a host weights too: w - m instead of drawing the noise again), writes mean,
  /// hess, momentum, weights: 36 bytes per parameter on a host, 32 on a GPU.
  void finish_range(const Exec& exec, const Noise& noise, ConstVec gradient, std::uint64_t step, const NewtonStep& c,
                    const Noise& next, const GroupRange& range, Vec weights) const {
    const Vec mean = mean_, hess = hess_, momentum = momentum_;
    const RandomKey key = noise.key, next_key = next.key;
    const DeviceReport report = report_;
    for_blocks("varion::newton::finish", exec, range.begin, range.end, KOKKOS_LAMBDA(const Index base, int lo, int hi) {
      Real eps[kNoiseBlock];
      normal_block(next_key, base, eps);
      const Real* const g = gradient.data() + base;
      Real *const m = mean.data() + base, *const h = hess.data() + base, *const b = momentum.data() + base;
      Real* const w = weights.data() + base;
      int bad = 0, refused = 0;
      if (kHostExec) finish_method(c, g, nullptr, eps, m, h, b, w, lo, hi, bad, refused);
      else finish_words(c, key, base, g, eps, m, h, b, w, lo, hi, bad, refused);
      add_report(report, step, bad, refused);
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
  return {{"optim.beta1", T::real, ivon ? "0.9" : "0", "momentum of the gradient", {}, 0, 0.999999},
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

bool register_ivon() {
  return add_options("ivon", newton_options(true)) && add_options("von", newton_options(false)) &&
         Optimizers::of().add("ivon", {"improved variational online Newton", true,
                                       [](const Layout& l, const Config& c) {
                                         return make_newton(l, c, true);
                                       }}) &&
         Optimizers::of().add("von", {"variational online Newton, no positivity correction", true,
                                      [](const Layout& l, const Config& c) {
                                        return make_newton(l, c, false);
                                      }});
}
const bool registered_ivon = register_ivon();
}  // namespace

}  // namespace varion
