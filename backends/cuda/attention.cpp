// Attention by tensor cores, factors in TF32 or bfloat16, sums and the softmax in float32. A block of four warps keeps 64 rows
// (queries, or in the keys' gradient keys), 16 a warp, and goes through tiles of the other side; scores never leave registers. No
// atomics: every number is summed by one thread, in one order.
#include "backends/cuda/attention.hpp"

#include <algorithm>
#include <cmath>

#include "backends/cuda/mma.hpp"
#include "core/error.hpp"

namespace varion::backend {

namespace {
constexpr int kWarps = 4, kThreads = 32 * kWarps, kRows = 16 * kWarps;
constexpr float kLog2E = 1.44269504f;
}  // namespace

/// Words between rows of a tile in shared memory.
template <class E, int Width>
constexpr int kPitch = Width + E::padding;

/// `Rows` rows of a matrix into a tile, rounded; those from `left` on are zero. Reads 16 bytes a thread and turn.
template <class E, int Width, int Rows>
__device__ __forceinline__ void stage(const float* from, Index pitch, int left, typename E::Word* to) {
  constexpr int groups = Width / 4;
  static_assert(Rows * groups % kThreads == 0, "threads without work");
#pragma unroll 4
  for (int turn = 0; turn < Rows * groups / kThreads; ++turn) {
    const int i = turn * kThreads + static_cast<int>(threadIdx.x), row = i / groups, column = i % groups * 4;
    float4 v{0, 0, 0, 0};
    if (row < left) v = *reinterpret_cast<const float4*>(from + row * pitch + column);
    E::store(to + row * kPitch<E, Width> + column, v);
  }
}

/// c[16, Columns] += a b^T, a [16, Width] and b [Columns, Width] in shared memory.
template <class E, int Width, int Columns>
__device__ __forceinline__ void multiply_rows(const typename E::Word* a, const typename E::Word* b, int lane, float (&c)[Columns / 8][4]) {
  constexpr int pitch = kPitch<E, Width>;
#pragma unroll
  for (int k = 0; k < Width; k += E::depth) {
    std::uint32_t fa[4], fb[4];
    E::template load_a<pitch>(a + k, lane, fa);
#pragma unroll
    for (int n = 0; n < Columns; n += 16) {
      E::template load_rows<pitch>(b + n * pitch + k, lane, fb);
      E::multiply(c[n / 8], fa, fb[0], fb[1]);
      E::multiply(c[n / 8 + 1], fa, fb[2], fb[3]);
    }
  }
}

/// c[16, Width] += p m, p [16, Columns] a product in registers, m [Columns, Width] in shared memory.
template <class E, int Width, int Columns>
__device__ __forceinline__ void multiply_columns(const float (&p)[Columns / 8][4], const typename E::Word* m, int lane,
                                                 float (&c)[Width / 8][4]) {
  constexpr int pitch = kPitch<E, Width>;
#pragma unroll
  for (int k = 0; k < Columns; k += E::depth) {
    std::uint32_t fa[4], fb[4];
    E::weights(&p[k / 8], fa);
#pragma unroll
    for (int n = 0; n < Width; n += 16) {
      E::template load_columns<pitch>(m + k * pitch + n, lane, fb);
      E::multiply(c[n / 8], fa, fb[0], fb[1]);
      E::multiply(c[n / 8 + 1], fa, fb[2], fb[3]);
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

/// Where a block works, and which of its numbers a thread has.
struct Here {
  Index item;
  int first, warp, lane;  // first: its first row
  /// Blocks of an item follow one another and find its rows in the cache. With `back` the last rows, which see most, start first.
  __device__ __forceinline__ Here(int length, bool back) {
    const int tiles = (length + kRows - 1) / kRows, tile = static_cast<int>(blockIdx.x) % tiles;
    item = static_cast<int>(blockIdx.x) / tiles;
    first = (back ? tiles - 1 - tile : tile) * kRows;
    warp = static_cast<int>(threadIdx.x) / 32;
    lane = static_cast<int>(threadIdx.x) % 32;
  }
  /// Rows of elements 0, 1 and of elements 2, 3.
  __device__ __forceinline__ int row(int half) const { return first + 16 * warp + product_place(lane, 2 * half).row; }
  __device__ __forceinline__ int column(int n, int i) const { return 8 * n + product_place(lane, i).column; }
};

/// to[row, column] (+)= factor[half of the row] c, of rows below `length`; `to` is row 0.
template <int Width>
__device__ __forceinline__ void write_rows(const Here& here, int length, const float (&c)[Width / 8][4], const float (&factor)[2], bool add,
                                           Index pitch, float* to) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (here.row(half) >= length) continue;
    float* const row = to + here.row(half) * pitch;
#pragma unroll
    for (int n = 0; n < Width / 8; ++n) {
      float2* const at = reinterpret_cast<float2*>(row + here.column(n, 0));
      float2 v{factor[half] * c[n][2 * half], factor[half] * c[n][2 * half + 1]};
      if (add) v = {at->x + v.x, at->y + v.y};
      *at = v;
    }
  }
}

/// A block keeps 64 queries and goes through the keys they see: S = Q K^T, P = exp of it, y = P V over the sum of P, which is
/// corrected as the greatest score grows (Dao et al. 2022, algorithm 1). For 64 queries and a key 4 64 Width flops and 8 Width bytes,
/// from the cache mostly.
template <class E, int Width, int Columns>
__global__ void __launch_bounds__(kThreads) tensor_forward(Attention s, const float* qkv, float* y, float* log_sum) {
  using Word = typename E::Word;
  constexpr int pitch = kPitch<E, Width>;
  extern __shared__ __align__(16) unsigned char shared[];
  Word *const q = reinterpret_cast<Word*>(shared), *const k = q + kRows * pitch, *const v = k + Columns * pitch;
  const int length = static_cast<int>(s.length);
  const Here here(length, s.causal);
  const Index next = s.heads * Width;
  const float scale = 1 / sqrtf(Width), scale2 = scale * kLog2E;
  const float* const from = qkv + s.query(here.item);
  stage<E, Width, kRows>(from + here.first * s.pitch(), s.pitch(), length - here.first, q);

  float out[Width / 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {};
  const int end = s.causal ? min(length, here.first + kRows) : length;
  for (int key = 0; key < end; key += Columns) {
    __syncthreads();  // the tile before is read
    stage<E, Width, Columns>(from + next + key * s.pitch(), s.pitch(), length - key, k);
    stage<E, Width, Columns>(from + 2 * next + key * s.pitch(), s.pitch(), length - key, v);
    __syncthreads();
    float p[Columns / 8][4] = {};
    multiply_rows<E, Width, Columns>(q + 16 * here.warp * pitch, k, here.lane, p);
    if (key + Columns > length || (s.causal && key + Columns > here.first + 1)) {
#pragma unroll
      for (int n = 0; n < Columns / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int column = key + here.column(n, i);
          if (column >= length || (s.causal && column > here.row(i / 2))) p[n][i] = -INFINITY;
        }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = top[half];
#pragma unroll
      for (int n = 0; n < Columns / 8; ++n) most = fmaxf(most, fmaxf(p[n][2 * half], p[n][2 * half + 1]));
      most = row_max(most);  // finite: key 0 is seen by every row
      const float correction = exp2_lane((top[half] - most) * scale2), shift = -most * scale2;
      top[half] = most;
      sum[half] *= correction;
#pragma unroll
      for (int n = 0; n < Width / 8; ++n)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) out[n][i] *= correction;
#pragma unroll
      for (int n = 0; n < Columns / 8; ++n)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          p[n][i] = exp2_lane(fmaf(p[n][i], scale2, shift));
          sum[half] += p[n][i];
        }
    }
    multiply_columns<E, Width, Columns>(p, v, here.lane, out);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    sum[half] = row_sum(sum[half]);
    if (here.lane % 4 == 0 && here.row(half) < length)
      log_sum[here.item * s.length + here.row(half)] = fmaf(top[half], scale, logf(sum[half]));
  }
  const float factor[2] = {1 / sum[0], 1 / sum[1]};
  write_rows<Width>(here, length, out, factor, false, next, y + s.output(here.item));
}

/// along[item, i] = dy . y of a row and head: Width / 4 lanes each. 8 Width bytes read.
template <int Width>
__global__ void __launch_bounds__(256) tensor_along(Attention s, const float* y, const float* dy, float* along) {
  constexpr int lanes = Width / 4;
  const Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x, row = i / lanes;
  float sum = 0;
  if (row < s.rows() * s.heads) {
    const float4 a = reinterpret_cast<const float4*>(y)[i], b = reinterpret_cast<const float4*>(dy)[i];
    sum = fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, a.w * b.w)));
  }
