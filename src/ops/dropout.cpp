// Dropout (Srivastava et al. 2014).
#include "core/blocks.hpp"
#include "core/copy.hpp"
#include "ops/ops.hpp"

namespace varion {

/// A block of y (+)= x times 0 or `scale`, by the words w of its counters. What is dropped is 0, whatever x is.
template <class E>
KOKKOS_INLINE_FUNCTION void drop_block(const std::uint32_t (&w)[4][kNoiseBlock / 4], Real rate, Real scale, const E* x, bool add, E* y, int lo,
                                       int hi) {
  if constexpr (kHostExec) {
    Real factor[kNoiseBlock];
    VARION_IVDEP
    for (int j = 0; j < kNoiseBlock / 4; ++j)
      for (int k = 0; k < 4; ++k) factor[4 * j + k] = unit_interval(w[k][j]) >= rate ? scale : Real(0);
    if (add) {
      VARION_IVDEP
      for (int i = lo; i < hi; ++i) y[i] = y[i] + (factor[i] > 0 ? factor[i] * x[i] : Real(0));
    } else {
      VARION_IVDEP
      for (int i = lo; i < hi; ++i) y[i] = factor[i] > 0 ? factor[i] * x[i] : Real(0);
    }
  } else {
    FourReals in, out{};
    load_words(x, lo, hi, 0, in);
    if (add) load_words(y, lo, hi, 0, out);
    for (int k = 0; k < 4; ++k) {
      const Real kept = unit_interval(w[k][0]) >= rate ? scale * in.word[k] : Real(0);
      out.word[k] = add ? out.word[k] + kept : kept;
    }
    store_words(out, lo, hi, y);
  }
}

/// y = x / (1 - rate) where the counter's uniform is at least rate, else 0. Forward and backward draw the same mask: word i of the key's
/// from block `first`, a multiple of 2^32. 8 bytes per element, 12 where it adds; half of that in bfloat16.
template <class V>
void dropout_apply(const Exec& exec, Kokkos::View<const RandomKey, Memory> key, Index first, Real rate, const V& from, bool add, const V& to) {
  const Real scale = 1 / (1 - rate);
  for_blocks("varion::dropout::apply", exec, 0, static_cast<Index>(from.extent(0)), KOKKOS_LAMBDA(const Index base, int lo, int hi) {
    std::uint32_t w[4][kNoiseBlock / 4];
    word_block(key(), 4 * first + base, w);
    drop_block(w, rate, scale, from.data() + base, add, to.data() + base, lo, hi);
  });
}

Node dropout(Graph& g, Node x, Real rate) {
  require(rate >= 0 && rate < 1, Exit::config, "dropout rate must be in [0, 1), not ", rate);
  if (rate == 0) return x;
  Record r;
  r.op = "dropout";
  r.draws = true;
  r.inputs = {x};
  r.shape = g.shape(x);
  r.bf16 = r.takes_bf16 = g.bf16(x);
  const Index first = Index(g.drawing_nodes()) << 32;  // every one has counters of its own
  // Evaluated without dropping y is x.
  const auto apply = [=](Replay& p, const AnyVec& from, bool add, const AnyVec& to) {
    std::visit([&](const auto& in) {
      const auto& out = std::get<std::decay_t<decltype(in)>>(to);
      if (p.train) dropout_apply(p.exec, p.key(), first, rate, in, add, out);
      else copy_numbers("varion::dropout::none", p.exec, in, add, out);
    }, from);
  };
  r.forward = [=](Replay& p, Node y) { apply(p, p.any_value(x), false, p.any_value(y)); };
  r.backward = [=](Replay& p, Node y) {
    const AnyGradSlot dx = p.any_grad(x);
    apply(p, p.any_grad_of(y), dx.add, dx.data);
  };
  return g.record(std::move(r));
}

namespace {
bool register_dropout() {
  return Ops::of().add("dropout", {"random zeros by counter", {{"0.3", {{7, 11}}, [](Graph& g, const std::vector<Node>& x) {
                                      return dropout(g, x[0], Real(0.3));
                                    }}}});
}
const bool registered_dropout = register_dropout();
}  // namespace

}  // namespace varion
