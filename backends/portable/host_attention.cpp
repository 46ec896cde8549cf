// Attention on a host, from the micro-kernel of tile.hpp: an item is one head of one sequence. Scores of a block of queries
// stand in cache; backward computes them again.
#include <algorithm>
#include <cmath>
#include <functional>

#include "backends/portable/host.hpp"
#include "backends/portable/tile.hpp"
#include "core/random.hpp"
#include "core/vector_math.hpp"

namespace varion::backend {

namespace {
constexpr Index kBlock = 64;  // queries of a block in backward

Index panels_of(Index n) { return (n + kLanes - 1) / kLanes; }
Index padded(Index n) { return panels_of(n) * kLanes; }

/// Panels [rows / 16][width][16] of the transpose; rows past the last are zero.
void pack_transposed(const Real* from, Index pitch, Index rows, Index width, Real* to) {
  for (Index first = 0; first < rows; first += kLanes, to += width * kLanes) {
    const Index lanes = std::min<Index>(kLanes, rows - first);
    if (lanes < kLanes) std::fill(to, to + width * kLanes, Real(0));
    // Sixteen columns at a time: where they go is in cache still when the next row comes.
    for (Index k = 0; k < width; k += kLanes) {
      const Index columns = std::min<Index>(kLanes, width - k);
      for (Index j = 0; j < lanes; ++j) {
        const Real* const row = from + (first + j) * pitch + k;
        for (Index c = 0; c < columns; ++c) to[(k + c) * kLanes + j] = row[c];
      }
    }
  }
}

/// Panels [width / 16][stride][16] of rows times `factor`; columns past the last are zero.
void pack_rows(const Real* from, Index pitch, Index rows, Index width, Real factor, Index stride, Real* to) {
  for (Index first = 0; first < width; first += kLanes, to += stride * kLanes) {
    const Index lanes = std::min<Index>(kLanes, width - first);
    for (Index i = 0; i < rows; ++i) {
      const Real* const row = from + i * pitch + first;
      Real* const out = to + i * kLanes;
      if (lanes == kLanes) {
        VARION_LANES
        for (Index j = 0; j < kLanes; ++j) out[j] = factor * row[j];
      } else {
        for (Index j = 0; j < kLanes; ++j) out[j] = j < lanes ? factor * row[j] : Real(0);
      }
    }
  }
}

/// Rows [rows + 8][width], times `factor`; those past the last are zero, for tiles to read.
void copy_rows(const Real* from, Index pitch, Index rows, Index width, Real factor, Real* to) {
  for (Index i = 0; i < rows; ++i)
    for (Index k = 0; k < width; ++k) to[i * width + k] = factor * from[i * pitch + k];
  std::fill(to + rows * width, to + (rows + kTileRows) * width, Real(0));
}

/// All lanes as one, by halves: a chain of sixteen would be waited for.
template <class Join>
Real folded(Real (&lane)[kLanes], const Join& join) {
  for (Index half = kLanes / 2; half > 0; half /= 2)
    for (Index k = 0; k < half; ++k) lane[k] = join(lane[k], lane[k + half]);
  return lane[0];
}
struct Larger {
  Real operator()(Real a, Real b) const { return a > b ? a : b; }
};

/// x = exp(x - shift) for the first n of a row, zeros to its end; the sum.
Real exponentials(Real* x, Index n, Index end, Real shift) {
  Real part[kLanes] = {};
  for (Index j = n; j < end; ++j) x[j] = -std::numeric_limits<Real>::infinity();
  for (Index j = 0; j < end; j += kLanes) {
    VARION_LANES
    for (Index k = 0; k < kLanes; ++k) {
      x[j + k] = exp_lane(x[j + k] - shift);
      part[k] += x[j + k];
    }
  }
  return folded(part, std::plus<Real>());
}

Real largest_of(const Real* x, Index n) {
  Real most[kLanes], top = x[0];
  for (Real& m : most) m = x[0];
  Index j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    VARION_LANES
    for (Index k = 0; k < kLanes; ++k) most[k] = x[j + k] > most[k] ? x[j + k] : most[k];
  }
  for (; j < n; ++j) top = x[j] > top ? x[j] : top;
  return Larger()(top, folded(most, Larger()));
}

/// The sum of a b, in lanes.
Real dot(const Real* a, const Real* b, Index n) {
  Real part[kLanes] = {}, rest = 0;
  Index j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    VARION_LANES
    for (Index k = 0; k < kLanes; ++k) part[k] = std::fma(a[j + k], b[j + k], part[k]);
  }
  for (; j < n; ++j) rest = std::fma(a[j], b[j], rest);
  return rest + folded(part, std::plus<Real>());
}

