// A warp's matrix products: one struct an element type, the same functions in each. Pitches are in words of shared memory's type.
// Compute capability 8.0 on; older code has no body and is never launched.
#pragma once

#include <cstdint>

#include "backends/cuda/fragments.hpp"

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define VARION_PTX(...) asm __VA_ARGS__
#else
#define VARION_PTX(...)
#endif

namespace varion::backend {

/// 2^x to 2 units in the last place; denormals become 0.
__device__ __forceinline__ float exp2_lane(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// 16 bytes, or 4, from global into shared memory in the background, zeros unless they are `there`; both at multiples of as many.
__device__ __forceinline__ void copy_16(void* to, const void* from, bool there) {
  const auto at = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
  VARION_PTX(volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(__cvta_generic_to_global(from)), "r"(there ? 16 : 0)
                      : "memory"));
}
__device__ __forceinline__ void copy_4(void* to, const void* from, bool there) {
  const auto at = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
  VARION_PTX(volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(at), "l"(__cvta_generic_to_global(from)), "r"(there ? 4 : 0)
                      : "memory"));
}
/// The copies that this thread began since the last call are a group; waits until all but the last `later` groups are done. Others
/// may read them after a barrier.
__device__ __forceinline__ void commit_copies() { VARION_PTX(volatile("cp.async.commit_group;" ::: "memory")); }
template <int later>
__device__ __forceinline__ void wait_copies() {
  VARION_PTX(volatile("cp.async.wait_group %0;" ::"n"(later) : "memory"));
}

struct Bf16 : Bf16Map {
  using Word = std::uint16_t;

  __device__ __forceinline__ static std::uint32_t pair(float first, float second) {
    std::uint32_t y = 0;
    VARION_PTX(("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(second), "f"(first)));
    return y;
  }
  __device__ __forceinline__ static float2 numbers(std::uint32_t pair) { return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)}; }
  __device__ __forceinline__ static void store(Word* to, const float4& v) {
    *reinterpret_cast<uint2*>(to) = {pair(v.x, v.y), pair(v.z, v.w)};
  }

  /// A of a matrix whose first number is at `m`.
  template <int Pitch>
  __device__ __forceinline__ static void load_a(const Word* m, int lane, std::uint32_t (&a)[4]) {
    load(m + a_source(lane).row * Pitch + a_source(lane).column, a);
  }
  /// Two B: b[0], b[1] of rows 0 to 7 of `m`, transposed, b[2], b[3] of the next eight.
  template <int Pitch>
  __device__ __forceinline__ static void load_rows(const Word* m, int lane, std::uint32_t (&b)[4]) {
    load(m + rows_source(lane).row * Pitch + rows_source(lane).column, b);
  }
  /// Two B: b[0], b[1] of columns 0 to 7 of `m`, b[2], b[3] of the next eight; rows in the order of `weights`.
  template <int Pitch>
  __device__ __forceinline__ static void load_columns(const Word* m, int lane, std::uint32_t (&b)[4]) {
    load_transposed(m + columns_source(lane).row * Pitch + columns_source(lane).column, b);
  }
  /// A of a product's columns 0 to depth - 1.
  __device__ __forceinline__ static void weights(const float (*p)[4], std::uint32_t (&a)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = pair(p[tile(i)][from(i, 0)], p[tile(i)][from(i, 1)]);
  }
  __device__ __forceinline__ static void multiply(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
    VARION_PTX(("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1)));
  }

 private:
  // Memory is named, so that neither crosses a barrier.
  __device__ __forceinline__ static void load(const Word* row, std::uint32_t (&r)[4]) {
    const auto at = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
    VARION_PTX(volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                        : "r"(at)
                        : "memory"));
  }
  __device__ __forceinline__ static void load_transposed(const Word* row, std::uint32_t (&r)[4]) {
    const auto at = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
    VARION_PTX(volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                        : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                        : "r"(at)
                        : "memory"));
  }
};

struct Tf32 : Tf32Map {
  using Word = std::uint32_t;

  __device__ __forceinline__ static std::uint32_t rounded(float x) {
    std::uint32_t y = 0;
    VARION_PTX(("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x)));
    return y;
  }
  __device__ __forceinline__ static void store(Word* to, const float4& v) {
    *reinterpret_cast<uint4*>(to) = {rounded(v.x), rounded(v.y), rounded(v.z), rounded(v.w)};
  }

  template <int Pitch>
  __device__ __forceinline__ static void load_a(const Word* m, int lane, std::uint32_t (&r)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) r[i] = m[a_source(lane, i).row * Pitch + a_source(lane, i).column];
  }
  template <int Pitch>
  __device__ __forceinline__ static void load_rows(const Word* m, int lane, std::uint32_t (&r)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) r[i] = m[rows_source(lane, i).row * Pitch + rows_source(lane, i).column];
  }
  template <int Pitch>
  __device__ __forceinline__ static void load_columns(const Word* m, int lane, std::uint32_t (&r)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) r[i] = m[columns_source(lane, i).row * Pitch + columns_source(lane, i).column];
  }
  __device__ __forceinline__ static void weights(const float (*p)[4], std::uint32_t (&r)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) r[i] = rounded(p[tile(i)][from(i, 0)]);
  }
  __device__ __forceinline__ static void multiply(float (&c)[4], const std::uint32_t (&r)[4], std::uint32_t b0, std::uint32_t b1) {
    VARION_PTX(("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                : "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]), "r"(b0), "r"(b1)));
  }
};

}  // namespace varion::backend
