#include "core/random.hpp"

namespace varion {

void fill_normal(const Exec& exec, const RandomKey& key, Vec out) {
  const Index n = static_cast<Index>(out.extent(0));
  const Index blocks = (n + kNoiseBlock - 1) / kNoiseBlock;
  Kokkos::parallel_for(
      "varion::random::normal", Range(exec, 0, blocks), KOKKOS_LAMBDA(const Index b) {
        const Index base = b * kNoiseBlock;
        Real z[kNoiseBlock];
        normal_block(key, base, z);
        const Index count = n - base < kNoiseBlock ? n - base : Index(kNoiseBlock);
        for (Index i = 0; i < count; ++i) out(base + i) = z[i];
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