#pragma unroll
  for (int step = lanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (row >= s.rows() * s.heads || i % lanes != 0) return;
  const Index token = row / s.heads, head = row % s.heads;
  along[(token / s.length * s.heads + head) * s.length + token % s.length] = sum;
}

/// A block keeps 64 keys and their values and goes through the queries that see them, everything transposed: P^T = exp(scale K Q^T -
/// log_sum), E^T = P^T (V dy^T - along); dV = P^T dy, dK = scale E^T Q. For 64 keys and a query 8 64 Width flops, 8 Width bytes.
template <class E, int Width, int Columns>
__global__ void __launch_bounds__(kThreads, Width < 128 ? 3 : 2) tensor_key_gradient(Attention s, const float* qkv, const float* dy, const float* log_sum,
                                                                   const float* along, bool add, float* dqkv) {
  using Word = typename E::Word;
  constexpr int pitch = kPitch<E, Width>;
  extern __shared__ __align__(16) unsigned char shared[];
  Word *const k = reinterpret_cast<Word*>(shared), *const v = k + kRows * pitch, *const q = v + kRows * pitch, *const d = q + Columns * pitch;
  const int length = static_cast<int>(s.length);
  const Here here(length, false);
  const Index next = s.heads * Width;
  const float scale = 1 / sqrtf(Width), scale2 = scale * kLog2E;
  const float* const from = qkv + s.query(here.item);
  const float* const above = dy + s.output(here.item);
  const float *const logs = log_sum + here.item * s.length, *const alongs = along + here.item * s.length;
  stage<E, Width, kRows>(from + next + here.first * s.pitch(), s.pitch(), length - here.first, k);
  stage<E, Width, kRows>(from + 2 * next + here.first * s.pitch(), s.pitch(), length - here.first, v);

  float dk[Width / 8][4] = {}, dv[Width / 8][4] = {};
  static_assert(kRows % Columns == 0, "a tile of queries begins before the keys");
  for (int query = s.causal ? here.first : 0; query < length; query += Columns) {
    __syncthreads();  // the tile before is read
    stage<E, Width, Columns>(from + query * s.pitch(), s.pitch(), length - query, q);
    stage<E, Width, Columns>(above + query * next, next, length - query, d);
    __syncthreads();
    float p[Columns / 8][4] = {}, e[Columns / 8][4] = {};
    multiply_rows<E, Width, Columns>(k + 16 * here.warp * pitch, q, here.lane, p);
    multiply_rows<E, Width, Columns>(v + 16 * here.warp * pitch, d, here.lane, e);
    const bool diagonal = s.causal && query < here.first + kRows;
#pragma unroll
    for (int n = 0; n < Columns / 8; ++n)
#pragma unroll
      for (int right = 0; right < 2; ++right) {
        const int column = query + here.column(n, right);
        // Beyond the end q and dy are zero: whatever finite number P is, it adds nothing.
        const float shift = column < length ? -kLog2E * logs[column] : 0, less = column < length ? alongs[column] : 0;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int i = 2 * half + right;
          float w = exp2_lane(fmaf(p[n][i], scale2, shift));
          if (diagonal && column < here.row(half)) w = 0;
          p[n][i] = w;
          e[n][i] = w * (e[n][i] - less);
        }
      }
    multiply_columns<E, Width, Columns>(p, d, here.lane, dv);
    multiply_columns<E, Width, Columns>(e, q, here.lane, dk);
  }
  float* const to = dqkv + s.query(here.item);
  const float one[2] = {1, 1}, scales[2] = {scale, scale};
  write_rows<Width>(here, length, dk, scales, add, s.pitch(), to + next);
  write_rows<Width>(here, length, dv, one, add, s.pitch(), to + 2 * next);
}

