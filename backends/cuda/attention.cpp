// Attention by tensor cores, factors in TF32 or bfloat16, sums and the softmax in float32. A block of four warps keeps some rows
// (queries, or in the keys' gradient keys), 16 or 32 a warp, and goes through tiles of the other side; scores never leave registers.
// What lies in memory as float32 is rounded as a tile is staged; as bfloat16 it is copied while the tile before is computed. No
// atomics: every number is summed by one thread, in one order.
#include "backends/cuda/attention.hpp"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "backends/cuda/mma.hpp"
#include "core/error.hpp"

namespace varion::backend {

namespace {
constexpr int kWarps = 4, kThreads = 32 * kWarps;
constexpr float kLog2E = 1.44269504f;
}  // namespace

/// How a kernel goes: T in memory, factors E, 16 Height rows a warp, tiles of Columns rows of the other side, at least Blocks blocks on
/// a multiprocessor. With Held the factors of a warp's rows stay in registers, else they are read from shared memory for every tile.
template <class T, class E_, int Width, int Height, int Columns, int Blocks, bool Held = false>
struct Plan {
  using Number = T;
  using E = E_;
  using Word = typename E::Word;
  static constexpr int width = Width, height = Height, columns = Columns, blocks = Blocks, rows = 16 * kWarps * Height;
  static constexpr bool held = Held, copied = std::is_same_v<T, Bfloat16>;
  static_assert(!copied || std::is_same_v<E, Bf16>, "a copy does not round");
  static_assert(copied || !held, "held rows wait for a copy");

  /// In words of shared memory: between rows of a tile; two tiles and, where they are copied, two float32 a column.
  static constexpr int pitch = Width + E::padding, place = 2 * Columns * pitch + (copied ? 4 * Columns : 0);
  /// Shared memory of a kernel that keeps so many matrices of `rows` rows.
  static constexpr int bytes(int kept) { return (kept * rows * pitch + (copied ? 2 : 1) * place) * static_cast<int>(sizeof(Word)); }
};

/// `Rows` rows of a matrix into a tile, rounded; those from `left` on are zero. Reads 16 bytes a thread and turn.
template <class P, int Rows>
__device__ __forceinline__ void stage(const float* from, Index pitch, int left, typename P::Word* to) {
  constexpr int groups = P::width / 4;
  static_assert(Rows * groups % kThreads == 0, "threads without work");
#pragma unroll 4
  for (int turn = 0; turn < Rows * groups / kThreads; ++turn) {
    const int i = turn * kThreads + static_cast<int>(threadIdx.x), row = i / groups, column = i % groups * 4;
    float4 v{0, 0, 0, 0};
    if (row < left) v = *reinterpret_cast<const float4*>(from + row * pitch + column);
    P::E::store(to + row * P::pitch + column, v);
  }
}
/// The same as a copy in the background; of a width of 16 a tile of 32 rows is work for half of the threads.
template <class P, int Rows>
__device__ __forceinline__ void stage(const Bfloat16* from, Index pitch, int left, typename P::Word* to) {
  constexpr int groups = P::width / 8, step = kThreads / groups;
  const int begin = static_cast<int>(threadIdx.x) / groups, column = static_cast<int>(threadIdx.x) % groups * 8;
#pragma unroll
  for (int first = 0; first < Rows; first += step) {
    const int row = first + begin;
    if (Rows % step != 0 && row >= Rows) break;
    copy_16(to + row * P::pitch + column, from + (row < left ? row : 0) * pitch + column, row < left);
  }
}

/// Where a block works, and which of its numbers a thread has.
template <class P>
struct Here {
  Index item;
  int first, low, last, lane;  // the block's first row, the warp's first and last
  /// Blocks of an item follow one another and find its rows in the cache. With `back` the last rows, which see most, start first.
  __device__ __forceinline__ Here(int length, bool back) {
    const int tiles = (length + P::rows - 1) / P::rows, tile = static_cast<int>(blockIdx.x) % tiles;
    item = static_cast<int>(blockIdx.x) / tiles;
    first = (back ? tiles - 1 - tile : tile) * P::rows;
    low = first + 16 * P::height * (static_cast<int>(threadIdx.x) / 32);
    last = low + 16 * P::height - 1;
    lane = static_cast<int>(threadIdx.x) % 32;
  }
  /// Rows of elements 0, 1 and of elements 2, 3 of a product of the warp's rows 16 m on.
  __device__ __forceinline__ int row(int m, int half) const { return low + 16 * m + product_place(lane, 2 * half).row; }
  __device__ __forceinline__ int column(int n, int i) const { return 8 * n + product_place(lane, i).column; }
};

/// A warp's rows of a matrix that stays in shared memory, as factors.
template <class P>
struct Kept {
  const typename P::Word* at;
  int lane;
  std::uint32_t held[P::held ? P::width / P::E::depth : 1][P::height][4];
  __device__ __forceinline__ Kept(const typename P::Word* matrix, const Here<P>& here)
      : at(matrix + (here.low - here.first) * P::pitch), lane(here.lane) {
    if constexpr (P::held) {
#pragma unroll
      for (int k = 0; k < P::width; k += P::E::depth)
#pragma unroll
        for (int m = 0; m < P::height; ++m) P::E::template load_a<P::pitch>(at + 16 * m * P::pitch + k, lane, held[k / P::E::depth][m]);
    }
  }
  __device__ __forceinline__ void columns_from(int k, std::uint32_t (&a)[P::height][4]) const {
#pragma unroll
    for (int m = 0; m < P::height; ++m) {
      if constexpr (P::held) {
#pragma unroll
        for (int i = 0; i < 4; ++i) a[m][i] = held[k / P::E::depth][m][i];
      } else {
        P::E::template load_a<P::pitch>(at + 16 * m * P::pitch + k, lane, a[m]);
      }
    }
  }
};

/// The place of the tiles that a block goes through, `bring(row, to)` has threads fetch one. Copied tiles have two places by turns.
template <class P>
struct Places {
  typename P::Word* const first;
  int turn;
  __device__ __forceinline__ explicit Places(typename P::Word* at) : first(at), turn(0) {}

