// Losses: a per-example term, its mean in double in a fixed order, and the gradient of the mean.
#include <cmath>

#include "ops/ops.hpp"

namespace varion {

/// loss = mean of terms[0 .. n): in order on a host; on a GPU the threads of a team take every 128th.
void mean_of(const Exec& exec, Index n, ConstVec terms, Vec loss) {
  Kokkos::parallel_for(
      "varion::loss::mean", Team(exec, 1, kHostExec ? 1 : 128), KOKKOS_LAMBDA(const Member& team) {
        double sum = 0;
        Kokkos::parallel_reduce(
            Kokkos::TeamThreadRange(team, n), [&](const Index i, double& s) { s += static_cast<double>(terms(i)); }, sum);
        Kokkos::single(Kokkos::PerTeam(team), [&] { loss(0) = static_cast<Real>(sum / static_cast<double>(n)); });
      });
}

/// term[n] = logsumexp(row) - row[target]; the log-sum-exp is kept for backward.
void cross_entropy_forward(const Exec& exec, Index n, Index c, ConstVec logits, ConstIntVec target,
                           Vec term, Vec log_sum) {
  Kokkos::parallel_for(
      "varion::cross_entropy::forward", Range(exec, 0, n), KOKKOS_LAMBDA(const Index i) {
        Real largest = logits(i * c);
        for (Index k = 1; k < c; ++k) largest = logits(i * c + k) > largest ? logits(i * c + k) : largest;
        Real sum = 0;
        for (Index k = 0; k < c; ++k) sum += std::exp(logits(i * c + k) - largest);
        log_sum(i) = largest + std::log(sum);
        term(i) = log_sum(i) - logits(i * c + target(i));
      });
}

/// dlogits = (softmax - onehot) g / N.
void cross_entropy_backward(const Exec& exec, Index n, Index c, ConstVec logits, ConstIntVec target,
                            ConstVec log_sum, ConstVec g, GradSlot out) {
  const Vec dx = out.data;
  const bool add = out.add;
  const Real per_example = 1 / static_cast<Real>(n);
  Kokkos::parallel_for(
      "varion::cross_entropy::backward", Range(exec, 0, n), KOKKOS_LAMBDA(const Index i) {
        const Real scale = g(0) * per_example;
        for (Index k = 0; k < c; ++k) {
          const Real p = std::exp(logits(i * c + k) - log_sum(i));
          const Real d = scale * (p - (k == target(i) ? Real(1) : Real(0)));
          dx(i * c + k) = add ? dx(i * c + k) + d : d;
        }
      });
}

Node cross_entropy(Graph& g, Node logits, Node target) {
  const Shape s = g.shape(logits);
  ensure(s.rank == 2 && g.shape(target).size() == s[0], "cross_entropy wants [N, C] and [N], not ",
         s.text(), " and ", g.shape(target).text());
  const Index n = s[0], c = s[1];
  Record r;
  r.op = "cross_entropy";
  r.inputs = {logits, target};
  r.shape = {1};
  r.keep = {logits, target};
  r.saved = n;
  r.scratch_forward = n;
  r.forward = [=](Replay& p, Node y) {
    cross_entropy_forward(p.exec, n, c, p.value(logits), p.ints(target), p.scratch(y), p.saved(y));
    mean_of(p.exec, n, p.scratch(y), p.value(y));
  };
  r.backward = [=](Replay& p, Node y) {
    cross_entropy_backward(p.exec, n, c, p.value(logits), p.ints(target), p.saved(y), p.grad_of(y),
                           p.grad(logits));
  };
  return g.record(std::move(r));
}

/// A regression loss of one example: term and its derivative by each of the model's outputs.
struct SquaredError {
  static constexpr Index kOutputs = 1;
  static KOKKOS_INLINE_FUNCTION Real term(const Real* y, Real t) { return (y[0] - t) * (y[0] - t); }
  static KOKKOS_INLINE_FUNCTION void slope(const Real* y, Real t, Real* d) { d[0] = 2 * (y[0] - t); }
};

struct FixedGaussian {
  static constexpr Index kOutputs = 1;
  Real sigma, log_sigma;
  KOKKOS_INLINE_FUNCTION Real term(const Real* y, Real t) const {
    const Real z = (y[0] - t) / sigma;
    return Real(0.5) * z * z + log_sigma + Real(0.9189385332046727);  // + log(2 pi) / 2
  }
  KOKKOS_INLINE_FUNCTION void slope(const Real* y, Real t, Real* d) const {
    d[0] = (y[0] - t) / (sigma * sigma);
  }
};

struct PredictedGaussian {
  static constexpr Index kOutputs = 2;
  static KOKKOS_INLINE_FUNCTION Real softplus(Real x) {
    return x > 15 ? x : std::log1p(std::exp(x));
  }
  static KOKKOS_INLINE_FUNCTION Real term(const Real* y, Real t) {
    const Real sigma = softplus(y[1]) + Real(1e-6), z = (y[0] - t) / sigma;
    return Real(0.5) * z * z + std::log(sigma) + Real(0.9189385332046727);
  }
  static KOKKOS_INLINE_FUNCTION void slope(const Real* y, Real t, Real* d) {
    const Real sigma = softplus(y[1]) + Real(1e-6), z = (y[0] - t) / sigma;
    d[0] = z / sigma;
    d[1] = (1 - z * z) / sigma / (1 + std::exp(-y[1]));
  }
};

template <class Loss>
void regression_forward(const Exec& exec, const Loss& loss, Index n, ConstVec y, ConstVec target,
                        Vec term) {
  Kokkos::parallel_for(
      "varion::regression::forward", Range(exec, 0, n), KOKKOS_LAMBDA(const Index i) {
        term(i) = loss.term(y.data() + i * Loss::kOutputs, target(i));
      });
}

template <class Loss>
void regression_backward(const Exec& exec, const Loss& loss, Index n, ConstVec y, ConstVec target,
                         ConstVec g, GradSlot out) {
  const Vec dy = out.data;
  const bool add = out.add;
  const Real per_example = 1 / static_cast<Real>(n);
  Kokkos::parallel_for(
      "varion::regression::backward", Range(exec, 0, n), KOKKOS_LAMBDA(const Index i) {
        Real d[Loss::kOutputs];
        loss.slope(y.data() + i * Loss::kOutputs, target(i), d);
        for (Index k = 0; k < Loss::kOutputs; ++k) {
          const Index at = i * Loss::kOutputs + k;
          const Real v = g(0) * per_example * d[k];
          dy(at) = add ? dy(at) + v : v;
        }
      });
}

/// Terms are counted per target element, so `mean` runs over N (Gaussian) or N D (squared error).
template <class Loss>
Node regression_loss(Graph& g, const char* op, const Loss& loss, Node y, Node target) {
  const Index n = g.shape(target).size();
  ensure(g.shape(y).size() == n * Loss::kOutputs, op, ": ", g.shape(y).text(),
         " predictions for targets ", g.shape(target).text());
  Record r;
  r.op = op;
  r.inputs = {y, target};
  r.shape = {1};
  r.keep = {y, target};
  r.scratch_forward = n;
  r.forward = [=](Replay& p, Node self) {
    regression_forward(p.exec, loss, n, p.value(y), p.value(target), p.scratch(self));
    mean_of(p.exec, n, p.scratch(self), p.value(self));
  };
  r.backward = [=](Replay& p, Node self) {
    regression_backward(p.exec, loss, n, p.value(y), p.value(target), p.grad_of(self), p.grad(y));
  };
  return g.record(std::move(r));
}

Node mean_squared_error(Graph& g, Node y, Node target) {
  return regression_loss(g, "mean_squared_error", SquaredError{}, y, target);
}
Node gaussian_nll_fixed(Graph& g, Node y, Node target, Real sigma) {
  require(sigma > 0, Exit::config, "the noise's standard deviation must be positive, not ", sigma);
  return regression_loss(g, "gaussian_nll_fixed", FixedGaussian{sigma, std::log(sigma)}, y, target);
}
Node gaussian_nll(Graph& g, Node y, Node target) {
  return regression_loss(g, "gaussian_nll", PredictedGaussian{}, y, target);
}

namespace {
using Nodes = std::vector<Node>;
// Targets are data: they come through an input of their own, without a gradient.
OpCase target_case(const std::string& label, const Shape& y, const Shape& target,
                   std::function<Node(Graph&, Node, Node)> loss) {
  return {label, {y, target}, [loss](Graph& g, const Nodes& x) { return loss(g, x[0], x[1]); }};
}
bool register_losses() {
  OpCase classes{"6x5", {{6, 5}, {6}}, [](Graph& g, const Nodes& x) {
                   return cross_entropy(g, x[0], x[1]);
                 }};
  classes.integer_input = 1;
  classes.classes = 5;
  return Ops::of().add("cross_entropy", {"mean of -log softmax[target]", {classes}}) &&
         Ops::of().add("mean_squared_error",
                 {"mean of (y - target)^2", {target_case("9x2", {9, 2}, {9, 2}, mean_squared_error)}}) &&
         Ops::of().add("gaussian_nll_fixed",
                 {"-log N(target; y, sigma^2)",
                  {target_case("sigma 0.7", {8, 1}, {8, 1}, [](Graph& g, Node y, Node t) {
                    return gaussian_nll_fixed(g, y, t, Real(0.7));
                  })}}) &&
         Ops::of().add("gaussian_nll", {"-log N(target; y0, softplus(y1)^2)",
                                  {target_case("8x2", {8, 2}, {8, 1}, gaussian_nll)}});
}
const bool registered_losses = register_losses();
}  // namespace

}  // namespace varion
