// The GPU's product kernel: a team computes one TM x TN tile of C = A B, its words of A and B pass through team scratch,
// and every one of 16 x 16 (8 x 32, 4 x 64) slots keeps 4 x 4 sums in registers. What A, B and C are is said by
// functors: matrices for GEMM, patches of images (computed addresses, no columns in memory) for convolution.
//
// A loader is
//   struct { static constexpr bool kDeepFast;         // the summed index is the one with neighbouring words
//            using Outer, Inner;                      // what is worth keeping of an index
//            Outer outer(Index i); Inner inner(Index k); Real load(Outer, Inner); };
// A store is
//   struct { using Row; Row row(Index i); void put(Row, Index j, Index part, Real); };
//
// `Team` threads share the 256 slots: 256 on a GPU, one slot each; 1 on a host, where the tests run the same code.
#pragma once

#include "backends/portable/window.hpp"

namespace varion::backend {

template <class Space, int Team, int TM, int TN, class A, class B, class C>
struct TeamTiles {
  using Policy = Kokkos::TeamPolicy<Space, Kokkos::IndexType<Index>>;
  using Member = typename Policy::member_type;
  using Scratch = Kokkos::View<Real*, typename Space::scratch_memory_space, Kokkos::MemoryTraits<Kokkos::Unmanaged>>;
  static constexpr int kAll = TM * TN / 16, kSlots = kAll / Team, kDeep = TN >= 64 ? 16 : 8;
  static constexpr int kPitchA = TM + 1, kPitchB = TN + 1;  // + 1: neighbouring k fall into different banks
  static constexpr int kWords = kDeep * (kPitchA + kPitchB);
  template <int Side>  // words of a Side x kDeep block that one slot loads
  static constexpr int kLoads = (Side * kDeep + kAll - 1) / kAll;

  A a;
  B b;
  C c;
  Index m, n, k, parts;  // the sum over k in `parts` separate parts

  /// The block [kDeep][pitch] from summed index k0 on, zeros outside.
  template <int Side, class Loader>
  KOKKOS_INLINE_FUNCTION static void load(const Loader& from, const typename Loader::Outer (&outer)[kSlots][kLoads<Side>],
                                          Index first, Index extent, int slot0, Index k0, Index end, Real* to) {
    for (int s = 0; s < kSlots; ++s)
      for (int e = 0; e < kLoads<Side>; ++e) {
        const int word = slot0 + s + e * kAll;
        if (word >= Side * kDeep) continue;
        const int i = Loader::kDeepFast ? word / kDeep : word % Side, q = Loader::kDeepFast ? word % kDeep : word / Side;
        const bool inside = first + i < extent && k0 + q < end;
        to[q * (Side + 1) + i] = inside ? from.load(outer[s][e], from.inner(k0 + q)) : Real(0);
      }
  }

  /// What the loader keeps of the rows that each slot loads.
  template <int Side, class Loader>
  KOKKOS_INLINE_FUNCTION static void locate(const Loader& from, typename Loader::Outer (&outer)[kSlots][kLoads<Side>],
                                            Index first, Index extent, int slot0) {
    for (int s = 0; s < kSlots; ++s)
      for (int e = 0; e < kLoads<Side>; ++e) {
        const int word = slot0 + s + e * kAll;
        const Index i = first + (Loader::kDeepFast ? word / kDeep : word % Side);
        outer[s][e] = from.outer(i < extent ? i : extent - 1);
      }
  }

  KOKKOS_INLINE_FUNCTION static void multiply(const Real* sa, const Real* sb, int slot0, Real (&sum)[kSlots][4][4]) {
    for (int s = 0; s < kSlots; ++s) {
      const int y = (slot0 + s) / (TN / 4) * 4, x = (slot0 + s) % (TN / 4);
      for (int q = 0; q < kDeep; ++q)
        for (int i = 0; i < 4; ++i)
          for (int j = 0; j < 4; ++j)
            sum[s][i][j] = std::fma(sa[q * kPitchA + y + i], sb[q * kPitchB + x + j * (TN / 4)], sum[s][i][j]);
    }
  }

