// Layer normalisation (Ba, Kiros and Hinton 2016), a row of D numbers at a time.
#include <cmath>

#include "core/random.hpp"
#include "ops/column_sum.hpp"
#include "ops/layer_norm.hpp"
#include "ops/ops.hpp"

namespace varion {

inline constexpr Index kLayerNormRows = kHostExec ? 64 : 16;  // rows whose part of the parameters' gradient is summed first
inline constexpr int kTeamRows = kHostExec ? 1 : 4;               // of a team; on a GPU a warp has one

/// The sum over a row of f(d), in lanes on a host.
template <class Body>
KOKKOS_INLINE_FUNCTION Real row_sum(const Member& team, Index width, const Body& f) {
  Real total = 0;
  if (kHostExec) {
    constexpr int lanes = 16;
    Real part[lanes] = {};
    Index d = 0;
    for (; d + lanes <= width; d += lanes)
      for (int k = 0; k < lanes; ++k) part[k] += f(d + k);
    for (int k = 0; d < width; ++d, ++k) part[k] += f(d);
    for (int k = 0; k < lanes; ++k) total += part[k];
  } else {
    Kokkos::parallel_reduce(Kokkos::ThreadVectorRange(team, width), [&](const Index d, Real& s) { s += f(d); }, total);
  }
  return total;
}

/// f(d) for every number of a row.
template <class Body>
KOKKOS_INLINE_FUNCTION void row_for(const Member& team, Index width, const Body& f) {
  if (kHostExec) {
    VARION_IVDEP
    for (Index d = 0; d < width; ++d) f(d);
  } else {
    Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, width), f);
  }
}

inline Team row_teams(const Exec& exec, Index rows) {
  return Team(exec, static_cast<int>((rows + kTeamRows - 1) / kTeamRows), kTeamRows, kHostExec ? 1 : 32);
}

/// y = gamma (x - mean) r + beta, r = 1/sqrt(var + epsilon); mean and r [N] are kept. 8 bytes per element.
void layer_norm_forward(const Exec& exec, Index rows, Index width, Real epsilon, ConstVec x, ConstVec gamma, ConstVec beta, Vec mean,
                        Vec r, Vec y) {
  const bool shifts = beta.extent(0) > 0;
  Kokkos::parallel_for(
      "varion::layer_norm::forward", row_teams(exec, rows), KOKKOS_LAMBDA(const Member& team) {
        const Index n = team.league_rank() * kTeamRows + team.team_rank();
        if (n >= rows) return;
        const Real* const in = x.data() + n * width;
        Real* const out = y.data() + n * width;
        const Real *const scale = gamma.data(), *const shift = beta.data();
        const Real m = row_sum(team, width, [&](const Index d) { return in[d]; }) / static_cast<Real>(width);
        const Real v = row_sum(team, width, [&](const Index d) { return (in[d] - m) * (in[d] - m); }) / static_cast<Real>(width);
        const Real root = 1 / std::sqrt(v + epsilon);
        if (shifts) row_for(team, width, [&](const Index d) { out[d] = std::fma(scale[d] * root, in[d] - m, shift[d]); });
        else row_for(team, width, [&](const Index d) { out[d] = scale[d] * root * (in[d] - m); });
        Kokkos::single(Kokkos::PerThread(team), [&] {
          mean(n) = m;
          r(n) = root;
        });
      });
}

/// A row's dx (+)= r (e - mean(e) - z mean(e z)), z = (x - mean) r, e = dy gamma.
KOKKOS_INLINE_FUNCTION void row_gradient(const Member& team, Index width, const Real* in, const Real* scale, const Real* above, Real m,
                                         Real root, bool add, Real* to) {
  const Real share = 1 / static_cast<Real>(width);
  const Real e = share * row_sum(team, width, [&](const Index d) { return above[d] * scale[d]; });
  const Real ez = share * row_sum(team, width, [&](const Index d) { return above[d] * scale[d] * (in[d] - m) * root; });
  const auto slope = [&](const Index d) { return root * (std::fma(above[d], scale[d], -e) - (in[d] - m) * root * ez); };
  if (add) row_for(team, width, [&](const Index d) { to[d] += slope(d); });
  else row_for(team, width, [&](const Index d) { to[d] = slope(d); });
}

