// Filter response normalisation with its threshold, one fused kernel each way.
#include <cmath>

#include "ops/ops.hpp"

namespace varion {

inline constexpr Real kFrnEpsilon = Real(1e-6);
inline constexpr Index kFrnChannels = kHostExec ? 16 : 1;  // channels an item: one vector on a host

/// y = max(gamma x r + beta, tau), r = 1/sqrt(mean_HW(x^2) + eps) kept [N, C] for backward.
/// Reads x twice (the second time from cache), writes y: 8 bytes per element.
void frn_forward(const Exec& exec, Index n, Index hw, Index c, ConstVec x, ConstVec gamma,
                 ConstVec beta, ConstVec tau, Vec r, Vec y) {
  const Index blocks = (c + kFrnChannels - 1) / kFrnChannels;
  Kokkos::parallel_for(
      "varion::frn::forward", Range(exec, 0, n * blocks), KOKKOS_LAMBDA(const Index item) {
        const Index image = item / blocks, first = item % blocks * kFrnChannels;
        const Index count = c - first < kFrnChannels ? c - first : kFrnChannels;
        const Index base = image * hw * c + first;
        Real sum[kFrnChannels] = {};
        for (Index p = 0; p < hw; ++p)
          for (Index k = 0; k < count; ++k) {
            const Real v = x(base + p * c + k);
            sum[k] += v * v;
          }
        Real scale[kFrnChannels], shift[kFrnChannels], floor[kFrnChannels];
        for (Index k = 0; k < count; ++k) {
          const Real inverse = 1 / std::sqrt(sum[k] / static_cast<Real>(hw) + kFrnEpsilon);
          r(image * c + first + k) = inverse;
          scale[k] = inverse * gamma(first + k);
          shift[k] = beta(first + k);
          floor[k] = tau(first + k);
        }
        for (Index p = 0; p < hw; ++p)
          for (Index k = 0; k < count; ++k) {
            const Real z = x(base + p * c + k) * scale[k] + shift[k];
            y(base + p * c + k) = z > floor[k] ? z : floor[k];
          }
      });
}

/// Forward: y = max(z, tau), z = gamma xh + beta, xh = x r.
/// dz = dy where z > tau, else dtau gets dy; dx = r (gamma dz - xh mean_HW(gamma dz xh)).
/// partial [N, 3, C] receives each image's share of dgamma, dbeta, dtau. Reads x and dy twice
/// (the second time from cache), writes dx: 12 bytes per element.
void frn_backward(const Exec& exec, Index n, Index hw, Index c, ConstVec x, ConstVec gamma,
                  ConstVec beta, ConstVec tau, ConstVec r, ConstVec dy, GradSlot out, Vec partial) {
  const Index blocks = (c + kFrnChannels - 1) / kFrnChannels;
  const Vec dx = out.data;
  const bool add = out.add;
  Kokkos::parallel_for(
      "varion::frn::backward", Range(exec, 0, n * blocks), KOKKOS_LAMBDA(const Index item) {
        const Index image = item / blocks, first = item % blocks * kFrnChannels;
        const Index count = c - first < kFrnChannels ? c - first : kFrnChannels;
        const Index base = image * hw * c + first;
        Real dgamma[kFrnChannels] = {}, dbeta[kFrnChannels] = {}, dtau[kFrnChannels] = {};
        Real inverse[kFrnChannels], g[kFrnChannels], shift[kFrnChannels], floor[kFrnChannels];
        for (Index k = 0; k < count; ++k) {
          inverse[k] = r(image * c + first + k);
          g[k] = gamma(first + k);
          shift[k] = beta(first + k);
          floor[k] = tau(first + k);
        }
        for (Index p = 0; p < hw; ++p)
          for (Index k = 0; k < count; ++k) {
            const Real xh = x(base + p * c + k) * inverse[k], d = dy(base + p * c + k);
            const bool open = x(base + p * c + k) * (inverse[k] * g[k]) + shift[k] > floor[k];
            dgamma[k] += open ? d * xh : Real(0);
            dbeta[k] += open ? d : Real(0);
            dtau[k] += open ? Real(0) : d;
          }
        for (Index k = 0; k < count; ++k) {
          const Index at = image * 3 * c + first + k;
          partial(at) = dgamma[k];
          partial(at + c) = dbeta[k];
          partial(at + 2 * c) = dtau[k];
        }
        if (dx.data() == nullptr) return;
        const Real per_pixel = 1 / static_cast<Real>(hw);
        for (Index p = 0; p < hw; ++p)
          for (Index k = 0; k < count; ++k) {
            const Index i = base + p * c + k;
            const Real xh = x(i) * inverse[k];
            const bool open = x(i) * (inverse[k] * g[k]) + shift[k] > floor[k];
            const Real d = open ? dy(i) : Real(0);
            const Real v = inverse[k] * g[k] * (d - xh * (dgamma[k] * per_pixel));
            dx(i) = add ? dx(i) + v : v;
          }
      });
}

/// sum (+)= sum over images, in order, of partial[n, which, :].
void frn_sum(const Exec& exec, Index n, Index c, Index which, ConstVec partial, GradSlot sum) {
  const Vec out = sum.data;
  const bool add = sum.add;
  Kokkos::parallel_for(
      "varion::frn::parameter_grad", Range(exec, 0, c), KOKKOS_LAMBDA(const Index k) {
        Real s = 0;
        for (Index i = 0; i < n; ++i) s += partial((i * 3 + which) * c + k);
        out(k) = add ? out(k) + s : s;
      });
}

Node frn(Graph& g, Node x, const std::string& name) {
  const Shape s = g.shape(x);
  ensure(s.rank == 4, "frn '", name, "' wants [N, H, W, C], not ", s.text());
  const Index n = s[0], hw = s[1] * s[2], c = s[3];
  const int gamma = g.parameter(name + ".gamma", {c}, {Init::Kind::constant, 1});
  const int beta = g.parameter(name + ".beta", {c}, {Init::Kind::constant, 0});
  const int tau = g.parameter(name + ".tau", {c}, {Init::Kind::constant, 0});
  Record r;
  r.op = "frn";
  r.inputs = {x};
  r.parameters = {gamma, beta, tau};
  r.shape = s;
  r.keep = {x};
  r.saved = n * c;
  r.scratch_backward = 3 * n * c;
  r.forward = [=](Replay& p, Node y) {
    frn_forward(p.exec, n, hw, c, p.value(x), p.parameter(gamma), p.parameter(beta),
                p.parameter(tau), p.saved(y), p.value(y));
  };
  r.backward = [=](Replay& p, Node y) {
    const GradSlot dx = p.wants_grad(x) ? p.grad(x) : GradSlot{Vec(), false};
    frn_backward(p.exec, n, hw, c, p.value(x), p.parameter(gamma), p.parameter(beta),
                 p.parameter(tau), p.saved(y), p.grad_of(y), dx, p.scratch(y));
    frn_sum(p.exec, n, c, 0, p.scratch(y), p.parameter_grad(gamma));
    frn_sum(p.exec, n, c, 1, p.scratch(y), p.parameter_grad(beta));
    frn_sum(p.exec, n, c, 2, p.scratch(y), p.parameter_grad(tau));
  };
  return g.record(std::move(r));
}

namespace {
const bool registered = Ops::of().add(
    "frn", {"filter response normalisation with threshold",
            {{"5 channels", {{3, 4, 5, 5}}, [](Graph& g, const std::vector<Node>& x) {
                return frn(g, x[0], "norm");
              }},
             {"19 channels, six pixels", {{4, 2, 3, 19}}, [](Graph& g, const std::vector<Node>& x) {
                return frn(g, x[0], "norm");
              }}}});
}  // namespace

}  // namespace varion
