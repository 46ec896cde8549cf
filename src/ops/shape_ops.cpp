// add, flatten, in_float32: ops that move values.
#include "core/copy.hpp"
#include "ops/ops.hpp"

namespace varion {

/// y = a + b. 12 bytes per element.
void add_forward(const Exec& exec, ConstVec a, ConstVec b, Vec y) {
  for_streams("varion::add::forward", exec, 0, static_cast<Index>(y.extent(0)), reads(a, b), updates(), writes(y),
              KOKKOS_LAMBDA(const Streams<2, 0, 1>& s, int lo, int hi) {
                const Real *const one = s.read[0], *const other = s.read[1];
                Real* const sum = s.write[0];
                VARION_IVDEP
                for (int i = lo; i < hi; ++i) sum[i] = one[i] + other[i];
              });
}

Node add(Graph& g, Node a, Node b) {
  ensure(g.shape(a) == g.shape(b), "add: shapes differ: ", g.shape(a).text(), " and ",
         g.shape(b).text());
  Record r;
  r.op = "add";
  r.inputs = {a, b};
  r.shape = g.shape(a);
  r.takes_bf16 = true;
  const bool float32 = !g.bf16(a) && !g.bf16(b);
  r.forward = [=](Replay& p, Node y) {  // if no layer norm does it in its pass
    if (float32) return add_forward(p.exec, p.value(a), p.value(b), p.value(y));
    std::visit([&](const auto& x) { copy_numbers("varion::add::first", p.exec, x, false, p.value(y)); }, p.any_value(a));
    std::visit([&](const auto& x) { copy_numbers("varion::add::second", p.exec, x, true, p.value(y)); }, p.any_value(b));
  };
  r.passes = {a, b};
  return g.record(std::move(r));
}

Node in_float32(Graph& g, Node x) {
  if (!g.bf16(x)) return x;
  Record r;
  r.op = "in_float32";
  r.inputs = {x};
  r.shape = g.shape(x);
  r.takes_bf16 = true;
  r.forward = [=](Replay& p, Node y) { copy_numbers("varion::in_float32::forward", p.exec, std::get<Bf16Vec>(p.any_value(x)), false, p.value(y)); };
  r.backward = [=](Replay& p, Node y) { pass_gradient(p.exec, p.grad_of(y), p.any_grad(x)); };
  return g.record(std::move(r));
}

/// [N, HW, C] to [N, C, HW] (forward), or its gradient back. 8 bytes per element.
void flatten_copy(const Exec& exec, Index n, Index hw, Index c, ConstVec from, bool back, bool add,
                  Vec to) {
  Kokkos::parallel_for(
      "varion::flatten::copy", Range(exec, 0, n * hw), KOKKOS_LAMBDA(const Index t) {
        const Index image = t / hw, p = t % hw;
        for (Index k = 0; k < c; ++k) {
          const Index last = t * c + k, first = (image * c + k) * hw + p;
          const Index i = back ? last : first;
          const Real v = from(back ? first : last);
          to(i) = add ? to(i) + v : v;
        }
      });
}

Node flatten(Graph& g, Node x) {
  const Shape s = g.shape(x);
  const Index n = s[0], c = s.rank == 4 ? s[3] : s.stride0(), hw = s.stride0() / c;
  Record r;
  r.op = "flatten";
  r.inputs = {x};
  r.shape = {n, s.stride0()};
  r.forward = [=](Replay& p, Node y) {
    flatten_copy(p.exec, n, hw, c, p.value(x), false, false, p.value(y));
  };
  r.backward = [=](Replay& p, Node y) {
    const GradSlot dx = p.grad(x);
    flatten_copy(p.exec, n, hw, c, p.grad_of(y), true, dx.add, dx.data);
  };
  return g.record(std::move(r));
}

namespace {
bool register_shape_ops() {
  return Ops::of().add("add", {"a + b",
                               {{"two inputs", {{3, 4}, {3, 4}},
                                 [](Graph& g, const std::vector<Node>& x) { return add(g, x[0], x[1]); }},
                                {"a chain of sums", {{2, 5}},
                                 [](Graph& g, const std::vector<Node>& x) {
                                   const Node h = tanh(g, x[0]);
                                   return add(g, add(g, h, silu(g, h)), x[0]);
                                 }},
                                {"one input twice", {{2, 5}},
                                 [](Graph& g, const std::vector<Node>& x) {
                                   return add(g, x[0], x[0]);
                                 }}}}) &&
         Ops::of().add("flatten", {"[N, H, W, C] to [N, C H W]",
                                   {{"3x2x4", {{2, 3, 2, 4}},
                                     [](Graph& g, const std::vector<Node>& x) {
                                       return flatten(g, x[0]);
                                     }}}});
}
const bool registered_shape_ops = register_shape_ops();
}  // namespace

}  // namespace varion
