// Layer normalisation (Ba, Kiros and Hinton 2016), a row of D numbers at a time.
#include <cmath>

#include "core/random.hpp"
#include "ops/column_sum.hpp"
#include "ops/layer_norm.hpp"
#include "ops/ops.hpp"

namespace varion {

inline constexpr Index kLayerNormRows = kHostExec ? 64 : 16;  // rows whose part of the parameters' gradient is summed first
inline constexpr int kTeamRows = kHostExec ? 1 : 4;               // of a team; on a GPU a warp has one

using One = std::integral_constant<int, 1>;
using Four = std::integral_constant<int, 4>;

/// `n` numbers from `at` on, as one access.
template <int n, class E>
KOKKOS_INLINE_FUNCTION Pack<Real, n> load_pack(const E* at) {
  const auto from = *reinterpret_cast<const Pack<E, n>*>(at);
  Pack<Real, n> to;
  for (int k = 0; k < n; ++k) to.at[k] = from.at[k];
  return to;
}
template <int n, class E>
KOKKOS_INLINE_FUNCTION void store_pack(const Pack<Real, n>& from, E* at) {
  Pack<E, n> to;
  for (int k = 0; k < n; ++k) to.at[k] = from.at[k];
  *reinterpret_cast<Pack<E, n>*>(at) = to;
}

/// Whether a GPU's threads can take four numbers of a row at a time.
template <class... V>
bool lie_in_fours(Index width, const V&... v) {
  return width % 4 == 0 && ((reinterpret_cast<std::uintptr_t>(v.data()) % sizeof(Pack<typename V::non_const_value_type, 4>) == 0) && ...);
}

/// The sum over a row of f(d, n), which is that of numbers d ... d + n - 1: in lanes on a host, n = 1.
template <class Body>
KOKKOS_INLINE_FUNCTION Real row_sum(const Member& team, Index width, bool fours, const Body& f) {
  Real total = 0;
  if (kHostExec) {
    constexpr int lanes = 16;
    Real part[lanes] = {};
    Index d = 0;
    for (; d + lanes <= width; d += lanes)
      for (int k = 0; k < lanes; ++k) part[k] += f(d + k, One());
    for (int k = 0; d < width; ++d, ++k) part[k] += f(d, One());
    for (int k = 0; k < lanes; ++k) total += part[k];
  } else if (fours) {
    Kokkos::parallel_reduce(Kokkos::ThreadVectorRange(team, width / 4), [&](const Index i, Real& s) { s += f(4 * i, Four()); }, total);
  } else {
    Kokkos::parallel_reduce(Kokkos::ThreadVectorRange(team, width), [&](const Index d, Real& s) { s += f(d, One()); }, total);
  }
  return total;
}

/// f(d, n) for all numbers of a row.
template <class Body>
KOKKOS_INLINE_FUNCTION void row_for(const Member& team, Index width, bool fours, const Body& f) {
  if (kHostExec) {
    VARION_IVDEP
    for (Index d = 0; d < width; ++d) f(d, One());
  } else if (fours) {
    Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, width / 4), [&](const Index i) { f(4 * i, Four()); });
  } else {
    Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, width), [&](const Index d) { f(d, One()); });
  }
}

inline Team row_teams(const Exec& exec, Index rows) {
  return Team(exec, static_cast<int>((rows + kTeamRows - 1) / kTeamRows), kTeamRows, kHostExec ? 1 : 32);
}