/// to (+)= factor times from.
void scaled_row(const Real* from, Real factor, Index n, bool add, Real* to) {
  if (add) {
    VARION_IVDEP
    for (Index j = 0; j < n; ++j) to[j] = std::fma(factor, from[j], to[j]);
  } else {
    VARION_IVDEP
    for (Index j = 0; j < n; ++j) to[j] = factor * from[j];
  }
}

struct Sizes {
  Index keys, width;  // rounded up to whole panels
  explicit Sizes(const Attention& s) : keys(padded(s.length)), width(padded(s.width)) {}
  Index forward(const Attention& s) const { return keys * s.width + width * s.length + kTileRows * keys + 2 * kTileRows * s.width; }
  Index backward(const Attention& s) const {
    const Index rows = (s.length + kTileRows - 1) / kTileRows * kTileRows;
    return 2 * keys * s.width + width * s.length + 2 * rows * width + 2 * (kBlock + kTileRows) * keys +
           2 * (kBlock + kTileRows) * s.width + 2 * kBlock * width;
  }
};

/// `rows`, rounded up to fours, of 16 at `pitch` = a block's products.
void product(Index rows, Index depth, const Real* a, Index stride, const Real* b, Real* to, Index pitch = kLanes) {
  tile_of<Along::depth>({tile_rows(rows), kLanes, kZeros, 0, to, pitch}, 1, 0, depth, a, stride, b);
}

/// c[8][16] += products of a transposed block.
void add_product(Index depth, const Real* a, Index stride, const Real* b, Real* c) {
  tile_of<Along::rows>({kTileRows, kLanes, c, kLanes, c, kLanes}, 1, 0, depth, a, stride, b);
}
}  // namespace

Index host_attention_words(const Attention& s, bool backward) {
  const Sizes n(s);
  return host_workers() * padded(backward ? n.backward(s) : n.forward(s));
}

void host_attention_forward(const Attention& s, const Real* qkv, Real* y, Real* log_sum, Real* work) {
  const Sizes n(s);
  const Index per_worker = padded(n.forward(s)), pitch = s.pitch(), next = s.heads * s.width, t = s.length, d = s.width;
  const Real scale = 1 / std::sqrt(static_cast<Real>(d));
  share_out("varion::attention::forward", s.batch * s.heads, [=](const Index item, const Index worker) {
    Real* const keys = work + worker * per_worker;
    Real* const values = keys + n.keys * d;
    Real* const scores = values + n.width * t;
    Real* const queries = scores + kTileRows * n.keys;
    const Real* const q = qkv + s.query(item);
    pack_transposed(q + next, pitch, t, d, keys);
    pack_rows(q + 2 * next, pitch, t, d, 1, t, values);
    alignas(64) Real c[kTileRows * kLanes];
    for (Index first = 0; first < t; first += kTileRows) {
      const Index rows = std::min(kTileRows, t - first), seen = s.causal ? first + rows : t;
      copy_rows(q + first * pitch, pitch, rows, d, scale, queries);
      for (Index p = 0; p < panels_of(seen); ++p) product(rows, d, queries, d, keys + p * d * kLanes, scores + p * kLanes, n.keys);
      Real share[kTileRows];
      for (Index i = 0; i < rows; ++i) {
        Real* const x = scores + i * n.keys;
        const Index own = s.causal ? first + i + 1 : t;
        const Real top = largest_of(x, own), sum = exponentials(x, own, padded(seen), top);
        share[i] = 1 / sum;
        log_sum[item * t + first + i] = top + std::log(sum);
      }
      for (Index p = 0; p < panels_of(d); ++p) {
        product(rows, seen, scores, n.keys, values + p * t * kLanes, c);
        const Index lanes = std::min<Index>(kLanes, d - p * kLanes);
        for (Index i = 0; i < rows; ++i)
          scaled_row(c + i * kLanes, share[i], lanes, false, y + s.output(item) + (first + i) * next + p * kLanes);
      }
    }
  });
}

