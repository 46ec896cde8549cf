// bfloat16 in memory: where activations are kept so, a kernel reads and writes 2 bytes a number and computes in float32.
#pragma once

#include <cstdint>
#include <variant>

#include "core/types.hpp"

namespace varion {

/// The upper half of a float32, rounded to nearest, ties to even; NaN stays NaN.
struct Bfloat16 {
  std::uint16_t bits;

  Bfloat16() = default;
  KOKKOS_FORCEINLINE_FUNCTION Bfloat16(Real x) {  // NOLINT: numbers convert
    std::uint32_t word;
    __builtin_memcpy(&word, &x, sizeof word);
    const std::uint32_t up = word + 0x7fffu + (word >> 16 & 1u);
    bits = static_cast<std::uint16_t>(((word & 0x7fffffffu) > 0x7f800000u ? word | 0x400000u : up) >> 16);
  }
  KOKKOS_FORCEINLINE_FUNCTION operator Real() const {  // NOLINT
    const std::uint32_t word = static_cast<std::uint32_t>(bits) << 16;
    Real x;
    __builtin_memcpy(&x, &word, sizeof x);
    return x;
  }
};

using Bf16Vec = Kokkos::View<Bfloat16*, Memory>;
using ConstBf16Vec = Kokkos::View<const Bfloat16*, Memory>;

/// A flat device vector of either kind: `std::visit` finds out which.
using AnyVec = std::variant<Vec, Bf16Vec>;
inline bool in_bf16(const AnyVec& v) { return std::holds_alternative<Bf16Vec>(v); }

/// Numbers from one row of a matrix to the next, so that every row starts at 16 bytes.
inline Index bf16_pitch(Index columns) { return (columns + 7) / 8 * 8; }

/// `count` numbers moved as one access; they must lie at a multiple of their size.
template <class E, int count>
struct alignas(sizeof(E) * count) Pack {
  E at[count];
};

}  // namespace varion