  /// Sets the first tile on its way; what was staged before may be read if it is to be held.
  template <class Bring>
  __device__ __forceinline__ void begin(int row, const Bring& bring) {
    if constexpr (P::copied) {
      commit_copies();
      bring(row, first);
      commit_copies();
      if constexpr (P::held) {
        wait_copies<1>();
        __syncthreads();
      }
    }
  }
  /// The tile of `row`, of which all threads may read until they call again; sets the next one on its way if it begins before `end`.
  template <class Bring>
  __device__ __forceinline__ const typename P::Word* tile(int row, int end, const Bring& bring) {
    if constexpr (P::copied) {
      const typename P::Word* const here = first + turn * P::place;
      turn ^= 1;
      wait_copies<0>();
      __syncthreads();  // this tile is there for all, the one before is read
      if (row + P::columns < end) {
        bring(row + P::columns, first + turn * P::place);
        commit_copies();
      }
      return here;
    } else {
      __syncthreads();  // the tile before is read
      bring(row, first);
      __syncthreads();
      return first;
    }
  }
};

/// c[rows of the warp, columns] += a b^T, b [columns, width] in shared memory.
template <class P>
__device__ __forceinline__ void multiply_rows(const Kept<P>& a, const typename P::Word* b, int lane, float (&c)[P::height][P::columns / 8][4]) {
  using E = typename P::E;
#pragma unroll
  for (int k = 0; k < P::width; k += E::depth) {
    std::uint32_t fa[P::height][4], fb[4];
    a.columns_from(k, fa);
#pragma unroll
    for (int n = 0; n < P::columns; n += 16) {
      E::template load_rows<P::pitch>(b + n * P::pitch + k, lane, fb);
#pragma unroll
      for (int m = 0; m < P::height; ++m) {
        E::multiply(c[m][n / 8], fa[m], fb[0], fb[1]);
        E::multiply(c[m][n / 8 + 1], fa[m], fb[2], fb[3]);
      }
    }
  }
}

/// c[rows of the warp, width] += p b, p [rows, columns] a product in registers, b [columns, width] in shared memory.
template <class P>
__device__ __forceinline__ void multiply_columns(const float (&p)[P::height][P::columns / 8][4], const typename P::Word* b, int lane,
                                                 float (&c)[P::height][P::width / 8][4]) {
  using E = typename P::E;
#pragma unroll
  for (int k = 0; k < P::columns; k += E::depth) {
    std::uint32_t fa[P::height][4], fb[4];
#pragma unroll
    for (int m = 0; m < P::height; ++m) E::weights(&p[m][k / 8], fa[m]);
#pragma unroll
    for (int n = 0; n < P::width; n += 16) {
      E::template load_columns<P::pitch>(b + k * P::pitch + n, lane, fb);
#pragma unroll
      for (int m = 0; m < P::height; ++m) {
        E::multiply(c[m][n / 8], fa[m], fb[0], fb[1]);
        E::multiply(c[m][n / 8 + 1], fa[m], fb[2], fb[3]);
      }
    }
  }
}

/// Over the four lanes that share a row of a product.
__device__ __forceinline__ float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

/// to[0, 1] (+)= v, as one access; bfloat16 adds in float32 and rounds once.
__device__ __forceinline__ void write_pair(float* to, float2 v, bool add) {
  float2* const at = reinterpret_cast<float2*>(to);
  if (add) v = {at->x + v.x, at->y + v.y};
  *at = v;
}
__device__ __forceinline__ void write_pair(Bfloat16* to, float2 v, bool add) {
  std::uint32_t* const at = reinterpret_cast<std::uint32_t*>(to);
  if (add) {
    const float2 before = Bf16::numbers(*at);
    v = {before.x + v.x, before.y + v.y};
  }
  *at = Bf16::pair(v.x, v.y);
}

/// to[row, column] (+)= factor c, of rows below `length`; `to` is row 0.
template <class P>
__device__ __forceinline__ void write_rows(const Here<P>& here, int length, const float (&c)[P::height][P::width / 8][4], float factor, bool add,
                                           Index pitch, typename P::Number* to) {
#pragma unroll
  for (int m = 0; m < P::height; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (here.row(m, half) >= length) continue;
      typename P::Number* const row = to + here.row(m, half) * pitch;
#pragma unroll
      for (int n = 0; n < P::width / 8; ++n)
        write_pair(row + here.column(n, 0), {factor * c[m][n][2 * half], factor * c[m][n][2 * half + 1]}, add);
    }
}

/// A block keeps queries and goes through the keys they see: S = Q K^T, P = exp of it, y = P V over the sum of P, which is corrected as
/// the greatest score grows (Dao et al. 2022, algorithm 1). For R queries of a block and a key 4 R Width flops and 8 Width bytes, 4
/// Width in bfloat16, from the cache mostly.
template <class P>
__global__ void __launch_bounds__(kThreads, P::blocks) tensor_forward(Attention s, const typename P::Number* qkv, typename P::Number* y,
                                                                      float* log_sum) {
  using Word = typename P::Word;
  constexpr int width = P::width, columns = P::columns, height = P::height;
  extern __shared__ __align__(16) unsigned char shared[];
  Word* const q = reinterpret_cast<Word*>(shared);
  const int length = static_cast<int>(s.length);
  const Here<P> here(length, s.causal);
  const Index next = s.heads * width, pitch = s.pitch();
  const float scale = 1 / sqrtf(width), scale2 = scale * kLog2E;
  const typename P::Number* const from = qkv + s.query(here.item);
  const auto bring = [&](int key, Word* to) {
    stage<P, columns>(from + next + key * pitch, pitch, length - key, to);
    stage<P, columns>(from + 2 * next + key * pitch, pitch, length - key, to + columns * P::pitch);
  };
  stage<P, P::rows>(from + here.first * pitch, pitch, length - here.first, q);
  Places<P> tiles(q + P::rows * P::pitch);
  tiles.begin(0, bring);
  const Kept<P> queries(q, here);

  float out[height][width / 8][4] = {}, top[height][2], sum[height][2] = {};
#pragma unroll
  for (int m = 0; m < height; ++m) top[m][0] = top[m][1] = -INFINITY;
  const int end = s.causal ? min(length, here.first + P::rows) : length;
  for (int key = 0; key < end; key += columns) {
    const Word *const k = tiles.tile(key, end, bring), *const v = k + columns * P::pitch;
    if (P::copied && s.causal && key > here.last) continue;  // the warp's rows see none of it
    float p[height][columns / 8][4] = {};
    multiply_rows<P>(queries, k, here.lane, p);
    if (key + columns > length || (s.causal && key + columns > (P::copied ? here.low : here.first) + 1)) {
#pragma unroll
      for (int m = 0; m < height; ++m)
#pragma unroll
        for (int n = 0; n < columns / 8; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int column = key + here.column(n, i);
            if (column >= length || (s.causal && column > here.row(m, i / 2))) p[m][n][i] = -INFINITY;
          }
    }
#pragma unroll
    for (int m = 0; m < height; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float most = top[m][half];
#pragma unroll
        for (int n = 0; n < columns / 8; ++n) most = fmaxf(most, fmaxf(p[m][n][2 * half], p[m][n][2 * half + 1]));
        most = row_max(most);  // finite: key 0 is seen by every row
        const float correction = exp2_lane((top[m][half] - most) * scale2), shift = -most * scale2;
        top[m][half] = most;
        sum[m][half] *= correction;
#pragma unroll
        for (int n = 0; n < width / 8; ++n)
#pragma unroll
          for (int i = 2 * half; i < 2 * half + 2; ++i) out[m][n][i] *= correction;
#pragma unroll
        for (int n = 0; n < columns / 8; ++n)
#pragma unroll
          for (int i = 2 * half; i < 2 * half + 2; ++i) {
            p[m][n][i] = exp2_lane(fmaf(p[m][n][i], scale2, shift));
            sum[m][half] += p[m][n][i];
          }
      }
    multiply_columns<P>(p, v, here.lane, out);
  }
#pragma unroll
  for (int m = 0; m < height; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float all = row_sum(sum[m][half]), factor = 1 / all;
      if (here.lane % 4 == 0 && here.row(m, half) < length)
        log_sum[here.item * s.length + here.row(m, half)] = fmaf(top[m][half], scale, logf(all));
#pragma unroll
      for (int n = 0; n < width / 8; ++n)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) out[m][n][i] *= factor;
    }
  write_rows<P>(here, length, out, 1, false, next, y + s.output(here.item));
}