// With p = exp(scale q k - log_sum), e = p (dy v - dy y): dv = p^T dy, dq = scale e k, dk = scale e^T q.
void host_attention_backward(const Attention& s, const Real* qkv, const Real* y, const Real* dy, const Real* log_sum, bool add,
                             Real* dqkv, Real* work) {
  const Sizes n(s);
  const Index per_worker = padded(n.backward(s)), pitch = s.pitch(), next = s.heads * s.width, t = s.length, d = s.width;
  const Index rows_of_keys = (t + kTileRows - 1) / kTileRows * kTileRows, across = panels_of(d);
  const Real scale = 1 / std::sqrt(static_cast<Real>(d));
  share_out("varion::attention::backward", s.batch * s.heads, [=](const Index item, const Index worker) {
    Real* const keys = work + worker * per_worker;                     // transposed
    Real* const values = keys + n.keys * d;                            // transposed
    Real* const key_rows = values + n.keys * d;
    Real* const sum_k = key_rows + n.width * t;                        // [keys / 8][width / 16][8][16]
    Real* const sum_v = sum_k + rows_of_keys * n.width;
    Real* const probability = sum_v + rows_of_keys * n.width;          // [64 + 8][keys]
    Real* const error = probability + (kBlock + kTileRows) * n.keys;
    Real* const queries = error + (kBlock + kTileRows) * n.keys;       // [64 + 8][width], times scale
    Real* const above = queries + (kBlock + kTileRows) * d;            // dy likewise
    Real* const query_rows = above + (kBlock + kTileRows) * d;         // panels
    Real* const above_rows = query_rows + kBlock * n.width;
    const Real* const q = qkv + s.query(item);
    const Real *const out = y + s.output(item), *const dout = dy + s.output(item);
    pack_transposed(q + next, pitch, t, d, keys);
    pack_transposed(q + 2 * next, pitch, t, d, values);
    pack_rows(q + next, pitch, t, d, 1, t, key_rows);
    std::fill(sum_k, sum_k + 2 * rows_of_keys * n.width, Real(0));
    alignas(64) Real a[kTileRows * kLanes], b[kTileRows * kLanes];
    for (Index begin = 0; begin < t; begin += kBlock) {
      const Index block = std::min(kBlock, t - begin), seen = s.causal ? begin + block : t;
      copy_rows(q + begin * pitch, pitch, block, d, scale, queries);
      copy_rows(dout + begin * next, next, block, d, 1, above);
      pack_rows(queries, d, block, d, 1, kBlock, query_rows);
      pack_rows(above, d, block, d, 1, kBlock, above_rows);
      for (Index first = 0; first < block; first += kTileRows) {
        const Index rows = std::min(kTileRows, block - first), reach = s.causal ? begin + first + rows : t;
        Real along[kTileRows] = {};
        for (Index i = 0; i < rows; ++i) along[i] = dot(above + (first + i) * d, out + (begin + first + i) * next, d);
        for (Index p = 0; p < panels_of(seen); ++p) {
          if (p * kLanes >= reach) {
            for (Index i = 0; i < rows; ++i) {
              std::fill_n(probability + (first + i) * n.keys + p * kLanes, kLanes, Real(0));
              std::fill_n(error + (first + i) * n.keys + p * kLanes, kLanes, Real(0));
            }
            continue;
          }
          product(rows, d, queries + first * d, d, keys + p * d * kLanes, a);
          product(rows, d, above + first * d, d, values + p * d * kLanes, b);
          for (Index i = 0; i < rows; ++i) {
            const Index own = s.causal ? begin + first + i + 1 : t, in = std::clamp<Index>(own - p * kLanes, 0, kLanes);
            const Real log_of = log_sum[item * t + begin + first + i];
            Real* const pr = probability + (first + i) * n.keys + p * kLanes;
            Real* const er = error + (first + i) * n.keys + p * kLanes;
            const Real *const score = a + i * kLanes, *const slope = b + i * kLanes, mean = along[i];
            VARION_LANES
            for (Index j = 0; j < kLanes; ++j) {
              pr[j] = exp_lane(score[j] - log_of);
              er[j] = pr[j] * (slope[j] - mean);
            }
            for (Index j = in; j < kLanes; ++j) pr[j] = er[j] = 0;  // behind the position
          }
        }
        for (Index p = 0; p < across; ++p) {
          product(rows, reach, error + first * n.keys, n.keys, key_rows + p * t * kLanes, a);
          const Index lanes = std::min<Index>(kLanes, d - p * kLanes);
          for (Index i = 0; i < rows; ++i)
            scaled_row(a + i * kLanes, scale, lanes, add, dqkv + s.query(item) + (begin + first + i) * pitch + p * kLanes);
        }
      }
      for (Index key = 0; key < seen; key += kTileRows)
        for (Index p = 0; p < across; ++p) {
          const Index at = (key / kTileRows * across + p) * kTileRows * kLanes;
          add_product(block, error + key, n.keys, query_rows + p * kBlock * kLanes, sum_k + at);
          add_product(block, probability + key, n.keys, above_rows + p * kBlock * kLanes, sum_v + at);
        }
    }
    for (Index key = 0; key < t; ++key)
      for (Index p = 0; p < across; ++p) {
        const Index from = (key / kTileRows * across + p) * kTileRows * kLanes + key % kTileRows * kLanes, lanes = std::min<Index>(kLanes, d - p * kLanes);
        Real* const to = dqkv + s.query(item) + key * pitch + p * kLanes;
        scaled_row(sum_k + from, 1, lanes, add, to + next);
        scaled_row(sum_v + from, 1, lanes, add, to + 2 * next);
      }
  });
}

}  // namespace varion::backend
