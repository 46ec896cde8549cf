// Attention as the providers compute it.
#include "backends/backend.hpp"
#include "ops/ops.hpp"

namespace varion {

Node attention(Graph& g, Node qkv, const AttentionOptions& o) {
  const Shape shape = g.shape(qkv);
  ensure(shape.rank == 2 && shape[0] % o.length == 0 && shape[1] % (3 * o.heads) == 0, "attention of ", o.heads, " heads over ", o.length,
         " positions wants [N, 3 D], not ", shape.text());
  const backend::Attention s{shape[0] / o.length, o.length, o.heads, shape[1] / 3 / o.heads, o.causal};
  Record r;
  r.op = "attention";
  r.inputs = {qkv};
  r.shape = {shape[0], shape[1] / 3};
  r.keep = {qkv};
  r.keep_output = true;
  r.saved = s.rows() * s.heads;
  r.scratch_forward = backend::provider().attention_scratch(s, false);
  r.scratch_backward = backend::provider().attention_scratch(s, true);
  r.flops = 4.0 * static_cast<double>(s.rows() * s.length) * static_cast<double>(s.heads * s.width) * (o.causal ? 0.5 : 1.0);
  r.forward = [=](Replay& p, Node y) {
    backend::provider().attention_forward(p.exec, s, p.value(qkv), p.value(y), p.saved(y), p.scratch(y));
  };
  r.backward = [=](Replay& p, Node y) {
    const GradSlot dx = p.grad(qkv);
    backend::provider().attention_backward(p.exec, s, p.value(qkv), p.value(y), p.grad_of(y), p.saved(y), dx.add, dx.data, p.scratch(y));
  };
  return g.record(std::move(r));
}

namespace {
OpCase of(const std::string& label, Index sequences, const AttentionOptions& o, Index width) {
  return {label, {{sequences * o.length, 3 * o.heads * width}}, [o](Graph& g, const std::vector<Node>& x) { return attention(g, x[0], o); }};
}
const bool registered = Ops::of().add(
    "attention", {"softmax(q k^T / sqrt(d)) v of every head",
                  {of("2 of 5, 2 heads of 3, causal", 2, {2, 5, true}, 3), of("1 of 70, a head of 17", 1, {1, 70, false}, 17)}});
}  // namespace

}  // namespace varion