/// Of 16 bytes of each.
__device__ __forceinline__ float dot(const float* a, const float* b) {
  const float4 u = *reinterpret_cast<const float4*>(a), v = *reinterpret_cast<const float4*>(b);
  return fmaf(u.x, v.x, fmaf(u.y, v.y, fmaf(u.z, v.z, u.w * v.w)));
}
__device__ __forceinline__ float dot(const Bfloat16* a, const Bfloat16* b) {
  const uint4 u = *reinterpret_cast<const uint4*>(a), v = *reinterpret_cast<const uint4*>(b);
  const std::uint32_t us[4] = {u.x, u.y, u.z, u.w}, vs[4] = {v.x, v.y, v.z, v.w};
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 s = Bf16::numbers(us[i]), t = Bf16::numbers(vs[i]);
    sum = fmaf(s.x, t.x, fmaf(s.y, t.y, sum));
  }
  return sum;
}

/// along[item, i] = dy . y of a row and head, 16 bytes of each a lane. 8 Width bytes read, 4 Width of bfloat16.
template <class T, int Width>
__global__ void __launch_bounds__(256) tensor_along(Attention s, const T* y, const T* dy, float* along) {
  constexpr int numbers = 16 / sizeof(T), lanes = Width / numbers;
  const Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x, row = i / lanes;
  float sum = 0;
  if (row < s.rows() * s.heads) sum = dot(y + i * numbers, dy + i * numbers);
#pragma unroll
  for (int step = lanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (row >= s.rows() * s.heads || i % lanes != 0) return;
  const Index token = row / s.heads, head = row % s.heads;
  along[(token / s.length * s.heads + head) * s.length + token % s.length] = sum;
}

/// A block keeps keys and their values and goes through the queries that see them, everything transposed: P^T = exp(scale K Q^T -
/// log_sum), E^T = P^T (V dy^T - along); dV = P^T dy, dK = scale E^T Q. For R keys of a block and a query 8 R Width flops, 8 Width
/// bytes, 4 Width in bfloat16.
template <class P>
__global__ void __launch_bounds__(kThreads, P::blocks) tensor_key_gradient(Attention s, const typename P::Number* qkv, const typename P::Number* dy,
                                                                           const float* log_sum, const float* along, bool add,
                                                                           typename P::Number* dqkv) {
  using Word = typename P::Word;
  constexpr int width = P::width, columns = P::columns, height = P::height;
  extern __shared__ __align__(16) unsigned char shared[];
  Word *const k = reinterpret_cast<Word*>(shared), *const v = k + P::rows * P::pitch;
  const int length = static_cast<int>(s.length);
  const Here<P> here(length, false);
  const Index next = s.heads * width, pitch = s.pitch();
  const float scale = 1 / sqrtf(width), scale2 = scale * kLog2E;
  const typename P::Number *const from = qkv + s.query(here.item), *const above = dy + s.output(here.item);
  const float *const logs = log_sum + here.item * s.length, *const alongs = along + here.item * s.length;
  const int mine = static_cast<int>(threadIdx.x) % columns;
  const float* const side = (static_cast<int>(threadIdx.x) < columns ? logs : alongs) + mine;
  const auto bring = [&](int query, Word* to) {
    stage<P, columns>(from + query * pitch, pitch, length - query, to);
    stage<P, columns>(above + query * next, next, length - query, to + columns * P::pitch);
    if constexpr (P::copied) {  // behind it log_sum and along of its rows
      static_assert(2 * columns <= kThreads, "a number a thread");
      const bool there = query + mine < length;
      float* const behind = reinterpret_cast<float*>(to + 2 * columns * P::pitch);
      if (threadIdx.x < 2 * columns) copy_4(behind + threadIdx.x, side + (there ? query : -mine), there);
    }
  };
  stage<P, P::rows>(from + next + here.first * pitch, pitch, length - here.first, k);
  stage<P, P::rows>(from + 2 * next + here.first * pitch, pitch, length - here.first, v);
  const int begin = s.causal ? here.first : 0;
  Places<P> tiles(v + P::rows * P::pitch);
  tiles.begin(begin, bring);
  const Kept<P> keys(k, here), values(v, here);

  float dk[height][width / 8][4] = {}, dv[height][width / 8][4] = {};
  for (int query = begin; query < length; query += columns) {
    const Word *const q = tiles.tile(query, length, bring), *const d = q + columns * P::pitch;
    if (P::copied && s.causal && query + columns <= here.low) continue;  // none sees the warp's rows
    float p[height][columns / 8][4] = {}, e[height][columns / 8][4] = {};
    multiply_rows<P>(keys, q, here.lane, p);
    multiply_rows<P>(values, d, here.lane, e);
    const bool diagonal = s.causal && query < (P::copied ? here.last : here.first + P::rows);
#pragma unroll
    for (int n = 0; n < columns / 8; ++n) {
      // Beyond the end q and dy are zero: whatever finite number P is, it adds nothing.
      float shift[2], less[2];
      if constexpr (P::copied) {
        const float* const at = reinterpret_cast<const float*>(d + columns * P::pitch) + here.column(n, 0);
        const float2 log_sums = *reinterpret_cast<const float2*>(at), lesses = *reinterpret_cast<const float2*>(at + columns);
        shift[0] = -kLog2E * log_sums.x;
        shift[1] = -kLog2E * log_sums.y;
        less[0] = lesses.x;
        less[1] = lesses.y;
      } else {
#pragma unroll
        for (int right = 0; right < 2; ++right) {
          const int column = query + here.column(n, right);
          shift[right] = column < length ? -kLog2E * logs[column] : 0;
          less[right] = column < length ? alongs[column] : 0;
        }
      }
#pragma unroll
      for (int m = 0; m < height; ++m)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float w = exp2_lane(fmaf(p[m][n][i], scale2, shift[i % 2]));
          if (diagonal && query + here.column(n, i) < here.row(m, i / 2)) w = 0;
          p[m][n][i] = w;
          e[m][n][i] = w * (e[m][n][i] - less[i % 2]);
        }
    }
    multiply_columns<P>(p, d, here.lane, dv);
    multiply_columns<P>(e, q, here.lane, dk);
  }
  typename P::Number* const to = dqkv + s.query(here.item);
  write_rows<P>(here, length, dk, scale, add, pitch, to + next);
  write_rows<P>(here, length, dv, 1, add, pitch, to + 2 * next);
}

