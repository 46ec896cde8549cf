#include <cmath>

#include "backends/backend.hpp"
#include "core/random.hpp"
#include "ops/column_sum.hpp"
#include "ops/ops.hpp"

namespace varion {

/// y[n, d] = y[n, d] + bias[d], behind which a ReLU may stand. 8 bytes per element, 4 in bfloat16.
template <bool relu, class V>
void add_bias(const Exec& exec, Index rows, Index columns, ConstVec bias, const V& y) {
  constexpr Index width = kHostExec ? 256 : 1;  // columns an item
  const Index across = (columns + width - 1) / width;
  Kokkos::parallel_for(
      "varion::linear::bias", Range(exec, 0, rows * across), KOKKOS_LAMBDA(const Index item) {
        const Index first = item % across * width, end = columns - first < width ? columns : first + width;
        auto* const row = y.data() + item / across * columns;
        const Real* const b = bias.data();
        VARION_IVDEP
        for (Index d = first; d < end; ++d) {
          const Real v = row[d] + b[d];
          row[d] = relu && v < 0 ? Real(0) : v;  // NaN stays
        }
      });
}

Node linear(Graph& g, Node x, const std::string& name, Index out, LinearOptions options) {
  const Shape shape = g.shape(x);
  ensure(shape.rank == 2, "linear '", name, "' wants [N, D], not ", shape.text());
  const Index n = shape[0], in = shape[1];
  const bool bias = options.bias, activates = options.relu;
  ensure(bias || !activates, "linear '", name, "': the ReLU goes with the bias");
  const Init uniform{Init::Kind::uniform, 1 / std::sqrt(static_cast<Real>(in))};
  const bool normal = options.deviation > 0;
  const Init none{Init::Kind::constant, 0};
  const int w = g.parameter(name + ".weight", {out, in}, options.zero ? none : normal ? Init{Init::Kind::normal, options.deviation} : uniform);
  const int b = bias ? g.parameter(name + ".bias", {out}, normal ? none : uniform) : -1;
  Record r;
  r.op = "linear";
  r.inputs = {x};
  r.parameters = {w};
  if (bias) r.parameters.push_back(b);
  r.shape = {n, out};
  r.takes_bf16 = true;
  r.bf16 = options.for_products && !activates && g.keeps_bf16();
  if (g.trains(w)) r.keep = {x};
  r.flops = 2.0 * static_cast<double>(n * out) * static_cast<double>(in);
  r.keep_output = r.changes_grad = activates;
  const Index sum_words = bias ? column_sum_words(n, out) : 0;
  const bool drops = activates && !g.trains(b);  // the pass behind a ReLU sums columns even if nobody wants the sum
  r.scratch_backward = sum_words + (drops ? out : 0);
  r.forward = [=](Replay& p, Node y) {  // y = x W^T + b
    const AnyVec to = p.any_value(y);
    backend::multiply(p.exec, false, true, n, out, in, {p.any_value(x), in}, {p.parameter(w), in}, false, {to, out});
    if (activates) add_bias<true>(p.exec, n, out, p.parameter(b), p.value(y));
    else if (bias) std::visit([&](const auto& v) { add_bias<false>(p.exec, n, out, p.parameter(b), v); }, to);
  };
  r.backward = [=](Replay& p, Node y) {
    const AnyVec dy = p.any_grad_of(y);
    if (activates)
      relu_column_sum(p.exec, n, out, p.value(y), p.own_grad(y), drops ? GradSlot{slice(p.scratch(y), sum_words, out), false} : p.parameter_grad(b),
                      p.scratch(y));
    else if (bias && p.trains(b)) any_column_sum(p.exec, n, out, dy, p.parameter_grad(b), p.scratch(y));
    if (p.trains(w)) {
      const GradSlot dw = p.parameter_grad(w);
      backend::multiply(p.exec, true, false, out, in, n, {dy, out}, {p.any_value(x), in}, dw.add, {dw.data, in});
    }
    if (!p.wants_grad(x)) return;
    const AnyGradSlot dx = p.any_grad(x);
    backend::multiply(p.exec, false, false, n, in, out, {dy, out}, {p.parameter(w), in}, dx.add, {dx.data, in});
  };
  return g.record(std::move(r));
}

namespace {
bool register_linear() {
  return Ops::of().add(
      "linear", {"y = x W^T + b, and a ReLU",
                 {{"5x7 to 3", {{5, 7}}, [](Graph& g, const std::vector<Node>& x) {
                     return linear(g, x[0], "fc", 3);
                   }},
                  {"with ReLU", {{3, 5}}, [](Graph& g, const std::vector<Node>& x) {
                     return linear(g, x[0], "fc", 4, {true, true});
                   }},
                  {"a sum of two with ReLU", {{6, 5}}, [](Graph& g, const std::vector<Node>& x) {
                     return add(g, linear(g, x[0], "one", 7, {true, true}), linear(g, x[0], "two", 7, {true, true}));
                   }},
                  {"no bias, shared", {{4, 6}}, [](Graph& g, const std::vector<Node>& x) {
                     return linear(g, linear(g, x[0], "fc", 6, {false}), "fc", 6, {false});
                   }}}});
}
const bool registered_linear = register_linear();
}  // namespace

}  // namespace varion
