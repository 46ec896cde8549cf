// The host's micro-kernel, shared by GEMM and the three convolutions.
#pragma once

#include "backends/portable/window.hpp"

namespace varion::backend {

/// Which index of A moves by one word: the summed one, or the tile's rows.
enum class Along { depth, rows };

/// c[R][16] += the sum over `segments` of `depth` products each:
///   c[i][j] += a[segment jump + i stride + k] b[(segment depth + k) 16 + j]     (Along::depth)
///   c[i][j] += a[segment jump + k stride + i] b[(segment depth + k) 16 + j]     (Along::rows)
/// Instances: R = 4 and 8.
template <int R, Along along>
void tile(Index segments, Index jump, Index depth, const Real* a, Index stride, const Real* b, Real* c);

/// Rows a tile, at most: 8 where there are 32 vector registers, 4 where there are 16 (AVX2 keeps 91 % of its peak with
/// 4, 57 % with 8). The height changes no bits.
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr Index kTileRows = 8;
#else
inline constexpr Index kTileRows = 4;
#endif

/// Rows that tiles read to cover `rows`.
inline constexpr Index tile_rows(Index rows) { return (rows + 3) / 4 * 4; }

/// The tile of the smallest sufficient height for `rows` <= kTileRows; reads (and computes) tile_rows(rows).
template <Along along>
inline void tile_of(Index rows, Index segments, Index jump, Index depth, const Real* a, Index stride, const Real* b,
                    Real* c) {
  rows > 4 ? tile<8, along>(segments, jump, depth, a, stride, b, c)
           : tile<4, along>(segments, jump, depth, a, stride, b, c);
}

using HostExec = Kokkos::DefaultHostExecutionSpace;
inline Index host_workers() { return static_cast<Index>(HostExec().concurrency()); }

/// body(item, worker) for every item: each worker takes a fixed, contiguous share.
template <class Body>
void share_out(const char* label, Index items, const Body& body) {
  using Workers = Kokkos::RangePolicy<HostExec, Kokkos::IndexType<Index>>;
  const Index workers = host_workers();
  Kokkos::parallel_for(label, Workers(0, workers, Kokkos::ChunkSize(1)), [=](const Index w) {
    for (Index item = w * items / workers; item < (w + 1) * items / workers; ++item) body(item, w);
  });
}

}  // namespace varion::backend