/// A block keeps queries and goes through the keys they see: dQ = scale E K. For R queries of a block and a key 6 R Width flops, 8 Width
/// bytes, 4 Width in bfloat16.
template <class P>
__global__ void __launch_bounds__(kThreads, P::blocks) tensor_query_gradient(Attention s, const typename P::Number* qkv, const typename P::Number* dy,
                                                                             const float* log_sum, const float* along, bool add,
                                                                             typename P::Number* dqkv) {
  using Word = typename P::Word;
  constexpr int width = P::width, columns = P::columns, height = P::height;
  extern __shared__ __align__(16) unsigned char shared[];
  Word *const q = reinterpret_cast<Word*>(shared), *const d = q + P::rows * P::pitch;
  const int length = static_cast<int>(s.length);
  const Here<P> here(length, s.causal);
  const Index next = s.heads * width, pitch = s.pitch();
  const float scale = 1 / sqrtf(width), scale2 = scale * kLog2E;
  const typename P::Number* const from = qkv + s.query(here.item);
  const auto bring = [&](int key, Word* to) {
    stage<P, columns>(from + next + key * pitch, pitch, length - key, to);
    stage<P, columns>(from + 2 * next + key * pitch, pitch, length - key, to + columns * P::pitch);
  };
  stage<P, P::rows>(from + here.first * pitch, pitch, length - here.first, q);
  stage<P, P::rows>(dy + s.output(here.item) + here.first * next, next, length - here.first, d);
  Places<P> tiles(d + P::rows * P::pitch);
  tiles.begin(0, bring);
  const Kept<P> queries(q, here), above(d, here);
  float shift[height][2], less[height][2];
#pragma unroll
  for (int m = 0; m < height; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = here.row(m, half);
      shift[m][half] = row < length ? -kLog2E * log_sum[here.item * s.length + row] : 0;
      less[m][half] = row < length ? along[here.item * s.length + row] : 0;
    }

  float dq[height][width / 8][4] = {};
  const int end = s.causal ? min(length, here.first + P::rows) : length;
  for (int key = 0; key < end; key += columns) {
    const Word *const k = tiles.tile(key, end, bring), *const v = k + columns * P::pitch;
    if (P::copied && s.causal && key > here.last) continue;  // the warp's rows see none of it
    float p[height][columns / 8][4] = {}, e[height][columns / 8][4] = {};
    multiply_rows<P>(queries, k, here.lane, p);
    multiply_rows<P>(above, v, here.lane, e);
    const bool edge = key + columns > length || (s.causal && key + columns > (P::copied ? here.low : here.first) + 1);
#pragma unroll
    for (int m = 0; m < height; ++m)
#pragma unroll
      for (int n = 0; n < columns / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int column = key + here.column(n, i);
          float w = exp2_lane(fmaf(p[m][n][i], scale2, shift[m][i / 2]));
          if (edge && (column >= length || (s.causal && column > here.row(m, i / 2)))) w = 0;
          e[m][n][i] = w * (e[m][n][i] - less[m][i / 2]);
        }
    multiply_columns<P>(e, k, here.lane, dq);
  }
  write_rows<P>(here, length, dq, scale, add, pitch, dqkv + s.query(here.item));
}

