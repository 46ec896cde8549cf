// The last layer of a language model, whose weights are those of the token table, and its loss. Rows are what is large here:
// 50 000 classes and more.
#include <algorithm>
#include <cfloat>
#include <cmath>

#include "backends/backend.hpp"
#include "core/random.hpp"
#include "core/vector_math.hpp"
#include "ops/ops.hpp"

namespace varion {

/// Number of targets that count, and the mean over them: a team, whose threads take every 256th row on a GPU.
void mean_of_counted(const Exec& exec, Index n, ConstIntVec target, ConstVec terms, Vec loss, Vec count) {
  Kokkos::parallel_for(
      "varion::tied_head::mean", Team(exec, 1, kHostExec ? 1 : 256), KOKKOS_LAMBDA(const Member& team) {
        double sum = 0, counted = 0;
        Kokkos::parallel_reduce(
            Kokkos::TeamThreadRange(team, n),
            [&](const Index i, double& s) { s += target(i) < 0 ? 0.0 : static_cast<double>(terms(i)); }, sum);
        team.team_barrier();  // both sums go through the same shared memory
        Kokkos::parallel_reduce(
            Kokkos::TeamThreadRange(team, n), [&](const Index i, double& c) { c += target(i) < 0 ? 0.0 : 1.0; }, counted);
        Kokkos::single(Kokkos::PerTeam(team), [&] {
          loss(0) = counted > 0 ? static_cast<Real>(sum / counted) : Real(0);
          count(0) = static_cast<Real>(counted);
        });
      });
}

inline Team class_teams(const Exec& exec, Index rows) {
  return kHostExec ? Team(exec, static_cast<int>(rows), 1) : Team(exec, static_cast<int>(rows), 256);
}

/// exp(x), the device's own for numbers in bfloat16.
template <class E>
KOKKOS_INLINE_FUNCTION Real exp_of(Real x) {
  return std::is_same_v<std::remove_const_t<E>, Bfloat16> ? std::exp(x) : exp_lane(x);
}

/// A row's maximum, and the sum of exp(x - maximum), in lanes on a host.
template <class E>
KOKKOS_INLINE_FUNCTION void row_softmax(const E* x, Index classes, Real& top, Real& sum) {
  constexpr int lanes = 16;
  Real most[lanes], part[lanes] = {};
  for (int k = 0; k < lanes; ++k) most[k] = x[0];
  Index d = 0;
  for (; d + lanes <= classes; d += lanes) {
    VARION_LANES
    for (int k = 0; k < lanes; ++k) most[k] = x[d + k] > most[k] ? static_cast<Real>(x[d + k]) : most[k];
  }
  for (int k = 0; d < classes; ++d, ++k) most[k] = x[d] > most[k] ? static_cast<Real>(x[d]) : most[k];
  top = most[0];
  for (int k = 1; k < lanes; ++k) top = most[k] > top ? most[k] : top;
  for (d = 0; d + lanes <= classes; d += lanes) {
    VARION_LANES
    for (int k = 0; k < lanes; ++k) part[k] += exp_lane(x[d + k] - top);
  }
  for (int k = 0; d < classes; ++d, ++k) part[k] += exp_lane(x[d] - top);
  sum = 0;
  for (int k = 0; k < lanes; ++k) sum += part[k];
}

/// Calls f(d, x + d, count) for stretches of a row, as many numbers as 16 bytes hold where the row lies so; a thread of a team has every
/// so many-th of them.
template <class E, class Body>
KOKKOS_INLINE_FUNCTION void for_packs(const Member& team, E* x, Index classes, const Body& f) {
  constexpr int full = 16 / static_cast<int>(sizeof(E));
  const Index packs = reinterpret_cast<std::uintptr_t>(x) % 16 == 0 ? classes / full : 0;
  for (Index i = team.team_rank(); i < packs; i += team.team_size()) f(i * full, x + i * full, std::integral_constant<int, full>());
  for (Index d = packs * full + team.team_rank(); d < classes; d += team.team_size()) f(d, x + d, std::integral_constant<int, 1>());
}

/// The same as row_softmax by a team: a thread corrects its sum as its maximum grows, and reads the row once.
template <class E>
KOKKOS_INLINE_FUNCTION void team_softmax(const Member& team, const E* x, Index classes, Real& top, Real& sum) {
  Real most = -FLT_MAX, total = 0;
  for_packs(team, x, classes, [&](const Index, const E* at, const auto count) {
    constexpr int n = decltype(count)::value;
    const auto pack = *reinterpret_cast<const Pack<E, n>*>(at);
    Real here = pack.at[0];
    for (int k = 1; k < n; ++k) here = pack.at[k] > here ? static_cast<Real>(pack.at[k]) : here;
    if (here > most) {
      total *= exp_of<E>(most - here);
      most = here;
    }
    for (int k = 0; k < n; ++k) total += exp_of<E>(pack.at[k] - most);
  });
  top = most;
  team.team_reduce(Kokkos::Max<Real>(top));
  sum = total * exp_of<E>(most - top);
  team.team_barrier();  // both go through the same shared memory
  team.team_reduce(Kokkos::Sum<Real>(sum));
}

/// term = log_sum - logit[target] of a row; log_sum is kept. 4 bytes read per logit, 2 of bfloat16, on a GPU; twice on a host, from the
/// cache then. Rows lie `pitch` apart.
template <class V>
void softmax_terms(const Exec& exec, Index rows, Index classes, Index pitch, const V& logits, ConstIntVec target, Vec term, Vec log_sum) {
  Kokkos::parallel_for(
      "varion::tied_head::forward", class_teams(exec, rows), KOKKOS_LAMBDA(const Member& team) {
        const Index n = team.league_rank();
        const auto* const x = logits.data() + n * pitch;
        Real top = 0, sum = 0;
        if (kHostExec) row_softmax(x, classes, top, sum);
        else team_softmax(team, x, classes, top, sum);
        Kokkos::single(Kokkos::PerTeam(team), [&] {
          log_sum(n) = top + std::log(sum);
          term(n) = target(n) < 0 ? Real(0) : log_sum(n) - x[target(n)];
        });
      });
}

/// logits = (softmax - onehot) share, in place; 0 where there is no target. The share is g / count for the mean over rows, and -g[n]
/// where there is no count, for every row's log likelihood. 8 bytes per logit, 4 in bfloat16.
template <class V>
void softmax_gradient(const Exec& exec, Index rows, Index classes, Index pitch, ConstIntVec target, ConstVec log_sum, ConstVec count, ConstVec g,
                      const V& logits) {
  using E = typename V::value_type;
  const bool mean = count.extent(0) > 0;
  Kokkos::parallel_for(
      "varion::tied_head::backward", class_teams(exec, rows), KOKKOS_LAMBDA(const Member& team) {
        const Index n = team.league_rank(), wanted = target(n);
        E* const x = logits.data() + n * pitch;
        const Real share = wanted < 0 ? Real(0) : mean ? g(0) / count(0) : -g(n), log_of = log_sum(n);
        if (kHostExec) {
          const Real at_target = wanted < 0 ? Real(0) : share * exp_lane(x[wanted] - log_of) - share;
          VARION_IVDEP
          for (Index d = 0; d < classes; ++d) x[d] = share * exp_lane(x[d] - log_of);
          if (wanted >= 0) x[wanted] = at_target;
        } else {
          for_packs(team, x, classes, [&](const Index first, E* at, const auto size) {
            using Words = Pack<E, decltype(size)::value>;
            Words pack = *reinterpret_cast<const Words*>(at);
            for (int k = 0; k < decltype(size)::value; ++k)
              pack.at[k] = share * exp_of<E>(pack.at[k] - log_of) - (first + k == wanted ? share : Real(0));
            *reinterpret_cast<Words*>(at) = pack;
          });
        }
      });
}

namespace {
int known_parameter(const Graph& g, const std::string& name, Index width) {
  const int w = g.layout().find(name);
  ensure(w >= 0 && g.layout()[w].shape.rank == 2 && g.layout()[w].shape[1] == width, "no parameter '", name, "' of ", width, " columns");
  return w;
}
}  // namespace

Node tied_linear(Graph& g, Node x, const std::string& weight) {
  const Index rows = g.shape(x)[0], width = g.shape(x)[1];
  const int w = known_parameter(g, weight, width);
  const Index classes = g.layout()[w].shape[0];
  Record r;
  r.op = "tied_linear";
  r.inputs = {x};
  r.parameters = {w};
  r.shape = {rows, classes};
  r.takes_bf16 = true;
  r.keep = {x};
  r.flops = 2.0 * static_cast<double>(rows * classes) * static_cast<double>(width);
  r.forward = [=](Replay& p, Node y) {
    backend::multiply(p.exec, false, true, rows, classes, width, {p.any_value(x), width}, {p.parameter(w), width}, false, {p.value(y), classes});
  };
  r.backward = [=](Replay& p, Node y) {
    if (p.trains(w)) {
      const GradSlot dw = p.parameter_grad(w);
      backend::multiply(p.exec, true, false, classes, width, rows, {p.grad_of(y), classes}, {p.any_value(x), width}, dw.add, {dw.data, width});
    }
    if (!p.wants_grad(x)) return;
    const AnyGradSlot dx = p.any_grad(x);
    backend::multiply(p.exec, false, false, rows, width, classes, {p.grad_of(y), classes}, {p.parameter(w), width}, dx.add, {dx.data, width});
  };
  return g.record(std::move(r));
}

Node tied_cross_entropy(Graph& g, Node x, const std::string& weight, Node target) {
  const Index rows = g.shape(x)[0], width = g.shape(x)[1];
  ensure(g.shape(x).rank == 2 && g.shape(target).size() == rows, "tied_cross_entropy wants [N, D] and [N], not ", g.shape(x).text(), " and ",
         g.shape(target).text());
  const int w = known_parameter(g, weight, width);
  const Index classes = g.layout()[w].shape[0];
  const bool bf16 = g.bf16(x);  // the logits then are too
  const Index pitch = bf16 ? bf16_pitch(classes) : classes, logit_words = bf16 ? rows * pitch / 2 : rows * pitch;
  Record r;
  r.op = "tied_cross_entropy";
  r.inputs = {x, target};
  r.parameters = {w};
  r.shape = {1};
  r.takes_bf16 = true;
  r.keep = {x, target};
  r.saved = logit_words + rows + 1;  // logits, log_sum, number of targets
  r.scratch_forward = rows;
  r.flops = 2.0 * static_cast<double>(rows * classes) * static_cast<double>(width);
  const auto logits_of = [=](const Vec& kept) -> AnyVec {
    if (!bf16) return slice(kept, 0, logit_words);
    return Bf16Vec(reinterpret_cast<Bfloat16*>(kept.data()), static_cast<size_t>(rows * pitch));
  };
  r.forward = [=](Replay& p, Node y) {
    const Vec kept = p.saved(y), log_sum = slice(kept, logit_words, rows);
    const AnyVec logits = logits_of(kept);
    backend::multiply(p.exec, false, true, rows, classes, width, {p.any_value(x), width}, {p.parameter(w), width}, false, {logits, pitch});
    std::visit([&](const auto& all) { softmax_terms(p.exec, rows, classes, pitch, all, p.ints(target), p.scratch(y), log_sum); }, logits);
    mean_of_counted(p.exec, rows, p.ints(target), p.scratch(y), p.value(y), slice(kept, logit_words + rows, 1));
  };
  r.backward = [=](Replay& p, Node y) {
    const Vec kept = p.saved(y), log_sum = slice(kept, logit_words, rows), count = slice(kept, logit_words + rows, 1);
    const AnyVec logits = logits_of(kept);
    std::visit([&](const auto& all) { softmax_gradient(p.exec, rows, classes, pitch, p.ints(target), log_sum, count, p.grad_of(y), all); }, logits);
    if (p.trains(w)) {
      const GradSlot dw = p.parameter_grad(w);
      backend::multiply(p.exec, true, false, classes, width, rows, {logits, pitch}, {p.any_value(x), width}, dw.add, {dw.data, width});
    }
    if (!p.wants_grad(x)) return;
    const AnyGradSlot dx = p.any_grad(x);
    backend::multiply(p.exec, false, false, rows, width, classes, {logits, pitch}, {p.parameter(w), width}, dx.add, {dx.data, width});
  };
  return g.record(std::move(r));
}

namespace {
constexpr Index kLogitWords = Index(1) << 22;  // of the rows whose logits exist at a time: 16 MB

/// `count` rows from `first` of a matrix without gaps.
backend::Matrix rows_of(const AnyVec& v, Index first, Index count, Index width) {
  return std::visit([&](const auto& all) { return backend::Matrix(slice(all, first * width, count * width), width); }, v);
}

/// Rows of logits at a time.
Index block_rows(Index rows, Index classes) { return std::clamp<Index>(kLogitWords / classes, 1, rows); }
}  // namespace

/// to[n] = -from[n]: log likelihood of softmax_terms' -log p.
void negate(const Exec& exec, Index rows, ConstVec from, Vec to) {
  Kokkos::parallel_for("varion::tied_head::negate", Range(exec, 0, rows), KOKKOS_LAMBDA(const Index n) { to(n) = -from(n); });
}

Node tied_log_likelihood(Graph& g, Node x, const std::string& weight, Node target) {
  const Index rows = g.shape(x)[0], width = g.shape(x)[1];
  ensure(g.shape(x).rank == 2 && g.shape(target).size() == rows, "tied_log_likelihood wants [N, D] and [N], not ", g.shape(x).text(), " and ",
         g.shape(target).text());
  const int w = known_parameter(g, weight, width);
  const Index classes = g.layout()[w].shape[0], block = block_rows(rows, classes);
  Record r;
  r.op = "tied_log_likelihood";
  r.inputs = {x, target};
  r.parameters = {w};
  r.shape = {rows, 1};
  r.takes_bf16 = true;
  r.keep = {x, target};
  r.scratch_forward = r.scratch_backward = block * classes + 2 * block;  // logits, terms, log_sum
  r.flops = 2.0 * static_cast<double>(rows * classes) * static_cast<double>(width);
  // Writes logits, terms and log_sum of `count` rows from `first` into the scratch.
  const auto logits_of = [=](Replay& p, Node y, Index first, Index count) {
    const Vec work = p.scratch(y);
    const Vec logits = slice(work, 0, count * classes), term = slice(work, block * classes, count), log_sum = slice(work, block * classes + block, count);
    backend::multiply(p.exec, false, true, count, classes, width, rows_of(p.any_value(x), first, count, width), {p.parameter(w), width}, false,
                      {logits, classes});
    softmax_terms(p.exec, count, classes, classes, logits, slice(p.ints(target), first, count), term, log_sum);
  };
  r.forward = [=](Replay& p, Node y) {
    for (Index first = 0; first < rows; first += block) {
      const Index count = std::min(block, rows - first);
      logits_of(p, y, first, count);
      negate(p.exec, count, slice(p.scratch(y), block * classes, count), slice(p.value(y), first, count));
    }
  };
  r.backward = [=](Replay& p, Node y) {
    const bool wants = p.wants_grad(x), trains = p.trains(w);
    const GradSlot dw = trains ? p.parameter_grad(w) : GradSlot{};
    const AnyGradSlot dx = wants ? p.any_grad(x) : AnyGradSlot{};
    for (Index first = 0; first < rows; first += block) {
      const Index count = std::min(block, rows - first);
      logits_of(p, y, first, count);
      const Vec logits = slice(p.scratch(y), 0, count * classes);
      softmax_gradient(p.exec, count, classes, classes, slice(p.ints(target), first, count), slice(p.scratch(y), block * classes + block, count), ConstVec(),
                       slice(p.grad_of(y), first, count), logits);
      if (trains)
        backend::multiply(p.exec, true, false, classes, width, count, {logits, classes}, rows_of(p.any_value(x), first, count, width),
                          dw.add || first > 0, {dw.data, width});
      if (wants)
        backend::multiply(p.exec, false, false, count, width, classes, {logits, classes}, {p.parameter(w), width}, dx.add,
                          rows_of(dx.data, first, count, width));
    }
  };
  return g.record(std::move(r));
}

namespace {
// A table that both cases take from an embedding; the tokens are the targets too.
const EmbeddingOptions kTable{19, 3, 6, 3, Real(0.5)};
bool register_tied_head() {
  OpCase loss{"6 rows, 19 classes", {{6}, {6, 6}}, [](Graph& g, const std::vector<Node>& x) {
                return tied_cross_entropy(g, add(g, embedding(g, x[0], "t", kTable), x[1]), "t.wte.weight", x[0]);
              }, 0, 19};
  OpCase logits{"6 rows, 19 classes", {{6}, {6, 6}}, [](Graph& g, const std::vector<Node>& x) {
                  return tied_linear(g, add(g, embedding(g, x[0], "t", kTable), x[1]), "t.wte.weight");
                }, 0, 19};
  OpCase terms{"6 rows, 19 classes", {{6}, {6, 6}}, [](Graph& g, const std::vector<Node>& x) {
                 return tied_log_likelihood(g, add(g, embedding(g, x[0], "t", kTable), x[1]), "t.wte.weight", x[0]);
               }, 0, 19};
  return Ops::of().add("tied_log_likelihood", {"log softmax(x W^T)[target] of every row, W a table known already", {terms}}) &&
         Ops::of().add("tied_cross_entropy", {"mean of -log softmax(x W^T)[target], W a table known already", {loss}}) &&
         Ops::of().add("tied_linear", {"x W^T, W a table known already", {logits}});
}
const bool registered_tied_head = register_tied_head();
}  // namespace

}  // namespace varion
