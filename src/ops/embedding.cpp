// Tables of tokens and positions. The gradient of a table is a sum over the tokens that took a row, added in their order.
#include <cmath>

#include "core/memory.hpp"
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

/// order = the rows by token, those of one token in their order; run[p] = how many rows have the token of order[p] where it is the
/// first of them, else 0. `rows` squared comparisons, whose three counts are one sum of 21 bits each; a warp a row on a GPU.
void sort_tokens(const Exec& exec, Index rows, ConstIntVec token, std::int32_t* order, std::int32_t* run) {
  constexpr int team_rows = kHostExec ? 1 : 4;
  constexpr std::int64_t equal_one = Index(1) << kSortBits, earlier_one = equal_one << kSortBits, mask = equal_one - 1;
  Kokkos::parallel_for(
      "varion::embedding::sort", Team(exec, static_cast<int>((rows + team_rows - 1) / team_rows), team_rows, kHostExec ? 1 : 32),
      KOKKOS_LAMBDA(const Member& team) {
        const Index n = team.league_rank() * team_rows + team.team_rank();
        if (n >= rows) return;
        const std::int32_t own = token(n);
        std::int64_t counts = 0;
        Kokkos::parallel_reduce(
            Kokkos::ThreadVectorRange(team, rows),
            [&](const Index m, std::int64_t& sum) {
              const std::int32_t other = token(m);
              sum += other < own ? 1 : other > own ? 0 : m < n ? equal_one + earlier_one : equal_one;
            },
            counts);
        const Index smaller = counts & mask, equal = counts >> kSortBits & mask, earlier = counts >> 2 * kSortBits;
        Kokkos::single(Kokkos::PerThread(team), [&] {
          order[smaller + earlier] = static_cast<std::int32_t>(n);
          run[smaller + earlier] = earlier == 0 ? static_cast<std::int32_t>(equal) : 0;
        });
      });
}

/// The same, a team for 128 columns of every token's run.
void token_gradient_sorted(const Exec& exec, Index rows, Index width, ConstIntVec token, ConstVec dy, Vec table, Vec scratch) {
  constexpr Index columns = 128;
  ensure(rows <= kMostSorted && static_cast<Index>(scratch.extent(0)) >= token_gradient_words(rows), "token_gradient_sorted: scratch");
  auto* const order = reinterpret_cast<std::int32_t*>(scratch.data());
  auto* const run = order + rows;
  sort_tokens(exec, rows, token, order, run);
  const Index across = (width + columns - 1) / columns;
  Kokkos::parallel_for(
      "varion::embedding::runs", Team(exec, static_cast<int>(rows * across), kHostExec ? 1 : static_cast<int>(columns)),
      KOKKOS_LAMBDA(const Member& team) {
        const Index p = team.league_rank() / across, first = team.league_rank() % across * columns;
        const Index count = run[p];
        if (count == 0) return;
        Real* const sum = table.data() + Index(token(order[p])) * width + first;
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, width - first < columns ? width - first : columns), [&](const Index d) {
          Real total = sum[d];
          for (Index q = p; q < p + count; ++q) total += dy(order[q] * width + first + d);
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
  const bool sorts = !kHostExec && rows <= kMostSorted;
  if (sorts) r.scratch_backward = token_gradient_words(rows);
  r.forward = [=](Replay& p, Node y) {
    embedding_forward(p.exec, rows, width, length, p.position, p.ints(tokens), p.parameter(table), p.parameter(positions), p.value(y));
  };
  r.backward = [=](Replay& p, Node y) {
    const ConstVec dy = p.grad_of(y);
    if (p.trains(positions)) position_gradient(p.exec, rows, width, length, dy, p.parameter_grad(positions));
    if (!p.trains(table)) return;
    const GradSlot slot = p.parameter_grad(table);
    if (!slot.add) fill(p.exec, slot.data, 0);
    if (sorts) token_gradient_sorted(p.exec, rows, width, p.ints(tokens), dy, slot.data, p.scratch(y));
    else token_gradient_columns(p.exec, rows, width, p.ints(tokens), dy, slot.data);
  };
  return g.record(std::move(r));
}

namespace {
bool register_embedding() {
  const EmbeddingOptions options{7, 5, 6, 3, Real(0.5)};
  OpCase twice{"4 of 3 tokens", {{12}}, [=](Graph& g, const std::vector<Node>& x) { return embedding(g, x[0], "e", options); }, 0, 7};
  return Ops::of().add("embedding", {"rows of a table of tokens and of one of positions", {twice}});
}
const bool registered_embedding = register_embedding();
}  // namespace

}  // namespace varion