namespace {
void check(cudaError_t status, const char* what) {
  require(status == cudaSuccess, Exit::environment, "attention: ", what, ": ", cudaGetErrorString(status));
}

/// A block for every `rows` rows of every item, with `bytes` of shared memory.
template <auto kernel, int rows, int bytes, class... Arguments>
void launch(const Exec& exec, const Attention& s, Arguments... arguments) {
  static_assert(bytes <= 99 << 10, "compute capability 8.6 has no more");
  static const bool allowed = [] {  // more than 48 kB must be asked for
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "shared memory");
    return true;
  }();
  static_cast<void>(allowed);
  const Index blocks = s.batch * s.heads * ((s.length + rows - 1) / rows);
  ensure(blocks < (Index(1) << 31), "attention: ", blocks, " blocks");
  kernel<<<static_cast<unsigned>(blocks), kThreads, bytes, exec.cuda_stream()>>>(s, arguments...);
  check(cudaGetLastError(), "launch");
}

/// Tiles of the other side are as long as registers let three blocks stay on a multiprocessor (two of the keys' gradient at 128).
template <class T, class E, int Width>
struct Plans {
  static constexpr int columns = Width < 128 ? 64 : 32;
  using Forward = Plan<T, E, Width, 1, columns, 0>;
  using KeyGradient = Plan<T, E, Width, 1, 32, Width < 128 ? 3 : 2>;
  using QueryGradient = Plan<T, E, Width, 1, columns, Width < 128 ? 0 : 4>;
};
/// With 32 rows a warp what is read of a tile is multiplied twice, for shared memory is slower than tensor cores, at the price of only two
/// blocks on a multiprocessor. Where two sums leave no registers for that, a width of 64 holds the keys instead.
template <class E, int Width>
struct Plans<Bfloat16, E, Width> {
  using Forward = Plan<Bfloat16, E, Width, 2, Width < 128 ? 64 : 32, 2, (Width < 128)>;
  using KeyGradient = Plan<Bfloat16, E, Width, Width < 64 ? 2 : 1, Width == 64 ? 64 : 32, 2, Width == 64>;
  using QueryGradient = Plan<Bfloat16, E, Width, Width < 128 ? 2 : 1, 32, 2, (Width < 128)>;
};

