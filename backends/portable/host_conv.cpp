// Convolution on a host. A work item copies a band of image rows, with its zero border, into a buffer that
// stays in cache; there the taps (q, c) of a kernel row are one run of words and neighbouring pixels lie a
// constant stride apart, so the micro-kernel reads its patches in place: no columns are ever formed. With one tap and no border
// it reads the image itself.
#include <algorithm>

#include "backends/portable/host.hpp"
#include "backends/portable/tile.hpp"

namespace varion::backend {

namespace {
Index blocks(Index n, Index size) { return (n + size - 1) / size; }
Index lines(Index words) { return (words + 15) / 16 * 16; }  // whole cache lines

/// Whether tiles can read the images where they lie: one tap, no border, no word past the end.
bool in_place(const Window& v) {
  return v.kh == 1 && v.kw == 1 && v.top == 0 && v.left == 0 && v.c % 4 == 0 && (v.rows - 1) * v.stride < v.h &&
         (tile_rows(v.cols) - 1) * v.stride < v.w;
}

/// A band of `rows` output rows and the padded image rows below it, [height][width][c].
struct Band {
  Index rows, pitch, words;
  Band(const Window& v, Index rows_)
      : rows(rows_),
        pitch(in_place(v) ? v.w * v.c : ((tile_rows(v.cols) - 1) * v.stride + std::max<Index>(v.kw, 1)) * v.c),
        words(in_place(v) ? 0 : lines(((rows - 1) * v.stride + std::max<Index>(v.kh, 1)) * pitch + kTileRows)) {}
};

/// As many rows as keep the band near `words`, and as there are; the split changes no bits of an output pixel.
Band band_of(const Window& v, Index words) {
  const Index row = Band(v, 1).pitch * v.stride;
  return {v, std::clamp<Index>(words / row, 1, v.rows)};
}

/// Image rows of the band that begins at output row y0: in the image, or in the buffer, with zeros outside the image;
/// rows that no tap meets are left out. 4 bytes read, 4 written per word copied.
const Real* read_band(const Window& v, const Band& band, const Real* image, Index y0, Index rows, Real* buffer) {
  if (in_place(v)) return image + y0 * v.stride * band.pitch;
  const Index lo = std::clamp<Index>(v.left * v.c, 0, band.pitch);
  const Index hi = std::clamp<Index>((v.left + v.w) * v.c, lo, band.pitch);
  const Index height = (rows - 1) * v.stride + v.kh;
  Real* to = buffer;
  for (Index r = 0; r < height; ++r, to += band.pitch) {
    const Index i = y0 * v.stride - v.top + r;
    if (r % v.stride >= v.kh) continue;
    if (i < 0 || i >= v.h) {
      std::fill(to, to + band.pitch, Real(0));
      continue;
    }
    const Real* from = image + (i * v.w - v.left) * v.c;
    std::fill(to, to + lo, Real(0));
    std::copy(from + lo, from + hi, to + lo);
    std::fill(to + hi, to + band.pitch, Real(0));
  }
  std::fill(to, to + kTileRows, Real(0));  // what the last tile reads and does not use
  return buffer;
}
}  // namespace

constexpr Index kBandWords = 1 << 13;  // 32 KB

Index host_window_words(const Window& v) { return host_workers() * band_of(v, kBandWords).words; }

// 2 depth flops per output word; image and output are moved once (4 bytes a word each), the panels come from cache.
void host_window(const char* label, const Window& v, const Real* in, const Real* panels, const Real* bias, bool add,
                 Real* out, Real* work) {
  const Band band = band_of(v, kBandWords);
  const Index bands = blocks(v.rows, band.rows);
  share_out(label, v.n * bands, [=](const Index item, const Index worker) {
    const Index image = item / bands, y0 = item % bands * band.rows, rows = std::min(band.rows, v.rows - y0);
    if (v.depth() == 0) {  // a residue that no tap meets
      for (Index y = y0; y < y0 + rows && !add; ++y)
        for (Index x = 0; x < v.cols; ++x) std::fill_n(out + v.out_at(image, y, x), v.o, Real(0));
      return;
    }
    const Real* pixels = read_band(v, band, in + image * v.h * v.w * v.c, y0, rows, work + worker * band.words);
    for (Index first = 0; first < v.o; first += kLanes) {
      const Index lanes = std::min<Index>(kLanes, v.o - first);
      const Real* panel = panels + first * v.depth();
      for (Index y = 0; y < rows; ++y)
        for (Index x = 0; x < v.cols; x += kTileRows) {
          const Index count = std::min(kTileRows, v.cols - x);
          Real* to = out + v.out_at(image, y0 + y, x) + first;
          const Real* from = add ? to : bias != nullptr ? bias + first : kZeros;
          tile_of<Along::depth>({count, lanes, from, add ? v.out_col : 0, to, v.out_col}, v.kh, band.pitch, v.kw * v.c,
                                pixels + y * v.stride * band.pitch + x * v.stride * v.c, v.stride * v.c, panel);
        }
    }
  });
}

namespace {
/// The partial sums of a weight gradient, [part][o / 16][p][run][16] with run = q, c, rounded up to tiles. The number
/// of parts follows from the shape alone, so the bits do not depend on the number of threads: 2 MB, or 128 work items,
/// enough for as many threads.
struct Parts {
  Index run, size, count;
  explicit Parts(const Window& v)
      : run(tile_rows(v.kw * v.c)),
        size(v.panels() * v.kh * run * kLanes),
        count(std::clamp<Index>(std::min((Index(1) << 19) / size, 128 / v.panels()), 1, v.n)) {}
};

/// dy of a band for one panel of channels, [rows cols][16]: where it lies, or in the buffer.
const Real* read_lanes(const Window& v, const Real* dy, Index pixels, Index lanes, Real* buffer) {
  if (v.o == kLanes) return dy;
  Real* to = buffer;
  for (Index r = 0; r < pixels; ++r, dy += v.out_col, to += kLanes) {
    copy_lanes(lanes, dy, to);
    for (Index j = lanes; j < kLanes; ++j) to[j] = 0;
  }
  return buffer;
}

/// dweight (+)= the parts, added in order.
void add_parts(const Window& v, const Parts& parts, const Real* sums, bool add, Real* dweight) {
  share_out("varion::conv2d::add_parts", v.panels() * v.kh * v.kw * v.c, [=](const Index item, Index) {
    const Index k = item % (v.kw * v.c), p = item / (v.kw * v.c) % v.kh, panel = item / v.depth();
    const Real* from = sums + ((panel * v.kh + p) * parts.run + k) * kLanes;
    Real sum[kLanes] = {};
    for (Index part = 0; part < parts.count; ++part)
      for (int j = 0; j < kLanes; ++j) sum[j] += from[part * parts.size + j];
    Real* to = dweight + v.weight_first + p * v.weight_row + k / v.c * v.weight_col + k % v.c * v.weight_in;
    for (Index o = panel * kLanes; o < std::min((panel + 1) * kLanes, v.o); ++o) {
      const Real s = sum[o % kLanes];
      to[o * v.weight_out] = add ? to[o * v.weight_out] + s : s;
    }
  });
}
}  // namespace

constexpr Index kWeightBandWords = 1 << 12;  // 16 KB, beside a band of dy

Index host_weight_words(const Window& v) {
  const Band band = band_of(v, kWeightBandWords);
  const Parts parts(v);
  return parts.count * parts.size + host_workers() * (band.words + band.rows * v.cols * kLanes);
}

// 2 depth flops per word of dy; images are moved once per panel of channels, dy once, parts twice (4 bytes a word).
void host_weight(const Window& v, const Real* x, const Real* dy, bool add, Real* dweight, Real* work) {
  const Band band = band_of(v, kWeightBandWords);
  const Parts parts(v);
  Real* buffers = work + parts.count * parts.size;
  share_out("varion::conv2d::backward_weight", parts.count * v.panels(), [=](const Index item, const Index worker) {
    const Index part = item / v.panels(), panel = item % v.panels();
    const Index lanes = std::min<Index>(kLanes, v.o - panel * kLanes), size = v.kh * parts.run * kLanes;
    Real* sums = work + part * parts.size + panel * size;
    Real* buffer = buffers + worker * (band.words + band.rows * v.cols * kLanes);
    std::fill(sums, sums + size, Real(0));
    for (Index image = part * v.n / parts.count; image < (part + 1) * v.n / parts.count; ++image)
      for (Index y0 = 0; y0 < v.rows; y0 += band.rows) {
        const Index rows = std::min(band.rows, v.rows - y0);
        const Real* patches = read_band(v, band, x + image * v.h * v.w * v.c, y0, rows, buffer);
        const Real* lane =
            read_lanes(v, dy + v.out_at(image, y0, 0) + panel * kLanes, rows * v.cols, lanes, buffer + band.words);
        for (Index p = 0; p < v.kh; ++p)
          for (Index k = 0; k < v.kw * v.c; k += kTileRows) {
            Real* sum = sums + (p * parts.run + k) * kLanes;
            const Index count = std::min(kTileRows, parts.run - k);
            tile_of<Along::rows>({count, kLanes, sum, kLanes, sum, kLanes}, rows, v.stride * band.pitch, v.cols,
                                 patches + p * band.pitch + k, v.stride * v.c, lane);
          }
      }
  });
  add_parts(v, parts, work, add, dweight);
}

}  // namespace varion::backend
