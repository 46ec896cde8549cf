#include "backends/portable/team.hpp"
#include "backends/portable/team_tiles.hpp"

#include <KokkosKernels_config.h>
// A site's Kokkos Kernels may carry the GPU vendor's BLAS; then it is the better GEMM by far. Its own GEMM is not: on
// a host it reaches 3 to 16 GFLOP/s where host_gemm.cpp reaches 150.
#if defined(KOKKOSKERNELS_ENABLE_TPL_CUBLAS) || defined(KOKKOSKERNELS_ENABLE_TPL_ROCBLAS)
#define VARION_GEMM_OF_KOKKOS_KERNELS
#include <KokkosBlas3_gemm.hpp>
#endif

namespace varion::backend {

/// Operand of a product: words data[i row + k deep], one of the two steps being 1.
template <bool DeepFast>
struct MatrixLoad {
  static constexpr bool kDeepFast = DeepFast;
  using Outer = Index;
  using Inner = Index;
  const Real* data;
  Index pitch;
  KOKKOS_INLINE_FUNCTION Index outer(Index i) const { return DeepFast ? i * pitch : i; }
  KOKKOS_INLINE_FUNCTION Index inner(Index k) const { return DeepFast ? k : k * pitch; }
  KOKKOS_INLINE_FUNCTION Real load(Index o, Index i) const { return data[o + i]; }
};

struct MatrixStore {
  using Row = Index;
  Real* data;
  Index pitch;
  bool add;
  KOKKOS_INLINE_FUNCTION Index row(Index i) const { return i * pitch; }
  KOKKOS_INLINE_FUNCTION void put(Index at, Index j, Index, Real s) const {
    data[at + j] = add ? data[at + j] + s : s;
  }
};

#ifdef VARION_GEMM_OF_KOKKOS_KERNELS
void team_gemm(const Exec& exec, bool ta, bool tb, Index m, Index n, Index k, ConstVec a, ConstVec b, bool add, Vec c) {
  using Matrix = Kokkos::View<Real**, Kokkos::LayoutRight, Memory, Kokkos::MemoryTraits<Kokkos::Unmanaged>>;
  using ConstMatrix = Kokkos::View<const Real**, Kokkos::LayoutRight, Memory, Kokkos::MemoryTraits<Kokkos::Unmanaged>>;
  const auto size = [](Index i) { return static_cast<size_t>(i); };
  const ConstMatrix am(a.data(), size(ta ? k : m), size(ta ? m : k)), bm(b.data(), size(tb ? n : k), size(tb ? k : n));
  const Matrix cm(c.data(), size(m), size(n));
  const Real beta = add ? Real(1) : Real(0);  // at 0, a BLAS does not read C
#if KOKKOS_VERSION >= 40000
  KokkosBlas::gemm(exec, ta ? "T" : "N", tb ? "T" : "N", Real(1), am, bm, beta, cm);
#else
  exec.fence();  // Kokkos Kernels 3 runs on the default instance
  KokkosBlas::gemm(ta ? "T" : "N", tb ? "T" : "N", Real(1), am, bm, beta, cm);
#endif
}
#else
void team_gemm(const Exec& exec, bool ta, bool tb, Index m, Index n, Index k, ConstVec a, ConstVec b, bool add, Vec c) {
  const char* label = "varion::gemm::team";
  const MatrixStore to{c.data(), n, add};
  const Index pitch_a = ta ? m : k, pitch_b = tb ? k : n;
  const auto with = [&](const auto& am, const auto& bm) { team_tiles(label, exec, am, bm, to, m, n, k); };
  const MatrixLoad<true> a_rows{a.data(), pitch_a}, b_columns{b.data(), pitch_b};
  const MatrixLoad<false> a_columns{a.data(), pitch_a}, b_rows{b.data(), pitch_b};
  if (ta)
    tb ? with(a_columns, b_columns) : with(a_columns, b_rows);
  else
    tb ? with(a_rows, b_columns) : with(a_rows, b_rows);
}
#endif

}  // namespace varion::backend
