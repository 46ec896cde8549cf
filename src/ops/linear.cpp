#include <cmath>

#include "backends/backend.hpp"
#include "ops/ops.hpp"

namespace varion {

/// y[n, d] (+)= bias[d] before the product is added. 4 bytes written per element.
void bias_fill(const Exec& exec, Index rows, Index columns, ConstVec bias, Vec y) {
  Kokkos::parallel_for(
      "varion::linear::bias", Range(exec, 0, rows), KOKKOS_LAMBDA(const Index n) {
        for (Index d = 0; d < columns; ++d) y(n * columns + d) = bias(d);
      });
}

/// sum[d] (+)= sum over rows of dy[n, d], rows in order. 4 bytes read per element.
void column_sum(const Exec& exec, Index rows, Index columns, ConstVec dy, GradSlot sum) {
  constexpr Index width = kHostExec ? 16 : 1;  // columns an item: one vector on a host
  const Vec out = sum.data;
  const bool add = sum.add;
  Kokkos::parallel_for(
      "varion::linear::column_sum", Range(exec, 0, (columns + width - 1) / width),
      KOKKOS_LAMBDA(const Index b) {
        const Index first = b * width, count = columns - first < width ? columns - first : width;
        Real s[width] = {};
        for (Index n = 0; n < rows; ++n)
          for (Index d = 0; d < count; ++d) s[d] += dy(n * columns + first + d);
        for (Index d = 0; d < count; ++d) out(first + d) = add ? out(first + d) + s[d] : s[d];
      });
}

Node linear(Graph& g, Node x, const std::string& name, Index out, bool bias) {
  const Shape shape = g.shape(x);
  ensure(shape.rank == 2, "linear '", name, "' wants [N, D], not ", shape.text());
  const Index n = shape[0], in = shape[1];
  const Init init{Init::Kind::uniform, 1 / std::sqrt(static_cast<Real>(in))};
  const int w = g.parameter(name + ".weight", {out, in}, init);
  const int b = bias ? g.parameter(name + ".bias", {out}, init) : -1;
  Record r;
  r.op = "linear";
  r.inputs = {x};
  r.parameters = {w};
  if (bias) r.parameters.push_back(b);
  r.shape = {n, out};
  r.keep = {x};
  r.flops = 2.0 * static_cast<double>(n * out) * static_cast<double>(in);
  r.forward = [=](Replay& p, Node y) {  // y = x W^T + b
    if (bias) bias_fill(p.exec, n, out, p.parameter(b), p.value(y));
    backend::provider().gemm(p.exec, false, true, n, out, in, p.value(x), p.parameter(w), bias,
                             p.value(y));
  };
  r.backward = [=](Replay& p, Node y) {
    const ConstVec dy = p.grad_of(y);
    const GradSlot dw = p.parameter_grad(w);
    backend::provider().gemm(p.exec, true, false, out, in, n, dy, p.value(x), dw.add, dw.data);
    if (bias) column_sum(p.exec, n, out, dy, p.parameter_grad(b));
    if (!p.wants_grad(x)) return;
    const GradSlot dx = p.grad(x);
    backend::provider().gemm(p.exec, false, false, n, in, out, dy, p.parameter(w), dx.add, dx.data);
  };
  return g.record(std::move(r));
}

namespace {
const bool registered = Ops::of().add(
    "linear", {"y = x W^T + b",
               {{"5x7 to 3", {{5, 7}}, [](Graph& g, const std::vector<Node>& x) {
                   return linear(g, x[0], "fc", 3);
                 }},
                {"no bias, shared", {{4, 6}}, [](Graph& g, const std::vector<Node>& x) {
                   return linear(g, linear(g, x[0], "fc", 6, false), "fc", 6, false);
                 }}}});
}  // namespace

}  // namespace varion