template <class T, class E, int Width>
struct Kernels : Plans<T, E, Width> {
  using typename Plans<T, E, Width>::Forward;
  using typename Plans<T, E, Width>::KeyGradient;
  using typename Plans<T, E, Width>::QueryGradient;

  static void forward(const Exec& exec, const Attention& s, const T* qkv, T* y, float* log_sum) {
    launch<tensor_forward<Forward>, Forward::rows, Forward::bytes(1)>(exec, s, qkv, y, log_sum);
  }
  static void backward(const Exec& exec, const Attention& s, const T* qkv, const T* y, const T* dy, const float* log_sum, bool add, T* dqkv,
                       float* along) {
    const Index blocks = (s.rows() * s.heads * (Width * static_cast<Index>(sizeof(T)) / 16) + 255) / 256;
    ensure(blocks < (Index(1) << 31), "attention: ", blocks, " blocks");
    tensor_along<T, Width><<<static_cast<unsigned>(blocks), 256, 0, exec.cuda_stream()>>>(s, y, dy, along);
    check(cudaGetLastError(), "launch");
    const float* const alongs = along;
    launch<tensor_key_gradient<KeyGradient>, KeyGradient::rows, KeyGradient::bytes(2)>(exec, s, qkv, dy, log_sum, alongs, add, dqkv);
    launch<tensor_query_gradient<QueryGradient>, QueryGradient::rows, QueryGradient::bytes(2)>(exec, s, qkv, dy, log_sum, alongs, add, dqkv);
  }
};

