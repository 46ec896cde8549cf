// Elementwise activations: a functor with the value and the derivative at x, one kernel each way.
#include <cmath>

#include "core/blocks.hpp"
#include "core/vector_math.hpp"
#include "ops/ops.hpp"

namespace varion {

struct Relu {
  static KOKKOS_INLINE_FUNCTION Real value(Real x) { return x < 0 ? Real(0) : x; }  // NaN stays
  static KOKKOS_INLINE_FUNCTION Real slope(Real x) { return x > 0 ? Real(1) : Real(0); }
};
struct Silu {  // x sigmoid(x)
  static KOKKOS_INLINE_FUNCTION Real value(Real x) { return x / (1 + std::exp(-x)); }
  static KOKKOS_INLINE_FUNCTION Real slope(Real x) {
    const Real s = 1 / (1 + std::exp(-x));
    return s * (1 + x * (1 - s));
  }
};
struct Tanh {
  static KOKKOS_INLINE_FUNCTION Real value(Real x) { return std::tanh(x); }
  static KOKKOS_INLINE_FUNCTION Real slope(Real x) {
    const Real t = std::tanh(x);
    return 1 - t * t;
  }
};
template <bool near>
struct Gelu {  // x Phi(x); near: on its way to bfloat16
  static KOKKOS_INLINE_FUNCTION void normal(Real x, Real& density, Real& below) {
    if constexpr (near) normal_near(x, density, below);
    else normal_lane(x, density, below);
  }
  static KOKKOS_INLINE_FUNCTION Real value(Real x) {
    Real density, below;
    normal(x, density, below);
    return x * below;
  }
  static KOKKOS_INLINE_FUNCTION Real slope(Real x) {
    Real density, below;
    normal(x, density, below);
    return std::fma(x, density, below);
  }
};
struct GeluTanh {  // x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3): x times the sigmoid of 2 u
  static KOKKOS_INLINE_FUNCTION Real sigmoid(Real x) {
    const Real u = Real(1.5957691216057308) * std::fma(Real(0.044715) * x, x * x, x);
    return 1 / (1 + exp_lane(-u));
  }
  static KOKKOS_INLINE_FUNCTION Real value(Real x) { return x * sigmoid(x); }
  static KOKKOS_INLINE_FUNCTION Real slope(Real x) {
    const Real s = sigmoid(x), du = Real(1.5957691216057308) * std::fma(Real(0.134145) * x, x, Real(1));
    return std::fma(x * s * (1 - s), du, s);
  }
};

/// y = f(x). 8 bytes per element, 4 where x and y are kept in bfloat16.
template <class F, class V>
void activation_forward(const Exec& exec, const std::string& label, const V& x, const V& y) {
  for_streams(label.c_str(), exec, 0, static_cast<Index>(x.extent(0)), reads(x), updates(), writes(y),
              KOKKOS_LAMBDA(const Streams<1, 0, 1>& s, int lo, int hi) {
                const Real* const in = s.read[0];
                Real* const out = s.write[0];
                VARION_IVDEP
                for (int i = lo; i < hi; ++i) out[i] = F::value(in[i]);
              });
}

/// dx = dy f'(x): 12 bytes per element, 16 where it adds; half of that in bfloat16.
template <class F, class V>
void activation_backward(const Exec& exec, const std::string& label, const V& x, const V& dy, const V& dx, bool add) {
  const Index n = static_cast<Index>(x.extent(0));
  if (add)
    for_streams(label.c_str(), exec, 0, n, reads(x, dy), updates(dx), writes(),
                KOKKOS_LAMBDA(const Streams<2, 1, 0>& s, int lo, int hi) {
                  const Real *const in = s.read[0], *const above = s.read[1];
                  Real* const out = s.update[0];
                  VARION_IVDEP
                  for (int i = lo; i < hi; ++i) out[i] += above[i] * F::slope(in[i]);
                });
  else
    for_streams(label.c_str(), exec, 0, n, reads(x, dy), updates(), writes(dx),
                KOKKOS_LAMBDA(const Streams<2, 0, 1>& s, int lo, int hi) {
                  const Real *const in = s.read[0], *const above = s.read[1];
                  Real* const out = s.write[0];
                  VARION_IVDEP
                  for (int i = lo; i < hi; ++i) out[i] = above[i] * F::slope(in[i]);
                });
}

/// `Near`: what does for numbers in bfloat16. `again`: whether the value may be let go.
template <class F, class Near = F>
Node activation(Graph& g, Node x, const std::string& name, bool again = false) {
  Record r;
  r.op = name;
  r.inputs = {x};
  r.shape = g.shape(x);
  r.keep = {x};
  const std::string forward = "varion::" + name + "::forward";
  const std::string backward = "varion::" + name + "::backward";
  r.bf16 = r.takes_bf16 = g.bf16(x);
  r.forward = [=](Replay& p, Node y) {
    const AnyVec from = p.any_value(x), to = p.any_value(y);
    if (in_bf16(from)) activation_forward<Near>(p.exec, forward, std::get<Bf16Vec>(from), std::get<Bf16Vec>(to));
    else activation_forward<F>(p.exec, forward, std::get<Vec>(from), std::get<Vec>(to));
  };
  if (again) r.again = r.forward;
  r.backward = [=](Replay& p, Node y) {
    const AnyGradSlot dx = p.any_grad(x);
    const AnyVec from = p.any_value(x), dy = p.any_grad_of(y);
    if (in_bf16(from))
      activation_backward<Near>(p.exec, backward, std::get<Bf16Vec>(from), std::get<Bf16Vec>(dy), std::get<Bf16Vec>(dx.data), dx.add);
    else
      activation_backward<F>(p.exec, backward, std::get<Vec>(from), std::get<Vec>(dy), std::get<Vec>(dx.data), dx.add);
  };
  return g.record(std::move(r));
}

Node relu(Graph& g, Node x) { return activation<Relu>(g, x, "relu"); }
Node silu(Graph& g, Node x) { return activation<Silu>(g, x, "silu"); }
Node tanh(Graph& g, Node x) { return activation<Tanh>(g, x, "tanh"); }
Node gelu(Graph& g, Node x) { return activation<Gelu<false>, Gelu<true>>(g, x, "gelu", may_let_go(g.shape(x))); }
Node gelu_tanh(Graph& g, Node x) { return activation<GeluTanh>(g, x, "gelu_tanh", may_let_go(g.shape(x))); }

namespace {
Op entry(const std::string& help, Node (*f)(Graph&, Node)) {
  return {help, {{"3x17", {{3, 17}}, [f](Graph& g, const std::vector<Node>& x) {
                    return f(g, x[0]);
                  }}}};
}
const bool registered_activations = Ops::of().add("relu", entry("max(x, 0)", relu)) &&
                        Ops::of().add("silu", entry("x sigmoid(x)", silu)) &&
                        Ops::of().add("tanh", entry("tanh(x)", tanh)) &&
                        Ops::of().add("gelu", entry("x Phi(x), exact", gelu)) &&
                        Ops::of().add("gelu_tanh", entry("x Phi(x), approximated by tanh", gelu_tanh));
}  // namespace

}  // namespace varion
