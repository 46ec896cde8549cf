#include "backends/portable/window.hpp"

#include <algorithm>

namespace varion::backend {

Window forward_window(const Conv& s) {
  Window v{};
  v.n = s.n, v.h = s.h, v.w = s.w, v.c = s.c;
  v.rows = s.ho, v.cols = s.wo, v.o = s.o;
  v.kh = s.kh, v.kw = s.kw, v.stride = s.stride, v.top = s.pad_top, v.left = s.pad_left;
  v.out_image = s.ho * s.wo * s.o, v.out_row = s.wo * s.o, v.out_col = s.o;
  v.weight_row = s.kw, v.weight_col = 1, v.weight_in = s.kh * s.kw, v.weight_out = s.c * s.kh * s.kw;
  return v;
}

namespace {
/// One axis of a residue: pixels i = residue + stride y get dy at y - top + u from tap last - stride u.
struct Axis {
  Index count, taps, before, last;
  Axis(Index residue, Index stride, Index size, Index kernel, Index pad) {
    const Index first = (residue + pad) % stride;  // taps first, first + stride, ... meet this residue
    count = (size - residue + stride - 1) / stride;
    taps = std::max<Index>((kernel - first + stride - 1) / stride, 0);
    before = taps - 1 - (residue + pad) / stride;
    last = first + stride * (taps - 1);
  }
};
}  // namespace

std::vector<Window> backward_windows(const Conv& s) {
  std::vector<Window> all;
  const Index taps = s.kh * s.kw;
  for (Index a = 0; a < std::min(s.stride, s.h); ++a)
    for (Index b = 0; b < std::min(s.stride, s.w); ++b) {
      const Axis y(a, s.stride, s.h, s.kh, s.pad_top), x(b, s.stride, s.w, s.kw, s.pad_left);
      const bool empty = y.taps == 0 || x.taps == 0;
      Window v{};
      v.n = s.n, v.h = s.ho, v.w = s.wo, v.c = s.o;
      v.rows = y.count, v.cols = x.count, v.o = s.c;
      v.kh = empty ? 0 : y.taps, v.kw = empty ? 0 : x.taps, v.stride = 1;
      v.top = empty ? 0 : y.before, v.left = empty ? 0 : x.before;
      v.out_first = (a * s.w + b) * s.c, v.out_image = s.h * s.w * s.c;
      v.out_row = s.stride * s.w * s.c, v.out_col = s.stride * s.c;
      v.weight_first = empty ? 0 : y.last * s.kw + x.last;
      v.weight_row = -s.stride * s.kw, v.weight_col = -s.stride;
      v.weight_in = s.c * taps, v.weight_out = taps;
      all.push_back(v);
    }
  return all;
}

// 4 bytes read and written per weight: small beside the convolution.
void pack_panels(const Exec& exec, const Window& v, ConstVec weight, Vec panels) {
  Kokkos::parallel_for(
      "varion::conv2d::pack", Range(exec, 0, v.panels() * v.depth()), KOKKOS_LAMBDA(const Index t) {
        const Index k = t % v.depth(), first = t / v.depth() * kLanes;
        const Index c = k % v.c, tap = k / v.c;
        const Index from = v.weight_first + tap / v.kw * v.weight_row + tap % v.kw * v.weight_col + c * v.weight_in;
        for (int j = 0; j < kLanes; ++j)
          panels(t * kLanes + j) = first + j < v.o ? weight(from + (first + j) * v.weight_out) : Real(0);
      });
}

}  // namespace varion::backend