/// A block keeps 64 queries and goes through the keys they see: dQ = scale E K. For 64 queries and a key 6 64 Width flops, 8 Width bytes.
template <class E, int Width, int Columns>
__global__ void __launch_bounds__(kThreads) tensor_query_gradient(Attention s, const float* qkv, const float* dy, const float* log_sum,
                                                                     const float* along, bool add, float* dqkv) {
  using Word = typename E::Word;
  constexpr int pitch = kPitch<E, Width>;
  extern __shared__ __align__(16) unsigned char shared[];
  Word *const q = reinterpret_cast<Word*>(shared), *const d = q + kRows * pitch, *const k = d + kRows * pitch, *const v = k + Columns * pitch;
  const int length = static_cast<int>(s.length);
  const Here here(length, s.causal);
  const Index next = s.heads * Width;
  const float scale = 1 / sqrtf(Width), scale2 = scale * kLog2E;
  const float* const from = qkv + s.query(here.item);
  stage<E, Width, kRows>(from + here.first * s.pitch(), s.pitch(), length - here.first, q);
  stage<E, Width, kRows>(dy + s.output(here.item) + here.first * next, next, length - here.first, d);
  float shift[2], less[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = here.row(half);
    shift[half] = row < length ? -kLog2E * log_sum[here.item * s.length + row] : 0;
    less[half] = row < length ? along[here.item * s.length + row] : 0;
  }

  float dq[Width / 8][4] = {};
  const int end = s.causal ? min(length, here.first + kRows) : length;
  for (int key = 0; key < end; key += Columns) {
    __syncthreads();  // the tile before is read
    stage<E, Width, Columns>(from + next + key * s.pitch(), s.pitch(), length - key, k);
    stage<E, Width, Columns>(from + 2 * next + key * s.pitch(), s.pitch(), length - key, v);
    __syncthreads();
    float p[Columns / 8][4] = {}, e[Columns / 8][4] = {};
    multiply_rows<E, Width, Columns>(q + 16 * here.warp * pitch, k, here.lane, p);
    multiply_rows<E, Width, Columns>(d + 16 * here.warp * pitch, v, here.lane, e);
    const bool edge = key + Columns > length || (s.causal && key + Columns > here.first + 1);
#pragma unroll
    for (int n = 0; n < Columns / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = key + here.column(n, i);
        float w = exp2_lane(fmaf(p[n][i], scale2, shift[i / 2]));
        if (edge && (column >= length || (s.causal && column > here.row(i / 2)))) w = 0;
        e[n][i] = w * (e[n][i] - less[i / 2]);
      }
    multiply_columns<E, Width, Columns>(e, k, here.lane, dq);
  }
  const float scales[2] = {scale, scale};
  write_rows<Width>(here, length, dq, scales, add, s.pitch(), dqkv + s.query(here.item));
}