/// y = gamma (x - mean) r + beta, r = 1/sqrt(var + epsilon); mean and r [N] are kept. 8 bytes per element, 6 with y in bfloat16.
/// With `a` x is first written, a + b: 16 bytes per element, 12 with b and y in bfloat16.
template <class B, class V>
void layer_norm_forward(const Exec& exec, Index rows, Index width, Real epsilon, ConstVec a, const B& b, Vec x, ConstVec gamma, ConstVec beta,
                        Vec mean, Vec r, const V& y) {
  const bool sums = a.extent(0) > 0, shifts = beta.extent(0) > 0, fours = lie_in_fours(width, x, y) && (!sums || lie_in_fours(width, a, b));
  Kokkos::parallel_for(
      "varion::layer_norm::forward", row_teams(exec, rows), KOKKOS_LAMBDA(const Member& team) {
        const Index n = team.league_rank() * kTeamRows + team.team_rank();
        if (n >= rows) return;
        Real* const in = x.data() + n * width;
        auto* const out = y.data() + n * width;
        if (sums) {
          const Real* const first = a.data() + n * width;
          const auto* const second = b.data() + n * width;
          row_for(team, width, fours, [&](const Index d, const auto count) {
            constexpr int k_end = decltype(count)::value;
            auto sum = load_pack<k_end>(first + d);
            const auto other = load_pack<k_end>(second + d);
            for (int k = 0; k < k_end; ++k) sum.at[k] += other.at[k];
            store_pack(sum, in + d);  // a thread reads what it wrote
          });
        }
        const Real *const scale = gamma.data(), *const shift = beta.data();
        const Real m = row_sum(team, width, fours, [&](const Index d, const auto count) {
          constexpr int k_end = decltype(count)::value;
          const auto v = load_pack<k_end>(in + d);
          Real s = v.at[0];
          for (int k = 1; k < k_end; ++k) s += v.at[k];
          return s;
        }) / static_cast<Real>(width);
        const Real v = row_sum(team, width, fours, [&](const Index d, const auto count) {
          constexpr int k_end = decltype(count)::value;
          const auto all = load_pack<k_end>(in + d);
          Real s = (all.at[0] - m) * (all.at[0] - m);
          for (int k = 1; k < k_end; ++k) s += (all.at[k] - m) * (all.at[k] - m);
          return s;
        }) / static_cast<Real>(width);
        const Real root = 1 / std::sqrt(v + epsilon);
        row_for(team, width, fours, [&](const Index d, const auto count) {
          constexpr int k_end = decltype(count)::value;
          auto all = load_pack<k_end>(in + d);
          if (shifts)
            for (int k = 0; k < k_end; ++k) all.at[k] = std::fma(scale[d + k] * root, all.at[k] - m, shift[d + k]);
          else
            for (int k = 0; k < k_end; ++k) all.at[k] = scale[d + k] * root * (all.at[k] - m);
          store_pack(all, out + d);
        });
        Kokkos::single(Kokkos::PerThread(team), [&] {
          mean(n) = m;
          r(n) = root;
        });
      });
}

/// A row's dx (+)= r (e - mean(e) - z mean(e z)), z = (x - mean) r, e = dy gamma.
template <class E>
KOKKOS_INLINE_FUNCTION void row_gradient(const Member& team, Index width, bool fours, const Real* in, const Real* scale, const E* above, Real m,
                                         Real root, bool add, Real* to) {
  const Real share = 1 / static_cast<Real>(width);
  const Real e = share * row_sum(team, width, fours, [&](const Index d, const auto count) {
    constexpr int k_end = decltype(count)::value;
    const auto dy = load_pack<k_end>(above + d);
    Real s = dy.at[0] * scale[d];
    for (int k = 1; k < k_end; ++k) s += dy.at[k] * scale[d + k];
    return s;
  });
  const Real ez = share * row_sum(team, width, fours, [&](const Index d, const auto count) {
    constexpr int k_end = decltype(count)::value;
    const auto dy = load_pack<k_end>(above + d);
    const auto x = load_pack<k_end>(in + d);
    Real s = dy.at[0] * scale[d] * (x.at[0] - m) * root;
    for (int k = 1; k < k_end; ++k) s += dy.at[k] * scale[d + k] * (x.at[k] - m) * root;
    return s;
  });
  const auto slopes = [&](const Index d, const auto count) {
    constexpr int k_end = decltype(count)::value;
    const auto dy = load_pack<k_end>(above + d);
    auto x = load_pack<k_end>(in + d);
    for (int k = 0; k < k_end; ++k) x.at[k] = root * (std::fma(dy.at[k], scale[d + k], -e) - (x.at[k] - m) * root * ez);
    return x;
  };
  if (add)  // not in the loop, which a host's compiler then leaves scalar
    row_for(team, width, fours, [&](const Index d, const auto count) {
      auto dx = load_pack<decltype(count)::value>(to + d);
      const auto all = slopes(d, count);
      for (int k = 0; k < decltype(count)::value; ++k) dx.at[k] += all.at[k];
      store_pack(dx, to + d);
    });
  else
    row_for(team, width, fours, [&](const Index d, const auto count) { store_pack(slopes(d, count), to + d); });
}

