// Attention by teams: one of its rows at a time stands in a team's fast memory.
#include <cmath>

#include "backends/portable/team.hpp"
#include "core/vector_math.hpp"

namespace varion::backend {

namespace {
using Row = Kokkos::View<Real*, Exec::scratch_memory_space, Kokkos::MemoryUnmanaged>;

/// A team a row, with room for `rows` rows of `length` numbers.
Team row_teams(const Exec& exec, Index items, int rows, Index length) {
  constexpr int threads = kHostExec ? 1 : 128;
  const size_t bytes = static_cast<size_t>(rows) * Row::shmem_size(static_cast<size_t>(length));
  // Fast memory holds some ten thousand numbers; longer rows stand in the device's.
  const int level = bytes > (size_t(32) << 10) ? 1 : 0;
  return Team(exec, static_cast<int>(items), threads).set_scratch_size(level, Kokkos::PerTeam(static_cast<int>(bytes)));
}
int level_of(int rows, Index length) {
  return static_cast<size_t>(rows) * Row::shmem_size(static_cast<size_t>(length)) > (size_t(32) << 10) ? 1 : 0;
}
}  // namespace

KOKKOS_INLINE_FUNCTION Real dot(const Real* a, const Real* b, Index n) {
  Real sum = 0;
  for (Index k = 0; k < n; ++k) sum = std::fma(a[k], b[k], sum);
  return sum;
}

Index team_attention_words(const Attention& s, bool backward) { return backward ? s.rows() * s.heads : 0; }

void team_attention_forward(const Exec& exec, const Attention& s, ConstVec qkv, Vec y, Vec log_sum) {
  const Real scale = 1 / std::sqrt(static_cast<Real>(s.width));
  const Index next = s.heads * s.width;
  const int level = level_of(1, s.length);
  Kokkos::parallel_for(
      "varion::attention::team_forward", row_teams(exec, s.rows() * s.heads, 1, s.length), KOKKOS_LAMBDA(const Member& team) {
        const Index item = team.league_rank() / s.length, i = team.league_rank() % s.length, seen = s.causal ? i + 1 : s.length;
        const Row p(team.team_scratch(level), static_cast<size_t>(s.length));
        const Real* const q = qkv.data() + s.query(item);
        Real top = 0, sum = 0;
        Kokkos::parallel_reduce(
            Kokkos::TeamThreadRange(team, seen),
            [&](const Index j, Real& most) {
              const Real x = scale * dot(q + i * s.pitch(), q + next + j * s.pitch(), s.width);
              p(j) = x;
              most = x > most ? x : most;
            },
            Kokkos::Max<Real>(top));
        Kokkos::parallel_reduce(
            Kokkos::TeamThreadRange(team, seen),
            [&](const Index j, Real& total) {
              p(j) = exp_lane(p(j) - top);
              total += p(j);
            },
            sum);
        team.team_barrier();
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, s.width), [&](const Index k) {
          Real total = 0;
          for (Index j = 0; j < seen; ++j) total = std::fma(p(j), q[2 * next + j * s.pitch() + k], total);
          y(s.output(item) + i * next + k) = total / sum;
        });
        Kokkos::single(Kokkos::PerTeam(team), [&] { log_sum(item * s.length + i) = top + std::log(sum); });
      });
}

/// along[item, i] = dy . y of the query, and the gradient of the queries.
void attention_query_gradient(const Exec& exec, const Attention& s, ConstVec qkv, ConstVec y, ConstVec dy, ConstVec log_sum, bool add,
                              Vec dqkv, Vec along) {
  const Real scale = 1 / std::sqrt(static_cast<Real>(s.width));
  const Index next = s.heads * s.width;
  const int level = level_of(1, s.length);
  Kokkos::parallel_for(
      "varion::attention::queries", row_teams(exec, s.rows() * s.heads, 1, s.length), KOKKOS_LAMBDA(const Member& team) {
        const Index item = team.league_rank() / s.length, i = team.league_rank() % s.length, seen = s.causal ? i + 1 : s.length;
        const Row e(team.team_scratch(level), static_cast<size_t>(s.length));
        const Real* const q = qkv.data() + s.query(item);
        const Real* const above = dy.data() + s.output(item) + i * next;
        const Real d = dot(above, y.data() + s.output(item) + i * next, s.width);
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, seen), [&](const Index j) {
          const Real* const key = q + next + j * s.pitch();
          const Real w = exp_lane(std::fma(scale, dot(q + i * s.pitch(), key, s.width), -log_sum(item * s.length + i)));
          e(j) = scale * w * (dot(above, key + next, s.width) - d);
        });
        team.team_barrier();
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, s.width), [&](const Index k) {
          Real total = 0;
          for (Index j = 0; j < seen; ++j) total = std::fma(e(j), q[next + j * s.pitch() + k], total);
          Real& to = dqkv(s.query(item) + i * s.pitch() + k);
          to = add ? to + total : total;
        });
        Kokkos::single(Kokkos::PerTeam(team), [&] { along(item * s.length + i) = d; });
      });
}

/// The gradients of keys and values: a team a key goes through the queries that see it.
void attention_key_gradient(const Exec& exec, const Attention& s, ConstVec qkv, ConstVec dy, ConstVec log_sum, ConstVec along, bool add,
                            Vec dqkv) {
  const Real scale = 1 / std::sqrt(static_cast<Real>(s.width));
  const Index next = s.heads * s.width;
  const int level = level_of(2, s.length);
  Kokkos::parallel_for(
      "varion::attention::keys", row_teams(exec, s.rows() * s.heads, 2, s.length), KOKKOS_LAMBDA(const Member& team) {
        const Index item = team.league_rank() / s.length, j = team.league_rank() % s.length, first = s.causal ? j : 0;
        const Row p(team.team_scratch(level), static_cast<size_t>(s.length)), e(team.team_scratch(level), static_cast<size_t>(s.length));
        const Real* const q = qkv.data() + s.query(item);
        const Real *const key = q + next + j * s.pitch(), *const above = dy.data() + s.output(item);
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, s.length - first), [&](const Index from) {
          const Index i = first + from;
          const Real w = exp_lane(std::fma(scale, dot(q + i * s.pitch(), key, s.width), -log_sum(item * s.length + i)));
          p(i) = w;
          e(i) = scale * w * (dot(above + i * next, key + next, s.width) - along(item * s.length + i));
        });
        team.team_barrier();
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, s.width), [&](const Index k) {
          Real dk = 0, dv = 0;
          for (Index i = first; i < s.length; ++i) {
            dk = std::fma(e(i), q[i * s.pitch() + k], dk);
            dv = std::fma(p(i), above[i * next + k], dv);
          }
          Real* const to = dqkv.data() + s.query(item) + j * s.pitch() + k;
          to[next] = add ? to[next] + dk : dk;
          to[2 * next] = add ? to[2 * next] + dv : dv;
        });
      });
}

void team_attention_backward(const Exec& exec, const Attention& s, ConstVec qkv, ConstVec y, ConstVec dy, ConstVec log_sum, bool add,
                             Vec dqkv, Vec work) {
  attention_query_gradient(exec, s, qkv, y, dy, log_sum, add, dqkv, work);
  attention_key_gradient(exec, s, qkv, dy, log_sum, work, add, dqkv);
}

}  // namespace varion::backend