namespace {
void check(cudaError_t status, const char* what) {
  require(status == cudaSuccess, Exit::environment, "attention: ", what, ": ", cudaGetErrorString(status));
}

/// A block for every tile of every item, with `bytes` of shared memory.
template <auto kernel, int bytes, class... Arguments>
void launch(const Exec& exec, const Attention& s, Arguments... arguments) {
  static const bool allowed = [] {  // more than 48 kB must be asked for
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "shared memory");
    return true;
  }();
  static_cast<void>(allowed);
  const Index blocks = s.batch * s.heads * ((s.length + kRows - 1) / kRows);
  ensure(blocks < (Index(1) << 31), "attention: ", blocks, " blocks");
  kernel<<<static_cast<unsigned>(blocks), kThreads, bytes, exec.cuda_stream()>>>(s, arguments...);
  check(cudaGetLastError(), "launch");
}

/// Tiles of the other side are as long as registers let three blocks stay on a multiprocessor (two of the keys' gradient at 128).
template <class E, int Width>
struct Kernels {
  static constexpr int columns = Width < 128 ? 64 : 32, row_bytes = kPitch<E, Width> * static_cast<int>(sizeof(typename E::Word));

  static void forward(const Exec& exec, const Attention& s, ConstVec qkv, Vec y, Vec log_sum) {
    launch<tensor_forward<E, Width, columns>, (kRows + 2 * columns) * row_bytes>(exec, s, qkv.data(), y.data(), log_sum.data());
  }
  static void backward(const Exec& exec, const Attention& s, ConstVec qkv, ConstVec y, ConstVec dy, ConstVec log_sum, bool add, Vec dqkv,
                       Vec along) {
    const Index blocks = (s.rows() * s.heads * (Width / 4) + 255) / 256;
    ensure(blocks < (Index(1) << 31), "attention: ", blocks, " blocks");
    tensor_along<Width><<<static_cast<unsigned>(blocks), 256, 0, exec.cuda_stream()>>>(s, y.data(), dy.data(), along.data());
    check(cudaGetLastError(), "launch");
    launch<tensor_key_gradient<E, Width, 32>, 2 * (kRows + 32) * row_bytes>(exec, s, qkv.data(), dy.data(), log_sum.data(), along.data(), add,
                     dqkv.data());
    launch<tensor_query_gradient<E, Width, columns>, 2 * (kRows + columns) * row_bytes>(exec, s, qkv.data(), dy.data(), log_sum.data(), along.data(), add,
                     dqkv.data());
  }
};

