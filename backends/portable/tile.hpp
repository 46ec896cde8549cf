// The host's micro-kernel, shared by GEMM and the three convolutions.
#pragma once

#include "backends/portable/window.hpp"

namespace varion::backend {

/// Which index of A moves by one word: the summed one, or the tile's rows.
enum class Along { depth, rows };

/// The sums of a tile: rows x lanes words, read at `from` (pitch 0: one row for all) and written to `to`.
struct Sums {
  Index rows, lanes;
  const Real* from;
  Index from_pitch;
  Real* to;
  Index to_pitch;
};

/// What sums from nothing begin with, at pitch 0.
alignas(64) inline constexpr Real kZeros[kLanes] = {};

/// R x 16 sums plus, over `segments` >= 1 of `depth` >= 1 products each:
///   sum[i][j] += a[segment jump + i stride + k] b[(segment depth + k) 16 + j]     (Along::depth)
///   sum[i][j] += a[segment jump + k stride + i] b[(segment depth + k) 16 + j]     (Along::rows)
/// Instances: R = 4 and 8. Reads and writes R x 16 words, whatever sums.rows and sums.lanes say.
template <int R, Along along>
void tile(const Sums& sums, Index segments, Index jump, Index depth, const Real* a, Index stride, const Real* b);

/// Rows a tile, at most: 8 where there are 32 vector registers, 4 where there are 16 (AVX2 keeps 91 % of its peak with
/// 4, 57 % with 8). The height changes no bits.
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr Index kTileRows = 8;
#else
inline constexpr Index kTileRows = 4;
#endif

/// Rows that tiles read to cover `rows`.
inline constexpr Index tile_rows(Index rows) { return (rows + 3) / 4 * 4; }

/// to[0, lanes) = from[0, lanes): a vector register's worth in most calls, of a length that the compiler knows.
inline void copy_lanes(Index lanes, const Real* from, Real* to) {
  if (lanes == kLanes)
    for (int j = 0; j < kLanes; ++j) to[j] = from[j];
  else
    for (Index j = 0; j < lanes; ++j) to[j] = from[j];
}

/// The tile of the smallest sufficient height for sums.rows <= kTileRows; of a it reads tile_rows(rows). Sums that fill
/// registers are read and written where they lie.
template <Along along>
inline void tile_of(const Sums& sums, Index segments, Index jump, Index depth, const Real* a, Index stride, const Real* b) {
  const auto run = sums.rows > 4 ? tile<8, along> : tile<4, along>;
  if (sums.lanes == kLanes && sums.rows % 4 == 0) return run(sums, segments, jump, depth, a, stride, b);
  alignas(64) Real part[kTileRows * kLanes] = {};
  for (Index i = 0; i < sums.rows; ++i) copy_lanes(sums.lanes, sums.from + i * sums.from_pitch, part + i * kLanes);
  run({sums.rows, sums.lanes, part, kLanes, part, kLanes}, segments, jump, depth, a, stride, b);
  for (Index i = 0; i < sums.rows; ++i) copy_lanes(sums.lanes, part + i * kLanes, sums.to + i * sums.to_pitch);
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
