// One shape for three convolutions. The forward one, and each residue of the backward one in the data, is
//   out(y, x, o) = sum over p < kh, q < kw, c of in(y stride + p - top, x stride + q - left, c) weight(p, q, c, o)
// on a grid of output pixels that may be a strided part of the output. Backward in the weights sums the
// same products over the pixels instead.
#pragma once

#include <vector>

#include "backends/backend.hpp"

namespace varion::backend {

/// Output channels a panel: one AVX-512 register, two of AVX, four of NEON.
inline constexpr int kLanes = 16;

struct Window {
  Index n, h, w, c;        // images read
  Index rows, cols, o;     // grid of output pixels of each image, and channels written
  Index kh, kw, stride;    // stride: of the pixels read
  Index top, left;         // may be negative
  // Output word of (image, y, x, 0) and weight word of (p, q, c, o), in units of words.
  Index out_first, out_image, out_row, out_col;
  Index weight_first, weight_row, weight_col, weight_in, weight_out;

  KOKKOS_INLINE_FUNCTION Index depth() const { return kh * kw * c; }
  KOKKOS_INLINE_FUNCTION Index pixels() const { return n * rows * cols; }
  KOKKOS_INLINE_FUNCTION Index out_at(Index image, Index y, Index x) const {
    return out_first + image * out_image + y * out_row + x * out_col;
  }
  Index panels() const { return (o + kLanes - 1) / kLanes; }
  Index panel_words() const { return panels() * depth() * kLanes; }
};

Window forward_window(const Conv&);

/// Backward in the data: one window for each residue of the pixel's row and column modulo the stride, so
/// that no product with a zero between strided pixels is formed. Windows may have no taps (kernel 1,
/// stride 2): their sum is zero.
std::vector<Window> backward_windows(const Conv&);

/// Panels [o / 16][p][q][c][16] of a weight in PyTorch's order; channels past the last are zero.
void pack_panels(const Exec&, const Window&, ConstVec weight, Vec panels);

}  // namespace varion::backend