template <class V>
void backward_in_one(const Exec& exec, Index rows, Index width, ConstVec x, ConstVec gamma, ConstVec mean, ConstVec r, const V& dy, bool shifts,
                     bool wants, GradSlot out, Vec part) {
  const Vec dx = out.data;
  const bool add = out.add;
  const Index chunks = layer_norm_chunks(rows);
  Kokkos::parallel_for(
      "varion::layer_norm::backward", Team(exec, static_cast<int>(chunks), 1), KOKKOS_LAMBDA(const Member& team) {
        const Index chunk = team.league_rank();
        Real *const sum = part.data() + chunk * width, *const sum_dy = sum + chunks * width;
        for (Index d = 0; d < width; ++d) sum[d] = sum_dy[d] = 0;
        const Index end = (chunk + 1) * kLayerNormRows < rows ? (chunk + 1) * kLayerNormRows : rows;
        for (Index n = chunk * kLayerNormRows; n < end; ++n) {
          const Real* const in = x.data() + n * width;
          const auto* const above = dy.data() + n * width;
          const Real m = mean(n), root = r(n);
          row_for(team, width, false, [&](const Index d, const auto) { sum[d] = std::fma(above[d], (in[d] - m) * root, sum[d]); });
          if (shifts) row_for(team, width, false, [&](const Index d, const auto) { sum_dy[d] += above[d]; });
          if (wants) row_gradient(team, width, false, in, gamma.data(), above, m, root, add, dx.data() + n * width);
        }
      });
}

/// An item has `columns` columns of a chunk.
template <int columns, class V>
void parts_by_columns(const Exec& exec, Index rows, Index width, ConstVec x, ConstVec mean, ConstVec r, const V& dy, bool shifts, Vec part) {
  const Index chunks = layer_norm_chunks(rows), groups = width / columns;
  Kokkos::parallel_for(
      "varion::layer_norm::parameters", Range(exec, 0, chunks * groups), KOKKOS_LAMBDA(const Index item) {
        const Index chunk = item / groups, d = item % groups * columns;
        const Index end = (chunk + 1) * kLayerNormRows < rows ? (chunk + 1) * kLayerNormRows : rows;
        Real sum[columns] = {}, sum_dy[columns] = {};
        for (Index n = chunk * kLayerNormRows; n < end; ++n) {
          const auto above = load_pack<columns>(dy.data() + n * width + d), in = load_pack<columns>(x.data() + n * width + d);
          for (int k = 0; k < columns; ++k) {
            sum[k] = std::fma(above.at[k], (in.at[k] - mean(n)) * r(n), sum[k]);
            sum_dy[k] += above.at[k];
          }
        }
        for (int k = 0; k < columns; ++k) {
          part(chunk * width + d + k) = sum[k];
          if (shifts) part((chunks + chunk) * width + d + k) = sum_dy[k];
        }
      });
}

template <class V>
void backward_by_rows(const Exec& exec, Index rows, Index width, ConstVec x, ConstVec gamma, ConstVec mean, ConstVec r, const V& dy, bool shifts,
                      bool wants, GradSlot out, Vec part) {
  const Vec dx = out.data;
  const bool add = out.add;
  const bool fours = lie_in_fours(width, x, dy) && (!wants || lie_in_fours(width, dx));
  if (wants)
    Kokkos::parallel_for(
        "varion::layer_norm::backward", row_teams(exec, rows), KOKKOS_LAMBDA(const Member& team) {
          const Index n = team.league_rank() * kTeamRows + team.team_rank();
          if (n >= rows) return;
          row_gradient(team, width, fours, x.data() + n * width, gamma.data(), dy.data() + n * width, mean(n), r(n), add, dx.data() + n * width);
        });
  if (!kHostExec && fours) parts_by_columns<4>(exec, rows, width, x, mean, r, dy, shifts, part);
  else parts_by_columns<1>(exec, rows, width, x, mean, r, dy, shifts, part);
}

void layer_norm_backward(const Exec& exec, Index rows, Index width, ConstVec x, ConstVec gamma, ConstVec mean, ConstVec r, const AnyVec& dy,
                         bool shifts, bool wants, GradSlot dx, Vec part) {
  std::visit([&](const auto& d) { backward_in_one(exec, rows, width, x, gamma, mean, r, d, shifts, wants, dx, part); }, dy);
}
void layer_norm_backward_rows(const Exec& exec, Index rows, Index width, ConstVec x, ConstVec gamma, ConstVec mean, ConstVec r,
                              const AnyVec& dy, bool shifts, bool wants, GradSlot dx, Vec part) {
  std::visit([&](const auto& d) { backward_by_rows(exec, rows, width, x, gamma, mean, r, d, shifts, wants, dx, part); }, dy);
}

