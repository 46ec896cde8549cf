// Convolution by teams: implicit GEMM, with images read where they lie.
#include <algorithm>

#include "backends/portable/team.hpp"
#include "backends/portable/team_tiles.hpp"
#include "core/error.hpp"

namespace varion::backend {

/// Where pixel `i` of the grid's pixels begins in the images read, before its taps.
struct Pixel {
  Index image;  // first word
  int y, x;
};
/// Tap k: row, column and channel.
struct Tap {
  int p, q, c;
};

KOKKOS_INLINE_FUNCTION Pixel pixel_at(const Window& v, Index i) {
  const int t = static_cast<int>(i), cols = static_cast<int>(v.cols), rows = static_cast<int>(v.rows);
  const int x = t % cols, y = t / cols % rows, image = t / cols / rows;
  return {image * v.h * v.w * v.c, y * static_cast<int>(v.stride) - static_cast<int>(v.top),
          x * static_cast<int>(v.stride) - static_cast<int>(v.left)};
}
KOKKOS_INLINE_FUNCTION Tap tap_at(const Window& v, Index k) {
  const int t = static_cast<int>(k), c = static_cast<int>(v.c), kw = static_cast<int>(v.kw);
  return {t / c / kw, t / c % kw, t % c};
}
KOKKOS_INLINE_FUNCTION Real patch_word(const Window& v, const Real* in, const Pixel& at, const Tap& tap) {
  const int h = static_cast<int>(v.h), w = static_cast<int>(v.w), c = static_cast<int>(v.c);
  const int i = at.y + tap.p, j = at.x + tap.q;
  const bool inside = i >= 0 && i < h && j >= 0 && j < w;
  return inside ? in[at.image + (i * w + j) * c + tap.c] : Real(0);
}

/// A = patches [pixels, depth].
struct PatchLoad {
  static constexpr bool kDeepFast = true;
  using Outer = Pixel;
  using Inner = Tap;
  Window v;
  const Real* in;
  KOKKOS_INLINE_FUNCTION Pixel outer(Index i) const { return pixel_at(v, i); }
  KOKKOS_INLINE_FUNCTION Tap inner(Index k) const { return tap_at(v, k); }
  KOKKOS_INLINE_FUNCTION Real load(const Pixel& at, const Tap& tap) const { return patch_word(v, in, at, tap); }
};

/// A = patches transposed [depth, pixels].
struct PatchTransposedLoad {
  static constexpr bool kDeepFast = false;
  using Outer = Tap;
  using Inner = Pixel;
  Window v;
  const Real* in;
  KOKKOS_INLINE_FUNCTION Tap outer(Index i) const { return tap_at(v, i); }
  KOKKOS_INLINE_FUNCTION Pixel inner(Index k) const { return pixel_at(v, k); }
  KOKKOS_INLINE_FUNCTION Real load(const Tap& tap, const Pixel& at) const { return patch_word(v, in, at, tap); }
};

/// B = weights [depth, o], from panels.
struct PanelLoad {
  static constexpr bool kDeepFast = false;
  using Outer = Index;
  using Inner = Index;
  const Real* panels;
  Index depth;
  KOKKOS_INLINE_FUNCTION Index outer(Index j) const { return j / kLanes * depth * kLanes + j % kLanes; }
  KOKKOS_INLINE_FUNCTION Index inner(Index k) const { return k * kLanes; }
  KOKKOS_INLINE_FUNCTION Real load(Index o, Index i) const { return panels[o + i]; }
};

/// B = dy [pixels, o].
struct GradientLoad {
  static constexpr bool kDeepFast = false;
  using Outer = Index;
  using Inner = Index;
  const Real* dy;
  Index o;
  KOKKOS_INLINE_FUNCTION Index outer(Index j) const { return j; }
  KOKKOS_INLINE_FUNCTION Index inner(Index k) const { return k * o; }
  KOKKOS_INLINE_FUNCTION Real load(Index j, Index i) const { return dy[i + j]; }
};

/// C = the window's grid of output pixels.
struct PixelStore {
  using Row = Index;
  Window v;
  const Real* bias;
  bool add;
  Real* out;
  KOKKOS_INLINE_FUNCTION Index row(Index i) const {
    return v.out_at(i / (v.rows * v.cols), i / v.cols % v.rows, i % v.cols);
  }
  KOKKOS_INLINE_FUNCTION void put(Index at, Index j, Index, Real s) const {
    if (bias != nullptr) s += bias[j];
    out[at + j] = add ? out[at + j] + s : s;
  }
};

/// C = part `part` of [parts][depth][o].
struct PartStore {
  using Row = Index;
  Real* sums;
  Index depth, o;
  KOKKOS_INLINE_FUNCTION Index row(Index i) const { return i * o; }
  KOKKOS_INLINE_FUNCTION void put(Index at, Index j, Index part, Real s) const { sums[part * depth * o + at + j] = s; }
};

namespace {
/// Inside an image, and to count pixels, the kernels use 32 bits: GPUs divide 64-bit numbers slowly.
void check(const Window& v) {
  const Index limit = Index(1) << 31;
  ensure(v.pixels() < limit && v.h * v.w * v.c < limit && v.depth() < limit, "convolution of ", v.n, " x ", v.h, " x ",
         v.w, " x ", v.c, " to ", v.pixels(), " pixels: too large for 32 bits");
}

/// Parts of a weight gradient's sum: enough teams for a large GPU, from the shape alone, so that the bits depend on
/// nothing else.
Index weight_parts(const Window& v) {
  const Index tiles = (v.depth() + 63) / 64 * ((v.o + 63) / 64), size = v.depth() * v.o;
  return std::clamp<Index>(std::min(1024 / tiles, (Index(1) << 21) / size), 1, (v.pixels() + 255) / 256);
}
}  // namespace

void team_window(const char* label, const Exec& exec, const Window& v, ConstVec in, ConstVec panels, ConstVec bias,
                 bool add, Vec out) {
  check(v);
  team_tiles(label, exec, PatchLoad{v, in.data()}, PanelLoad{panels.data(), v.depth()},
             PixelStore{v, bias.extent(0) > 0 ? bias.data() : nullptr, add, out.data()}, v.pixels(), v.o, v.depth());
}

Index team_weight_words(const Window& v) { return weight_parts(v) * v.depth() * v.o; }

/// dweight (+)= the parts, added in order. 4 bytes read per part and weight.
void add_weight_parts(const Exec& exec, const Window& v, Index parts, ConstVec sums, bool add, Vec dweight) {
  const Index size = v.depth() * v.o;
  Kokkos::parallel_for(
      "varion::conv2d::add_team_parts", Range(exec, 0, size), KOKKOS_LAMBDA(const Index t) {
        const Index o = t % v.o;
        const Tap tap = tap_at(v, t / v.o);
        Real sum = 0;
        for (Index part = 0; part < parts; ++part) sum += sums(part * size + t);
        const Index to =
            v.weight_first + tap.p * v.weight_row + tap.q * v.weight_col + tap.c * v.weight_in + o * v.weight_out;
        dweight(to) = add ? dweight(to) + sum : sum;
      });
}

void team_weight(const Exec& exec, const Window& v, ConstVec x, ConstVec dy, bool add, Vec dweight, Vec work) {
  check(v);
  const Index parts = weight_parts(v);
  team_tiles("varion::conv2d::backward_weight", exec, PatchTransposedLoad{v, x.data()}, GradientLoad{dy.data(), v.o},
             PartStore{work.data(), v.depth(), v.o}, v.depth(), v.o, v.pixels(), parts);
  add_weight_parts(exec, v, parts, work, add, dweight);
}

}  // namespace varion::backend
