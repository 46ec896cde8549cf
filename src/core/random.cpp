#include "core/blocks.hpp"

namespace varion {

/// A block, or the first numbers of one, into memory.
KOKKOS_INLINE_FUNCTION void store_noise(const Real* z, int count, Real* to) {
  if constexpr (kHostExec) {
    for (int i = 0; i < count; ++i) to[i] = z[i];
  } else {
    store_words({{z[0], z[1], z[2], z[3]}}, 0, count, to);
  }
}

void fill_normal(const Exec& exec, const RandomKey& key, Vec out) {
  const Index n = static_cast<Index>(out.extent(0));
  const Index blocks = (n + kNoiseBlock - 1) / kNoiseBlock;
  Kokkos::parallel_for(
      "varion::random::normal", Range(exec, 0, blocks), KOKKOS_LAMBDA(const Index b) {
        const Index base = b * kNoiseBlock;
        Real z[kNoiseBlock];
        normal_block(key, base, z);
        store_noise(z, n - base < kNoiseBlock ? static_cast<int>(n - base) : kNoiseBlock, out.data() + base);
      });
}

void fill_uniform(const Exec& exec, const RandomKey& key, Real bound, Vec out) {
  const Index n = static_cast<Index>(out.extent(0));
  Kokkos::parallel_for(
      "varion::random::uniform", Range(exec, 0, (n + 3) / 4), KOKKOS_LAMBDA(const Index b) {
        const Words4 r = key.words(b);
        for (Index i = 4 * b; i < n && i < 4 * b + 4; ++i)
          out(i) = bound * (2 * unit_interval(r.w[i - 4 * b]) - 1);
      });
}

}  // namespace varion
