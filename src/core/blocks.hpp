// Elementwise kernels over stretches of flat vectors, in blocks that a compiler turns into full vectors.
#pragma once

#include <cstdint>

#include "core/random.hpp"

namespace varion {

/// A block of noise holds the numbers of whole counters: 128 on a host, 4 on a GPU. Where nothing is drawn, a block is 128
/// elements on a host and one on a GPU, whose neighbouring threads then touch neighbouring words.
inline constexpr int kBlock = kHostExec ? kNoiseBlock : 1;

template <int block, class Body>
struct BlockLoop {
  Index begin, end;
  Body body;
  KOKKOS_INLINE_FUNCTION void operator()(const Index number) const {
    const Index base = number * block;
    if (base >= begin && base + block <= end)
      body(base, 0, block);  // the count is a constant: no remainder loop
    else
      body(base, static_cast<int>(base < begin ? begin - base : 0), static_cast<int>(end - base < block ? end - base : block));
  }
};

template <int block, class Body>
void launch_blocks(const char* label, const Exec& exec, Index begin, Index end, const Body& body) {
  if (end <= begin) return;
  Kokkos::parallel_for(label, Range(exec, begin / block, (end - 1) / block + 1), BlockLoop<block, Body>{begin, end, body});
}

/// Calls body(base, lo, hi) for every block that meets [begin, end): its elements are base + lo ... base + hi - 1, and
/// base is a multiple of kBlock. Loops over them should stand under VARION_IVDEP and touch plain pointers.
template <class Body>
void for_blocks(const char* label, const Exec& exec, Index begin, Index end, const Body& body) {
  launch_blocks<kBlock>(label, exec, begin, end, body);
}
/// The same in blocks of noise: base is a multiple of kNoiseBlock.
template <class Body>
void for_noise_blocks(const char* label, const Exec& exec, Index begin, Index end, const Body& body) {
  launch_blocks<kNoiseBlock>(label, exec, begin, end, body);
}

/// A whole block of noise on a GPU, moved as one access of 16 bytes where its address allows.
struct alignas(16) NoiseWords {
  Real word[4];
};
KOKKOS_INLINE_FUNCTION void load_words(const Real* from, int lo, int hi, NoiseWords& to) {
  if (lo == 0 && hi == 4 && reinterpret_cast<std::uintptr_t>(from) % 16 == 0) {
    to = *reinterpret_cast<const NoiseWords*>(from);
    return;
  }
  for (int i = 0; i < 4; ++i) to.word[i] = i >= lo && i < hi ? from[i] : Real(0);
}
KOKKOS_INLINE_FUNCTION void store_words(const NoiseWords& from, int lo, int hi, Real* to) {
  if (lo == 0 && hi == 4 && reinterpret_cast<std::uintptr_t>(to) % 16 == 0) {
    *reinterpret_cast<NoiseWords*>(to) = from;
    return;
  }
  for (int i = 0; i < 4; ++i)
    if (i >= lo && i < hi) to[i] = from.word[i];
}

}  // namespace varion