template <class T, class E, class Do>
void with_width(Index width, const Do& run) {
  switch (width) {
    case 16: return run(Kernels<T, E, 16>());
    case 32: return run(Kernels<T, E, 32>());
    case 64: return run(Kernels<T, E, 64>());
    default: return run(Kernels<T, E, 128>());
  }
}
template <class Do>
void with_kernels(Index width, const Do& run) {
  if (precision() == Precision::bf16) return with_width<float, Bf16>(width, run);
  with_width<float, Tf32>(width, run);
}

/// Compute capability 8.0 on has both types, if what it runs was compiled for it (mma.hpp).
bool device_can() {
  static const bool can = [] {
    int device = 0, major = 0;
    cudaFuncAttributes code{};
    return cudaGetDevice(&device) == cudaSuccess && cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
           major >= 8 && cudaFuncGetAttributes(&code, tensor_along<float, 64>) == cudaSuccess && code.ptxVersion >= 80;
  }();
  return can;
}

bool tensor_cores_take(const Attention& s) {
  return (s.width == 16 || s.width == 32 || s.width == 64 || s.width == 128) && s.length < (Index(1) << 30) && device_can();
}
bool at_16_bytes(const void* v) { return reinterpret_cast<size_t>(v) % 16 == 0; }
}  // namespace

