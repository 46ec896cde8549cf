// Tables of tokens and positions. The gradient of a table is a sum over the tokens that took a row, added in their order.
#include <cmath>

#include "core/random.hpp"
#include "ops/embedding.hpp"
#include "ops/ops.hpp"

namespace varion {

/// y[n] = tokens' row + row `from` + n % length of the positions. 12 bytes per element.
void embedding_forward(const Exec& exec, Index rows, Index width, Index length, Index from, ConstIntVec token, ConstVec table,
                       ConstVec positions, Vec y) {
  constexpr Index step = kHostExec ? 256 : 1;  // columns an item
  const Index across = (width + step - 1) / step;
  Kokkos::parallel_for(
      "varion::embedding::forward", Range(exec, 0, rows * across), KOKKOS_LAMBDA(const Index item) {
        const Index n = item / across, first = item % across * step, end = width - first < step ? width : first + step;
        const Real* const a = table.data() + Index(token(n)) * width;
        const Real* const b = positions.data() + (from + n % length) * width;
        Real* const out = y.data() + n * width;
        VARION_IVDEP
        for (Index d = first; d < end; ++d) out[d] = a[d] + b[d];
      });
}

/// dpositions[t] (+)= the sum over sequences of dy. Rows past the sequences' length get nothing. 4 bytes read per element.
void position_gradient(const Exec& exec, Index rows, Index width, Index length, ConstVec dy, GradSlot out) {
  const Vec to = out.data;
  const bool add = out.add;
  const Index all = static_cast<Index>(to.extent(0)) / width;
  constexpr Index step = kHostExec ? 256 : 1;
  const Index across = (width + step - 1) / step;
  Kokkos::parallel_for(
      "varion::embedding::positions", Range(exec, 0, all * across), KOKKOS_LAMBDA(const Index item) {
        const Index t = item / across, first = item % across * step, end = width - first < step ? width : first + step;
        Real* const sum = to.data() + t * width;
        if (!add)
          for (Index d = first; d < end; ++d) sum[d] = 0;
        for (Index n = t; t < length && n < rows; n += length) {
          const Real* const from = dy.data() + n * width;
          VARION_IVDEP
          for (Index d = first; d < end; ++d) sum[d] += from[d];
        }
      });
}

/// dtable[token[n]] += dy[n], one token after another, an item a stretch of columns. 12 bytes per element of dy.
void token_gradient_columns(const Exec& exec, Index rows, Index width, ConstIntVec token, ConstVec dy, Vec table) {
  constexpr Index step = 64;
  Kokkos::parallel_for(
      "varion::embedding::tokens", Range(exec, 0, (width + step - 1) / step), KOKKOS_LAMBDA(const Index item) {
        const Index first = item * step, end = width - first < step ? width : first + step;
        for (Index n = 0; n < rows; ++n) {
          Real* const sum = table.data() + Index(token(n)) * width;
          const Real* const from = dy.data() + n * width;
          VARION_IVDEP
          for (Index d = first; d < end; ++d) sum[d] += from[d];
        }
      });
}

/// The same with a team a token: the first of its kind adds all of them, in order. Reads `rows` tokens a team besides.
void token_gradient_teams(const Exec& exec, Index rows, Index width, ConstIntVec token, ConstVec dy, Vec table) {
  const Team policy = kHostExec ? Team(exec, static_cast<int>(rows), 1) : Team(exec, static_cast<int>(rows), 128);
  Kokkos::parallel_for(
      "varion::embedding::teams", policy, KOKKOS_LAMBDA(const Member& team) {
        const Index n = team.league_rank();
        const std::int32_t own = token(n);
        int earlier = 0;
        Kokkos::parallel_reduce(
            Kokkos::TeamThreadRange(team, n), [&](const Index m, int& count) { count += token(m) == own ? 1 : 0; }, earlier);
        if (earlier > 0) return;
        Real* const sum = table.data() + Index(own) * width;
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, width), [&](const Index d) {
          Real total = sum[d];
          for (Index m = n; m < rows; ++m)
            if (token(m) == own) total += dy(m * width + d);
          sum[d] = total;
        });
      });
}

Node embedding(Graph& g, Node tokens, const std::string& name, const EmbeddingOptions& o) {
  const Index rows = g.shape(tokens).size(), width = o.width, length = o.length;
  ensure(rows % length == 0 && length <= o.positions, "embedding '", name, "': ", rows, " tokens in sequences of ", length, ", ",
         o.positions, " positions");
  const Init init{Init::Kind::normal, o.deviation};
  const int table = g.parameter(name + ".wte.weight", {o.vocabulary, width}, init);
  const int positions = g.parameter(name + ".wpe.weight", {o.positions, width}, init);
  Record r;
  r.op = "embedding";
  r.inputs = {tokens};
  r.parameters = {table, positions};
  r.shape = {rows, width};
  r.keep = {tokens};
  r.forward = [=](Replay& p, Node y) {
    embedding_forward(p.exec, rows, width, length, p.position, p.ints(tokens), p.parameter(table), p.parameter(positions), p.value(y));
  };
  r.backward = [=](Replay& p, Node y) {
    const ConstVec dy = p.grad_of(y);
    if (p.trains(positions)) position_gradient(p.exec, rows, width, length, dy, p.parameter_grad(positions));
    if (!p.trains(table)) return;
    const GradSlot slot = p.parameter_grad(table);
    if (!slot.add) Kokkos::deep_copy(p.exec, slot.data, Real(0));
    if (kHostExec) token_gradient_columns(p.exec, rows, width, p.ints(tokens), dy, slot.data);
    else token_gradient_teams(p.exec, rows, width, p.ints(tokens), dy, slot.data);
  };
  return g.record(std::move(r));
}

namespace {
const bool registered = [] {
  const EmbeddingOptions options{7, 5, 6, 3, Real(0.5)};
  OpCase twice{"4 of 3 tokens", {{12}}, [=](Graph& g, const std::vector<Node>& x) { return embedding(g, x[0], "e", options); }, 0, 7};
  return Ops::of().add("embedding", {"rows of a table of tokens and of one of positions", {twice}});
}();
}  // namespace

}  // namespace varion
