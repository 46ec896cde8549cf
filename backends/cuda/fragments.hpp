// Which lane of a warp holds what of the matrices that a tensor core multiplies, C += A B with A [16, depth], B [depth, 8],
// C [16, 8]: the tables of NVIDIA's PTX ISA for mma.m16n8k16 (bf16) and mma.m16n8k8 (tf32). tests/kernels/precision.cpp plays
// a warp with them.
#pragma once

#include "core/types.hpp"

namespace varion::backend {

struct Place {
  int row, column;
};

/// Element i of 4 of the product, the same for both types.
KOKKOS_FORCEINLINE_FUNCTION constexpr Place product_place(int lane, int i) { return {lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2}; }

/// Two numbers a register, the lower half first. Registers are filled by ldmatrix from four matrices of 8 x 8: the address
/// of row lane % 8 of matrix lane / 8 comes from lane, register i then holds the numbers of matrix i as they stand (lane / 4,
/// 2 (lane % 4) + half) or transposed.
struct Bf16Map {
  static constexpr int depth = 16, halves = 2, padding = 8;  // rows of words 4 mod 32 apart: ldmatrix meets every bank once
  KOKKOS_FORCEINLINE_FUNCTION static constexpr Place a(int lane, int i, int half) {
    return {lane / 4 + i % 2 * 8, lane % 4 * 2 + half + i / 2 * 8};
  }
  KOKKOS_FORCEINLINE_FUNCTION static constexpr Place b(int lane, int i, int half) { return {lane % 4 * 2 + half + i * 8, lane / 4}; }

  /// Where the address of a lane points: of A as it stands; of two B side by side, of which B transposed stands in memory
  /// ([16, depth]); of two B as they stand ([depth, 16]). Registers 0, 1 are the first B's.
  KOKKOS_FORCEINLINE_FUNCTION static constexpr Place a_source(int lane) { return {lane % 8 + lane / 8 % 2 * 8, lane / 16 * 8}; }
  KOKKOS_FORCEINLINE_FUNCTION static constexpr Place rows_source(int lane) { return {lane % 8 + lane / 16 * 8, lane / 8 % 2 * 8}; }
  KOKKOS_FORCEINLINE_FUNCTION static constexpr Place columns_source(int lane) { return {lane % 8 + lane / 8 % 2 * 8, lane / 16 * 8}; }

  /// A product as the next one's A: register i, half of it, is element `from` of the product of columns 8 `tile` on.
  KOKKOS_FORCEINLINE_FUNCTION static constexpr int tile(int i) { return i / 2; }
  KOKKOS_FORCEINLINE_FUNCTION static constexpr int from(int i, int half) { return i % 2 * 2 + half; }
};

/// One number a register. A product has columns 2 t, 2 t + 1 where A wants t, t + 4: as the next one's A it has its columns
/// in another order, in which the rows of B are then read. A sum does not care.
struct Tf32Map {
  static constexpr int depth = 8, halves = 1, padding = 4;  // rows 4 mod 32 words apart: all three ways to read meet every bank once
  KOKKOS_FORCEINLINE_FUNCTION static constexpr Place a(int lane, int i, int) { return {lane / 4 + i % 2 * 8, lane % 4 + i / 2 * 4}; }
  KOKKOS_FORCEINLINE_FUNCTION static constexpr Place b(int lane, int i, int) { return {lane % 4 + i * 4, lane / 4}; }

  /// Where register i is read, of the same matrices as above.
  KOKKOS_FORCEINLINE_FUNCTION static constexpr Place a_source(int lane, int i) { return a(lane, i, 0); }
  KOKKOS_FORCEINLINE_FUNCTION static constexpr Place rows_source(int lane, int i) {
    return {b(lane, i % 2, 0).column + i / 2 * 8, b(lane, i % 2, 0).row};
  }
  KOKKOS_FORCEINLINE_FUNCTION static constexpr Place columns_source(int lane, int i) {
    return {summed(b(lane, i % 2, 0).row), b(lane, i % 2, 0).column + i / 2 * 8};
  }

  KOKKOS_FORCEINLINE_FUNCTION static constexpr int tile(int) { return 0; }
  KOKKOS_FORCEINLINE_FUNCTION static constexpr int from(int i, int) { return i % 2 * 2 + i / 2; }
  /// The column of a product that stands as column k of A.
  KOKKOS_FORCEINLINE_FUNCTION static constexpr int summed(int k) { return k % 4 * 2 + k / 4; }
};

}  // namespace varion::backend