bool tensor_attention_takes(const Attention& s, std::initializer_list<const Real*> vectors) {
  return precision() != Precision::fp32 && std::all_of(vectors.begin(), vectors.end(), at_16_bytes) && tensor_cores_take(s);
}

void tensor_attention_forward(const Exec& exec, const Attention& s, ConstVec qkv, Vec y, Vec log_sum) {
  refuse_empty(s);
  with_kernels(s.width, [&](auto kernels) { kernels.forward(exec, s, qkv.data(), y.data(), log_sum.data()); });
}

void tensor_attention_backward(const Exec& exec, const Attention& s, ConstVec qkv, ConstVec y, ConstVec dy, ConstVec log_sum, bool add,
                               Vec dqkv, Vec along) {
  refuse_empty(s);
  with_kernels(s.width, [&](auto kernels) {
    kernels.backward(exec, s, qkv.data(), y.data(), dy.data(), log_sum.data(), add, dqkv.data(), along.data());
  });
}

bool tensor_attention_takes_bf16(const Attention& s) { return tensor_cores_take(s); }

void tensor_attention_forward_bf16(const Exec& exec, const Attention& s, ConstBf16Vec qkv, Bf16Vec y, Vec log_sum) {
  refuse_empty(s);
  ensure(at_16_bytes(qkv.data()) && at_16_bytes(y.data()), "attention: a vector that does not lie at 16 bytes");
  with_width<Bfloat16, Bf16>(s.width, [&](auto kernels) { kernels.forward(exec, s, qkv.data(), y.data(), log_sum.data()); });
}

void tensor_attention_backward_bf16(const Exec& exec, const Attention& s, ConstBf16Vec qkv, ConstBf16Vec y, ConstBf16Vec dy, ConstVec log_sum,
                                    bool add, Bf16Vec dqkv, Vec along) {
  refuse_empty(s);
  for (const Bfloat16* v : {qkv.data(), y.data(), dy.data(), static_cast<const Bfloat16*>(dqkv.data())})
    ensure(at_16_bytes(v), "attention: a vector that does not lie at 16 bytes");
  with_width<Bfloat16, Bf16>(s.width, [&](auto kernels) {
    kernels.backward(exec, s, qkv.data(), y.data(), dy.data(), log_sum.data(), add, dqkv.data(), along.data());
  });
}

}  // namespace varion::backend
