// GEMM on a host: an item packs a block of A and one of B, both for the cache, and covers its block of C with
// tiles of 8 x 16 (4 x 16 with few registers).
#include <algorithm>

#include "backends/portable/host.hpp"
#include "backends/portable/tile.hpp"

namespace varion::backend {

namespace {
constexpr Index kRows = 128, kCols = 64, kDepth = 192;  // a block of C, and of the sum
constexpr Index kPitch = kDepth + 16;                   // not a power of two: rows of A fall into different cache sets

/// Block [rows][kPitch] of A, or [depth][kRows] of a transposed one: in both, its words keep their order.
void pack_a(bool transposed, const Real* a, Index pitch, Index rows, Index depth, Real* to) {
  const Index lines = transposed ? depth : rows, length = transposed ? rows : depth;
  for (Index i = 0; i < lines; ++i) {
    const Real* from = a + i * pitch;
    std::copy(from, from + length, to + i * (transposed ? kRows : kPitch));
  }
}

/// Panels [cols / 16][depth][16] of B, zeros past its last column.
void pack_b(bool transposed, const Real* b, Index pitch, Index cols, Index depth, Real* to) {
  for (Index first = 0; first < cols; first += kLanes, to += depth * kLanes) {
    const Index lanes = std::min<Index>(kLanes, cols - first);
    for (Index k = 0; k < depth; ++k) {
      const Real* from = transposed ? b + first * pitch + k : b + k * pitch + first;
      const Index step = transposed ? pitch : 1;
      for (Index j = 0; j < lanes; ++j) to[k * kLanes + j] = from[j * step];
      for (Index j = lanes; j < kLanes; ++j) to[k * kLanes + j] = 0;
    }
  }
}

/// Block of C (+)= A B of packed blocks.
void multiply(bool transposed, Index rows, Index cols, Index depth, const Real* a, const Real* b, bool add, Real* c,
              Index pitch) {
  for (Index first = 0; first < cols; first += kLanes, b += depth * kLanes) {
    const Index lanes = std::min<Index>(kLanes, cols - first);
    for (Index r = 0; r < rows; r += kTileRows) {
      const Index count = std::min(kTileRows, rows - r);
      Real* to = c + r * pitch + first;
      const Sums sums{count, lanes, add ? to : kZeros, add ? pitch : 0, to, pitch};
      if (transposed)
        tile_of<Along::rows>(sums, 1, 0, depth, a + r, kRows, b);
      else
        tile_of<Along::depth>(sums, 1, 0, depth, a + r * kPitch, kPitch, b);
    }
  }
}
}  // namespace

// 2 m n k flops. A is moved once per 64 columns of C, B once per block of rows, C twice per 192 of k (4 bytes a word).
void host_gemm(bool ta, bool tb, Index m, Index n, Index k, const Real* a, const Real* b, bool add, Real* c) {
  const Index across = (n + kCols - 1) / kCols;
  // Lower blocks where 128 rows would leave threads idle; it changes no bits.
  const Index wanted = (2 * host_workers() + across - 1) / across;
  const Index height = std::clamp<Index>(tile_rows((m + wanted - 1) / wanted), kTileRows, kRows);
  const Index down = (m + height - 1) / height;
  share_out("varion::gemm::host", down * across, [=](const Index item, Index) {
    alignas(64) Real block_a[kRows * kPitch], block_b[kCols * kDepth];
    const Index i0 = item / across * height, j0 = item % across * kCols;
    const Index rows = std::min(height, m - i0), cols = std::min(kCols, n - j0);
    for (Index k0 = 0; k0 < k; k0 += kDepth) {
      const Index depth = std::min(kDepth, k - k0);
      pack_a(ta, ta ? a + k0 * m + i0 : a + i0 * k + k0, ta ? m : k, rows, depth, block_a);
      pack_b(tb, tb ? b + j0 * k + k0 : b + k0 * n + j0, tb ? k : n, cols, depth, block_b);
      multiply(ta, rows, cols, depth, block_a, block_b, add || k0 > 0, c + i0 * n + j0, n);
    }
  });
}

}  // namespace varion::backend
