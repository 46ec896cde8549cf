// Attention as the providers compute it.
#include <cmath>

#include "backends/backend.hpp"
#include "ops/ops.hpp"

namespace varion {

/// Keys and values of the tokens at `position` go into the cache [batch, capacity, 2, D].
void keep_tokens(const Exec& exec, Index batch, Index capacity, Index width, Index position, ConstVec qkv, Vec cache) {
  Kokkos::parallel_for(
      "varion::attention::keep", Range(exec, 0, batch * 2 * width), KOKKOS_LAMBDA(const Index i) {
        const Index n = i / (2 * width), d = i % (2 * width);
        cache((n * capacity + position) * 2 * width + d) = qkv(n * 3 * width + width + d);
      });
}

/// Attention of one query a head over positions 0 ... position of the cache; `scores` [batch, heads, capacity]. Reads the cache
/// once; a team a head.
void attend_to_kept(const Exec& exec, Index batch, Index capacity, Index heads, Index size, Index position, ConstVec qkv,
                    ConstVec cache, Vec scores, Vec y) {
  const Index width = heads * size;
  const Real scale = 1 / std::sqrt(static_cast<Real>(size));
  Kokkos::parallel_for(
      "varion::attention::decode", Team(exec, static_cast<int>(batch * heads), kHostExec ? 1 : 128), KOKKOS_LAMBDA(const Member& team) {
        const Index item = team.league_rank(), n = item / heads, h = item % heads;
        const Real* const q = qkv.data() + n * 3 * width + h * size;
        const Real* const kept = cache.data() + n * capacity * 2 * width + h * size;
        Real* const score = scores.data() + item * capacity;
        Real* const out = y.data() + n * width + h * size;
        Real top = 0, sum = 0;
        Kokkos::parallel_reduce(
            Kokkos::TeamThreadRange(team, position + 1),
            [&](const Index t, Real& most) {
              Real s = 0;
              for (Index d = 0; d < size; ++d) s += q[d] * kept[t * 2 * width + d];
              score[t] = scale * s;
              most = score[t] > most ? score[t] : most;
            },
            Kokkos::Max<Real>(top));
        Kokkos::parallel_reduce(
            Kokkos::TeamThreadRange(team, position + 1), [&](const Index t, Real& s) { s += score[t] = std::exp(score[t] - top); }, sum);
        team.team_barrier();
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, size), [&](const Index d) {
          Real total = 0;
          for (Index t = 0; t <= position; ++t) total += score[t] / sum * kept[t * 2 * width + width + d];
          out[d] = total;
        });
      });
}

namespace {
/// The op of a decoding graph; the cache is an input, whose memory is its own from replay to replay.
Node decoding_attention(Graph& g, Node qkv, const AttentionOptions& o) {
  const Shape shape = g.shape(qkv);
  const Index batch = shape[0], width = shape[1] / 3, heads = o.heads, capacity = g.decodes();
  const Node cache = g.input({batch, capacity, 2, width});
  Record r;
  r.op = "decoding_attention";
  r.inputs = {qkv, cache};
  r.shape = {batch, width};
  r.scratch_forward = batch * heads * capacity;
  r.forward = [=](Replay& p, Node y) {
    keep_tokens(p.exec, batch, capacity, width, p.position, p.value(qkv), p.value(cache));
    attend_to_kept(p.exec, batch, capacity, heads, width / heads, p.position, p.value(qkv), p.value(cache), p.scratch(y), p.value(y));
  };
  return g.record(std::move(r));
}
}  // namespace

Node attention(Graph& g, Node qkv, const AttentionOptions& o) {
  const Shape shape = g.shape(qkv);
  ensure(g.decodes() == 0 || (o.causal && o.length == 1), "a decoding graph has causal sequences of length 1");
  if (g.decodes() > 0) return decoding_attention(g, qkv, o);
  ensure(shape.rank == 2 && shape[0] % o.length == 0 && shape[1] % (3 * o.heads) == 0, "attention of ", o.heads, " heads over ", o.length,
         " positions wants [N, 3 D], not ", shape.text());
  const backend::Attention s{shape[0] / o.length, o.length, o.heads, shape[1] / 3 / o.heads, o.causal};
  const auto& provider = backend::provider();
  if (g.bf16(qkv) && !provider.attends_bf16(s)) qkv = in_float32(g, qkv);
  Record r;
  r.op = "attention";
  r.inputs = {qkv};
  r.shape = {shape[0], shape[1] / 3};
  r.keep = {qkv};
  r.keep_output = true;
  r.bf16 = r.takes_bf16 = g.bf16(qkv);
  r.saved = s.rows() * s.heads;
  r.scratch_forward = provider.attention_scratch(s, false);
  r.scratch_backward = provider.attention_scratch(s, true);
  r.flops = 4.0 * static_cast<double>(s.rows() * s.length) * static_cast<double>(s.heads * s.width) * (o.causal ? 0.5 : 1.0);
  r.forward = [=](Replay& p, Node y) {
    const AnyVec from = p.any_value(qkv), to = p.any_value(y);
    if (in_bf16(from)) backend::provider().attention_forward_bf16(p.exec, s, std::get<Bf16Vec>(from), std::get<Bf16Vec>(to), p.saved(y));
    else backend::provider().attention_forward(p.exec, s, std::get<Vec>(from), std::get<Vec>(to), p.saved(y), p.scratch(y));
  };
  r.backward = [=](Replay& p, Node y) {
    const AnyGradSlot dx = p.any_grad(qkv);
    const AnyVec from = p.any_value(qkv), out = p.any_value(y), dy = p.any_grad_of(y);
    if (in_bf16(from))
      backend::provider().attention_backward_bf16(p.exec, s, std::get<Bf16Vec>(from), std::get<Bf16Vec>(out), std::get<Bf16Vec>(dy), p.saved(y),
                                                  dx.add, std::get<Bf16Vec>(dx.data), p.scratch(y));
    else
      backend::provider().attention_backward(p.exec, s, std::get<Vec>(from), std::get<Vec>(out), std::get<Vec>(dy), p.saved(y), dx.add,
                                             std::get<Vec>(dx.data), p.scratch(y));
  };
  return g.record(std::move(r));
}

namespace {
OpCase of(const std::string& label, Index sequences, const AttentionOptions& o, Index width) {
  return {label, {{sequences * o.length, 3 * o.heads * width}}, [o](Graph& g, const std::vector<Node>& x) { return attention(g, x[0], o); }};
}
const bool registered_attention = Ops::of().add(
    "attention", {"softmax(q k^T / sqrt(d)) v of every head",
                  {of("2 of 5, 2 heads of 3, causal", 2, {2, 5, true}, 3), of("1 of 70, a head of 17", 1, {1, 70, false}, 17)}});
}  // namespace

}  // namespace varion