  KOKKOS_INLINE_FUNCTION void operator()(const Member& team) const {
    const Index across = (n + TN - 1) / TN, down = (m + TM - 1) / TM, tile = team.league_rank();
    const Index part = tile / (across * down), i0 = tile / across % down * TM, j0 = tile % across * TN;
    const Index begin = part * k / parts, end = (part + 1) * k / parts;
    const int slot0 = team.team_rank() * kSlots;
    const Scratch words(team.team_scratch(0), kWords);
    Real *sa = words.data(), *sb = sa + kDeep * kPitchA;
    typename A::Outer outer_a[kSlots][kLoads<TM>];
    typename B::Outer outer_b[kSlots][kLoads<TN>];
    locate<TM>(a, outer_a, i0, m, slot0);
    locate<TN>(b, outer_b, j0, n, slot0);
    Real sum[kSlots][4][4] = {};
    for (Index k0 = begin; k0 < end; k0 += kDeep) {
      load<TM>(a, outer_a, i0, m, slot0, k0, end, sa);
      load<TN>(b, outer_b, j0, n, slot0, k0, end, sb);
      team.team_barrier();
      multiply(sa, sb, slot0, sum);
      team.team_barrier();
    }
    for (int s = 0; s < kSlots; ++s)
      for (int i = 0; i < 4; ++i) {
        const Index row = i0 + (slot0 + s) / (TN / 4) * 4 + i;
        if (row >= m) continue;
        const typename C::Row at = c.row(row);
        for (int j = 0; j < 4; ++j) {
          const Index column = j0 + (slot0 + s) % (TN / 4) + j * (TN / 4);
          if (column < n) c.put(at, column, part, sum[s][i][j]);
        }
      }
  }
};

/// 2 m n k flops; A is moved n / TN times, B m / TM times, C once (4 bytes a word).
template <int TM, int TN, class Space, class A, class B, class C>
void launch_tiles(const char* label, const Space& space, const A& a, const B& b, const C& c, Index m, Index n, Index k,
                  Index parts) {
  constexpr bool host = Kokkos::SpaceAccessibility<Kokkos::HostSpace, typename Space::memory_space>::accessible;
  constexpr int team = host ? 1 : TM * TN / 16;
  using Kernel = TeamTiles<Space, team, TM, TN, A, B, C>;
  const Index tiles = (m + TM - 1) / TM * ((n + TN - 1) / TN) * parts;
  typename Kernel::Policy policy(space, static_cast<int>(tiles), team);
  const auto bytes = Kernel::Scratch::shmem_size(Kernel::kWords);
  policy.set_scratch_size(0, Kokkos::PerTeam(static_cast<int>(bytes)));
  // As arguments of the launch (4 kB at most): above 512 bytes Kokkos would copy them through one place in constant memory and wait there
  // for the kernel before, which a recorded pass must not.
  static_assert(sizeof(Kernel) < 3072, "the kernel's arguments do not fit a launch");
  Kokkos::parallel_for(label, Kokkos::Experimental::require(policy, Kokkos::Experimental::WorkItemProperty::HintLightWeight),
                       Kernel{a, b, c, m, n, k, parts});
}

/// Narrow tiles for few columns, so that no team computes mostly zeros.
template <class Space, class A, class B, class C>
void team_tiles(const char* label, const Space& space, const A& a, const B& b, const C& c, Index m, Index n, Index k,
                Index parts = 1) {
  if (n <= 16)
    launch_tiles<256, 16>(label, space, a, b, c, m, n, k, parts);
  else if (n <= 32)
    launch_tiles<128, 32>(label, space, a, b, c, m, n, k, parts);
  else
    launch_tiles<64, 64>(label, space, a, b, c, m, n, k, parts);
}

}  // namespace varion::backend