Index layer_norm_chunks(Index rows) { return (rows + kLayerNormRows - 1) / kLayerNormRows; }

Node layer_norm(Graph& g, Node x, const std::string& name, bool bias, Real epsilon, bool for_products) {
  const Shape shape = g.shape(x);
  ensure(shape.rank == 2, "layer_norm '", name, "' wants [N, D], not ", shape.text());
  const Index rows = shape[0], width = shape[1], chunks = layer_norm_chunks(rows);
  const int gamma = g.parameter(name + ".weight", {width}, {Init::Kind::constant, 1});
  const int beta = bias ? g.parameter(name + ".bias", {width}, {Init::Kind::constant, 0}) : -1;
  Record r;
  r.op = "layer_norm";
  r.inputs = {x};
  r.parameters = {gamma};
  if (bias) r.parameters.push_back(beta);
  r.shape = shape;
  r.bf16 = for_products && g.keeps_bf16();
  const bool sums = g.is_open_sum(x) && !g.bf16(g.inputs(x)[0]);
  const Node a = sums ? g.inputs(x)[0] : Node{}, b = sums ? g.inputs(x)[1] : Node{};
  if (sums) r.sum = x;
  r.keep = {x};
  r.saved = 2 * rows;
  r.scratch_backward = chunks * 2 * width + column_sum_words(chunks, width);
  r.forward = [=](Replay& p, Node y) {
    const Vec kept = p.saved(y);
    std::visit([&](const auto& second, const auto& out) {
      layer_norm_forward(p.exec, rows, width, epsilon, sums ? ConstVec(p.value(a)) : ConstVec(), second, p.value(x), p.parameter(gamma),
                         bias ? p.parameter(beta) : ConstVec(), slice(kept, 0, rows), slice(kept, rows, rows), out);
    }, sums ? p.any_value(b) : AnyVec(Vec()), p.any_value(y));
  };
  if (may_let_go(shape))
    r.again = [=](Replay& p, Node y) {  // the sum is there by now
      const Vec kept = p.saved(y);
      std::visit([&](const auto& out) {
        layer_norm_forward(p.exec, rows, width, epsilon, ConstVec(), Vec(), p.value(x), p.parameter(gamma), bias ? p.parameter(beta) : ConstVec(),
                           slice(kept, 0, rows), slice(kept, rows, rows), out);
      }, p.any_value(y));
    };
  r.backward = [=](Replay& p, Node y) {
    const Vec kept = p.saved(y), part = p.scratch(y);
    const bool wants = p.wants_grad(x);
    (kHostExec ? layer_norm_backward : layer_norm_backward_rows)(
        p.exec, rows, width, p.value(x), p.parameter(gamma), slice(kept, 0, rows), slice(kept, rows, rows),
                        p.any_grad_of(y), bias, wants, wants ? p.grad(x) : GradSlot{}, part);
    const Vec rest = slice(part, 2 * chunks * width, column_sum_words(chunks, width));
    if (p.trains(gamma)) column_sum(p.exec, chunks, width, slice(part, 0, chunks * width), p.parameter_grad(gamma), rest);
    if (bias && p.trains(beta)) column_sum(p.exec, chunks, width, slice(part, chunks * width, chunks * width), p.parameter_grad(beta), rest);
  };
  return g.record(std::move(r));
}

namespace {
bool register_layer_norm() {
  return Ops::of().add(
      "layer_norm", {"gamma (x - mean) / sqrt(var + eps) + beta over a row",
                     {{"70x19", {{70, 19}}, [](Graph& g, const std::vector<Node>& x) { return layer_norm(g, x[0], "ln", true); }},
                      {"of a sum", {{5, 12}, {5, 12}}, [](Graph& g, const std::vector<Node>& x) {
                         const Node sum = add(g, tanh(g, x[0]), x[1]);
                         return add(g, layer_norm(g, sum, "ln", true), sum);
                       }},
                      {"no bias", {{3, 33}}, [](Graph& g, const std::vector<Node>& x) { return layer_norm(g, x[0], "ln", false); }}}});
}
const bool registered_layer_norm = register_layer_norm();
}  // namespace

}  // namespace varion
