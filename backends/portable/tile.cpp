// In a file of its own, so that the compiler sees strides as unknown numbers: it then keeps the R x 16
// accumulators in registers and folds each a[...] into the fma as a broadcast operand. With constant
// strides GCC 12 finds "better" vectors along k and loses a third.
// R + 1 loads and R fma of 16 lanes per step: on Zen 4 (one 512-bit fma a cycle) R = 8 reaches 95 % of
// the peak, R = 4 reaches 93 %, and taller tiles gain nothing.
#include "backends/portable/tile.hpp"

#include <cmath>

#include "core/random.hpp"  // VARION_UNROLL

namespace varion::backend {

template <int R, Along along>
void tile(const Sums& sums, Index segments, Index jump, Index depth, const Real* a, Index stride, const Real* b) {
  Real sum[R][kLanes];
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < kLanes; ++j) sum[i][j] = sums.from[i * sums.from_pitch + j];
  do {  // counted down: a loop that may not run keeps the sums in memory beside their registers
    Index k = 0;
    do {
      VARION_UNROLL
      for (int i = 0; i < R; ++i) {
        const Real factor = along == Along::depth ? a[i * stride + k] : a[k * stride + i];
        VARION_UNROLL
        for (int j = 0; j < kLanes; ++j) sum[i][j] = std::fma(factor, b[j], sum[i][j]);
      }
      b += kLanes;
    } while (++k < depth);
    a += jump;
  } while (--segments > 0);
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < kLanes; ++j) sums.to[i * sums.to_pitch + j] = sum[i][j];
}

template void tile<4, Along::depth>(const Sums&, Index, Index, Index, const Real*, Index, const Real*);
template void tile<8, Along::depth>(const Sums&, Index, Index, Index, const Real*, Index, const Real*);
template void tile<4, Along::rows>(const Sums&, Index, Index, Index, const Real*, Index, const Real*);
template void tile<8, Along::rows>(const Sums&, Index, Index, Index, const Real*, Index, const Real*);

}  // namespace varion::backend