template <class E, class Do>
void with_width(Index width, const Do& run) {
  switch (width) {
    case 16: return run(Kernels<E, 16>());
    case 32: return run(Kernels<E, 32>());
    case 64: return run(Kernels<E, 64>());
    default: return run(Kernels<E, 128>());
  }
}
template <class Do>
void with_kernels(Index width, const Do& run) {
  if (precision() == Precision::bf16) return with_width<Bf16>(width, run);
  with_width<Tf32>(width, run);
}

/// Compute capability 8.0 on has both types, if what it runs was compiled for it (mma.hpp).
bool device_can() {
  static const bool can = [] {
    int device = 0, major = 0;
    cudaFuncAttributes code{};
    return cudaGetDevice(&device) == cudaSuccess && cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
           major >= 8 && cudaFuncGetAttributes(&code, tensor_along<64>) == cudaSuccess && code.ptxVersion >= 80;
  }();
  return can;
}
}  // namespace

bool tensor_attention_takes(const Attention& s, std::initializer_list<const Real*> vectors) {
  const auto whole = [](const Real* v) { return reinterpret_cast<size_t>(v) % 16 == 0; };
  return precision() != Precision::fp32 && (s.width == 16 || s.width == 32 || s.width == 64 || s.width == 128) &&
         s.length < (Index(1) << 30) && std::all_of(vectors.begin(), vectors.end(), whole) && device_can();
}

void tensor_attention_forward(const Exec& exec, const Attention& s, ConstVec qkv, Vec y, Vec log_sum) {
  with_kernels(s.width, [&](auto kernels) { kernels.forward(exec, s, qkv, y, log_sum); });
}

void tensor_attention_backward(const Exec& exec, const Attention& s, ConstVec qkv, ConstVec y, ConstVec dy, ConstVec log_sum, bool add,
                               Vec dqkv, Vec along) {
  with_kernels(s.width, [&](auto kernels) { kernels.backward(exec, s, qkv, y, dy, log_sum, add, dqkv, along); });
}

}  // namespace varion::backend
