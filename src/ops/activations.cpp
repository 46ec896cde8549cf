// Elementwise activations: a functor with the value and the derivative at x, one kernel each way.
#include <cmath>

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
struct Gelu {  // x Phi(x)
  static KOKKOS_INLINE_FUNCTION Real value(Real x) {
    return Real(0.5) * x * (1 + std::erf(x * Real(0.70710678118654752)));
  }
  static KOKKOS_INLINE_FUNCTION Real slope(Real x) {
    return Real(0.5) * (1 + std::erf(x * Real(0.70710678118654752))) +
           x * Real(0.3989422804014327) * std::exp(-x * x / 2);
  }
};

/// y = f(x). 8 bytes per element.
template <class F>
void activation_forward(const Exec& exec, const std::string& label, ConstVec x, Vec y) {
  Kokkos::parallel_for(
      label, Range(exec, 0, static_cast<Index>(x.extent(0))),
      KOKKOS_LAMBDA(const Index i) { y(i) = F::value(x(i)); });
}

/// dx (+)= dy f'(x). 12 bytes per element.
template <class F>
void activation_backward(const Exec& exec, const std::string& label, ConstVec x, ConstVec dy,
                         GradSlot out) {
  const Vec dx = out.data;
  const bool add = out.add;
  Kokkos::parallel_for(
      label, Range(exec, 0, static_cast<Index>(x.extent(0))), KOKKOS_LAMBDA(const Index i) {
        const Real d = dy(i) * F::slope(x(i));
        dx(i) = add ? dx(i) + d : d;
      });
}

template <class F>
Node activation(Graph& g, Node x, const std::string& name) {
  Record r;
  r.op = name;
  r.inputs = {x};
  r.shape = g.shape(x);
  r.keep = {x};
  const std::string forward = "varion::" + name + "::forward";
  const std::string backward = "varion::" + name + "::backward";
  r.forward = [=](Replay& p, Node y) {
    activation_forward<F>(p.exec, forward, p.value(x), p.value(y));
  };
  r.backward = [=](Replay& p, Node y) {
    activation_backward<F>(p.exec, backward, p.value(x), p.grad_of(y), p.grad(x));
  };
  return g.record(std::move(r));
}

Node relu(Graph& g, Node x) { return activation<Relu>(g, x, "relu"); }
Node silu(Graph& g, Node x) { return activation<Silu>(g, x, "silu"); }
Node tanh(Graph& g, Node x) { return activation<Tanh>(g, x, "tanh"); }
Node gelu(Graph& g, Node x) { return activation<Gelu>(g, x, "gelu"); }

namespace {
Op entry(const std::string& help, Node (*f)(Graph&, Node)) {
  return {help, {{"3x17", {{3, 17}}, [f](Graph& g, const std::vector<Node>& x) {
                    return f(g, x[0]);
                  }}}};
}
const bool registered = Ops::of().add("relu", entry("max(x, 0)", relu)) &&
                        Ops::of().add("silu", entry("x sigmoid(x)", silu)) &&
                        Ops::of().add("tanh", entry("tanh(x)", tanh)) &&
                        Ops::of().add("gelu", entry("x Phi(x), exact", gelu));
}  // namespace

}  // namespace varion
