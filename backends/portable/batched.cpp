// Many small products at once: attention has one for each image and head.
#include "backends/portable/batched.hpp"

namespace varion::backend {

inline constexpr Index kTile = kHostExec ? 16 : 1;  // neighbouring columns an item: one vector on a host

/// One item a row's tile: each factor A(i, q) meets kTile neighbours of B's row q.
void batched_gemm(const Exec& exec, bool ta, bool tb, Index batch, Index m, Index n, Index k, ConstVec a,
                  Index stride_a, ConstVec b, Index stride_b, bool add, Vec c, Index stride_c) {
  const Index tiles = (n + kTile - 1) / kTile;
  const Index a_row = ta ? 1 : k, a_column = ta ? m : 1, b_row = tb ? 1 : n, b_column = tb ? k : 1;
  Kokkos::parallel_for(
      "varion::gemm::batched", Range(exec, 0, batch * m * tiles), KOKKOS_LAMBDA(const Index item) {
        const Index one = item / (m * tiles), i = item / tiles % m, first = item % tiles * kTile;
        const Index count = n - first < kTile ? n - first : kTile;
        const Real* row = a.data() + one * stride_a + i * a_row;
        const Real* block = b.data() + one * stride_b + first * b_column;
        Real* out = c.data() + one * stride_c + i * n + first;
        Real sum[kTile];
        for (Index j = 0; j < count; ++j) sum[j] = add ? out[j] : Real(0);
        for (Index q = 0; q < k; ++q)
          for (Index j = 0; j < count; ++j) sum[j] += row[q * a_column] * block[q * b_row + j * b_column];
        for (Index j = 0; j < count; ++j) out[j] = sum[j];
      });
}

}  // namespace varion::backend