void layer_norm_backward(const Exec& exec, Index rows, Index width, ConstVec x, ConstVec gamma, ConstVec mean, ConstVec r,
                         ConstVec dy, bool shifts, bool wants, GradSlot out, Vec part) {
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
          const Real *const in = x.data() + n * width, *const above = dy.data() + n * width;
          const Real m = mean(n), root = r(n);
          row_for(team, width, [&](const Index d) { sum[d] = std::fma(above[d], (in[d] - m) * root, sum[d]); });
          if (shifts) row_for(team, width, [&](const Index d) { sum_dy[d] += above[d]; });
          if (wants) row_gradient(team, width, in, gamma.data(), above, m, root, add, dx.data() + n * width);
        }
      });
}

void layer_norm_backward_rows(const Exec& exec, Index rows, Index width, ConstVec x, ConstVec gamma, ConstVec mean, ConstVec r,
                              ConstVec dy, bool shifts, bool wants, GradSlot out, Vec part) {
  const Vec dx = out.data;
  const bool add = out.add;
  if (wants)
    Kokkos::parallel_for(
        "varion::layer_norm::backward", row_teams(exec, rows), KOKKOS_LAMBDA(const Member& team) {
          const Index n = team.league_rank() * kTeamRows + team.team_rank();
          if (n >= rows) return;
          row_gradient(team, width, x.data() + n * width, gamma.data(), dy.data() + n * width, mean(n), r(n), add, dx.data() + n * width);
        });
  const Index chunks = layer_norm_chunks(rows);
  Kokkos::parallel_for(
      "varion::layer_norm::parameters", Range(exec, 0, chunks * width), KOKKOS_LAMBDA(const Index item) {
        const Index chunk = item / width, d = item % width;
        const Index end = (chunk + 1) * kLayerNormRows < rows ? (chunk + 1) * kLayerNormRows : rows;
        Real sum = 0, sum_dy = 0;
        for (Index n = chunk * kLayerNormRows; n < end; ++n) {
          const Real above = dy(n * width + d);
          sum = std::fma(above, (x(n * width + d) - mean(n)) * r(n), sum);
          sum_dy += above;
        }
        part(item) = sum;
        if (shifts) part(chunks * width + item) = sum_dy;
      });
}

Index layer_norm_chunks(Index rows) { return (rows + kLayerNormRows - 1) / kLayerNormRows; }

Node layer_norm(Graph& g, Node x, const std::string& name, bool bias, Real epsilon) {
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
  r.keep = {x};
  r.saved = 2 * rows;
  r.scratch_backward = chunks * 2 * width + column_sum_words(chunks, width);
  r.forward = [=](Replay& p, Node y) {
    const Vec kept = p.saved(y);
    layer_norm_forward(p.exec, rows, width, epsilon, p.value(x), p.parameter(gamma), bias ? p.parameter(beta) : ConstVec(),
                       slice(kept, 0, rows), slice(kept, rows, rows), p.value(y));
  };
  r.backward = [=](Replay& p, Node y) {
    const Vec kept = p.saved(y), part = p.scratch(y);
    const bool wants = p.wants_grad(x);
    (kHostExec ? layer_norm_backward : layer_norm_backward_rows)(
        p.exec, rows, width, p.value(x), p.parameter(gamma), slice(kept, 0, rows), slice(kept, rows, rows),
                        p.grad_of(y), bias, wants, wants ? p.grad(x) : GradSlot{}, part);
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
                      {"no bias", {{3, 33}}, [](Graph& g, const std::vector<Node>& x) { return layer_norm(g, x[0], "ln", false); }}}});
}
const bool registered_layer_norm = register_layer_norm();
}  // namespace

}  // namespace varion
