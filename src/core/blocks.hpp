// Elementwise kernels over stretches of flat vectors, in blocks that a compiler turns into full vectors.
#pragma once

#include "core/random.hpp"

namespace varion {

/// A block holds the numbers of whole noise counters: 128 on a host, 4 on a GPU.
template <class Body>
struct BlockLoop {
  Index begin, end;
  Body body;
  KOKKOS_INLINE_FUNCTION void operator()(const Index block) const {
    const Index base = block * kNoiseBlock;
    if (base >= begin && base + kNoiseBlock <= end)
      body(base, 0, kNoiseBlock);  // the count is a constant: no remainder loop
    else
      body(base, static_cast<int>(base < begin ? begin - base : 0),
           static_cast<int>(end - base < kNoiseBlock ? end - base : kNoiseBlock));
  }
};

/// Calls body(base, lo, hi) for every block that meets [begin, end): its elements are base + lo ... base + hi - 1, and
/// base is a multiple of kNoiseBlock. Loops over them should stand under VARION_IVDEP and touch plain pointers.
template <class Body>
void for_blocks(const char* label, const Exec& exec, Index begin, Index end, const Body& body) {
  if (end <= begin) return;
  Kokkos::parallel_for(label, Range(exec, begin / kNoiseBlock, (end - 1) / kNoiseBlock + 1),
                       BlockLoop<Body>{begin, end, body});
}

}  // namespace varion
