// cuBLAS: GEMM on the execution space's own stream. It knows columns first: C row by row is C transposed, so
// C^T = op(B)^T op(A)^T is what it is asked for. In bf16 it is given A and B as they are kept or
// rounded copies.
#include "backends/cuda/cublas.hpp"

#include "backends/cuda/attention.hpp"

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <map>
#include <vector>

#include "backends/narrow.hpp"
#include "core/error.hpp"
#include "core/profile.hpp"

namespace varion::backend {

namespace {
void check(cublasStatus_t status, const char* what) {
  require(status == CUBLAS_STATUS_SUCCESS, Exit::environment, "cuBLAS: ", what, ": ", cublasGetStatusString(status));
}

/// A handle and its workspace, one a stream: its sums then have one order whatever other streams do, and a recorded
/// call finds its memory where it was.
struct Handle {
  static constexpr size_t kWorkspace = size_t(32) << 20;  // bytes, what the library advises for Hopper
  cublasHandle_t handle = nullptr;
  void* workspace = nullptr;
  std::vector<void*> blocks;  // of rounded factors; the last one is in use, recorded calls may use those before
  size_t room = 0;            // bytes of the last one

  explicit Handle(cudaStream_t stream) {
    check(cublasCreate(&handle), "a handle");
    check(cublasSetStream(handle, stream), "a handle's stream");
    require(cudaMalloc(&workspace, kWorkspace) == cudaSuccess, Exit::environment, "cuBLAS: no memory for its workspace");
    check(cublasSetWorkspace(handle, workspace, kWorkspace), "a handle's workspace");
  }
  ~Handle() {
    cublasDestroy(handle);
    cudaFree(workspace);
    for (void* block : blocks) cudaFree(block);
  }

  /// Room for rounded factors, until the next call. It grows at a shape's first run, which is never recorded, by half at
  /// least, so that the blocks left behind stay few.
  char* factors(size_t bytes) {
    if (bytes > room) {
      room = std::max(bytes, room + room / 2);
      blocks.push_back(nullptr);
      const cudaError_t status = cudaMalloc(&blocks.back(), room);
      if (status != cudaSuccess) room = 0;
      require(status == cudaSuccess, Exit::environment, "cuBLAS: no memory for factors in bfloat16, ", bytes, " bytes: ", cudaGetErrorString(status));
    }
    return static_cast<char*>(blocks.back());
  }
};

/// Parts of a sum whose result is kept in bfloat16 stay float32.
constexpr auto kFullSums = static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);

Handle& handle_of(const Exec& exec) {
  static std::map<cudaStream_t, Handle> handles;
  if (handles.empty()) Kokkos::push_finalize_hook([] { handles.clear(); });
  Handle& h = handles.try_emplace(exec.cuda_stream(), exec.cuda_stream()).first->second;
  check(cublasSetMathMode(h.handle, precision() == Precision::tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : kFullSums),
        "a math mode");
  return h;
}

/// A factor as it stands in memory: `count` matrices of `rows` rows of `columns` numbers, `stride` words after one another.
struct Factor {
  const Real* data;
  Index count, rows, columns, stride;
  // Rows of 16 bytes' multiples: what tensor cores read fastest.
  Index pitch() const { return (columns + 7) / 8 * 8; }
  Index rounded_stride() const { return count > 1 ? rows * pitch() : 0; }
  size_t bytes() const { return static_cast<size_t>((count * rows * pitch() * 2 + 255) / 256 * 256); }
};
}  // namespace

/// to = from in bfloat16, four numbers a thread: 16 bytes read, 8 written. Rows of `to` are `pitch` long, which four divides; `whole`:
/// every group of four lies at 16 bytes and within its row.
__global__ void round_factor(const Real* from, Index stride, Index count, Index rows, Index columns, Index pitch, bool whole,
                             __nv_bfloat16* to) {
  const Index c = (static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x) * 4;
  if (c >= columns) return;
  for (Index n = blockIdx.z; n < count; n += gridDim.z)
    for (Index r = static_cast<Index>(blockIdx.y) * blockDim.y + threadIdx.y; r < rows; r += static_cast<Index>(gridDim.y) * blockDim.y) {
      const Real* const x = from + n * stride + r * columns + c;
      float4 v;
      if (whole) {
        v = *reinterpret_cast<const float4*>(x);
      } else {  // what pads a row is read by nobody
        v.x = x[0];
        v.y = c + 1 < columns ? x[1] : 0;
        v.z = c + 2 < columns ? x[2] : 0;
        v.w = c + 3 < columns ? x[3] : 0;
      }
      union {
        __nv_bfloat162 pair[2];
        uint2 words;
      } out{{__floats2bfloat162_rn(v.x, v.y), __floats2bfloat162_rn(v.z, v.w)}};
      *reinterpret_cast<uint2*>(to + (n * rows + r) * pitch + c) = out.words;
    }
}

namespace {
void round(cudaStream_t stream, const Factor& f, void* to) {
  // Without gaps a matrix is one row.
  const bool flat = f.pitch() == f.columns;
  const Index rows = flat ? 1 : f.rows, columns = flat ? f.rows * f.columns : f.columns, pitch = flat ? columns : f.pitch();
  const bool whole = columns % 4 == 0 && (f.count == 1 || f.stride % 4 == 0) && reinterpret_cast<size_t>(f.data) % 16 == 0;
  unsigned wide = 1;
  while (wide < 256 && wide * 4 < columns) wide *= 2;
  const dim3 block(wide, 256 / wide);
  const auto blocks = [](Index items, Index each, Index most) {
    return static_cast<unsigned>(std::min(most, (items + each - 1) / each));
  };
  ensure(columns / 1024 < (Index(1) << 31), "cuBLAS: a factor of ", columns, " numbers");
  const dim3 grid(blocks(columns, 4 * wide, Index(1) << 31), blocks(rows, block.y, 65535), blocks(f.count, 1, 65535));
  round_factor<<<grid, block, 0, stream>>>(f.data, f.stride, f.count, rows, columns, pitch, whole, static_cast<__nv_bfloat16*>(to));
  const cudaError_t status = cudaGetLastError();
  require(status == cudaSuccess, Exit::environment, "rounding to bfloat16: ", cudaGetErrorString(status));
}

/// A factor in bfloat16, and where a rounded one goes.
struct Rounded {
  const void* data;
  Index pitch, stride;
};
Rounded rounded(const Exec& exec, const Factor& f, void* to) {
  round(exec.cuda_stream(), f, to);
  return {to, f.pitch(), f.rounded_stride()};
}

/// C = op(A) op(B), summed in float32.
void multiply_rounded(const Exec& exec, bool ta, bool tb, Index batch, Index m, Index n, Index k, const Rounded& a, const Rounded& b, bool add,
                      void* c, bool bf16, Index pitch, Index stride_c) {
  const float one = 1, beta = add ? 1 : 0;
  check(cublasGemmStridedBatchedEx(handle_of(exec).handle, tb ? CUBLAS_OP_T : CUBLAS_OP_N, ta ? CUBLAS_OP_T : CUBLAS_OP_N, narrow(n), narrow(m),
                                   narrow(k), &one, b.data, CUDA_R_16BF, narrow(b.pitch), b.stride, a.data, CUDA_R_16BF, narrow(a.pitch),
                                   a.stride, &beta, c, bf16 ? CUDA_R_16BF : CUDA_R_32F, narrow(pitch), stride_c, narrow(batch),
                                   CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "gemm in bf16");
}

/// The same of factors in float32. Besides the product's own traffic 6 bytes a number of A and B.
void rounded_gemm(const Exec& exec, bool ta, bool tb, Index batch, Index m, Index n, Index k, const Factor& a, const Factor& b,
                  bool add, Real* c, Index stride_c) {
  char* const room = handle_of(exec).factors(a.bytes() + b.bytes());
  const Rounded ra = rounded(exec, a, room), rb = rounded(exec, b, room + a.bytes());
  multiply_rounded(exec, ta, tb, batch, m, n, k, ra, rb, add, c, false, n, stride_c);
}

/// Of a matrix of either kind, rows without gaps where it is float32.
Factor factor(const Matrix& m, Index rows) {
  ensure(m.bf16 || m.pitch * rows == m.size, "a factor in float32 with gaps");
  return {static_cast<const Real*>(m.data), 1, rows, m.pitch, 0};
}

/// A factor that every product shares is rounded once.
Factor factor(ConstVec data, bool transpose, Index batch, Index rows, Index columns, Index stride) {
  return {data.data(), stride == 0 ? 1 : batch, transpose ? columns : rows, transpose ? rows : columns, stride};
}
}  // namespace

class Cublas final : public PortableConvolution {
 public:
  std::string name() const override { return "cublas"; }
  std::string description() const override {
    int version[3] = {};
    for (int i = 0; i < 3; ++i) cublasGetProperty(static_cast<libraryPropertyType>(i), &version[i]);
    return text("GEMM by cuBLAS ", version[0], ".", version[1], ".", version[2], ", convolution by portable");
  }

  void gemm(const Exec& exec, bool ta, bool tb, Index m, Index n, Index k, ConstVec a, ConstVec b, bool add,
            Vec c) const override {
    const Region region("cublas::sgemm");
    refuse_empty(1, m, n, k);
    if (precision() == Precision::bf16)
      return rounded_gemm(exec, ta, tb, 1, m, n, k, factor(a, ta, 1, m, k, 0), factor(b, tb, 1, k, n, 0), add, c.data(), 0);
    const Real one = 1, beta = add ? Real(1) : Real(0);
    check(cublasSgemm(handle_of(exec).handle, tb ? CUBLAS_OP_T : CUBLAS_OP_N, ta ? CUBLAS_OP_T : CUBLAS_OP_N, narrow(n), narrow(m),
                      narrow(k), &one, b.data(), narrow(tb ? k : n), a.data(), narrow(ta ? m : k), &beta, c.data(),
                      narrow(n)),
          "sgemm");
  }

  void gemm_batched(const Exec& exec, bool ta, bool tb, Index batch, Index m, Index n, Index k, ConstVec a,
                    Index stride_a, ConstVec b, Index stride_b, bool add, Vec c, Index stride_c) const override {
    const Region region("cublas::sgemm_batched");
    refuse_empty(batch, m, n, k);
    if (precision() == Precision::bf16)
      return rounded_gemm(exec, ta, tb, batch, m, n, k, factor(a, ta, batch, m, k, stride_a), factor(b, tb, batch, k, n, stride_b), add,
                          c.data(), stride_c);
    const Real one = 1, beta = add ? Real(1) : Real(0);
    check(cublasSgemmStridedBatched(handle_of(exec).handle, tb ? CUBLAS_OP_T : CUBLAS_OP_N, ta ? CUBLAS_OP_T : CUBLAS_OP_N,
                                    narrow(n), narrow(m), narrow(k), &one, b.data(), narrow(tb ? k : n), stride_b,
                                    a.data(), narrow(ta ? m : k), stride_a, &beta, c.data(), narrow(n), stride_c,
                                    narrow(batch)),
          "sgemm_batched");
  }

  bool takes_bf16() const override { return true; }
  void gemm_bf16(const Exec& exec, bool ta, bool tb, Index m, Index n, Index k, const Matrix& a, const Matrix& b, bool add,
                 const Matrix& c) const override {
    const Region region("cublas::gemm_bf16");
    refuse_empty(1, m, n, k);
    const Factor fa = factor(a, ta ? k : m), fb = factor(b, tb ? n : k);
    const size_t room_a = a.bf16 ? 0 : fa.bytes(), room_b = b.bf16 ? 0 : fb.bytes();
    char* const room = room_a + room_b > 0 ? handle_of(exec).factors(room_a + room_b) : nullptr;
    const Rounded ra = a.bf16 ? Rounded{a.data, a.pitch, 0} : rounded(exec, fa, room);
    const Rounded rb = b.bf16 ? Rounded{b.data, b.pitch, 0} : rounded(exec, fb, room + room_a);
    multiply_rounded(exec, ta, tb, 1, m, n, k, ra, rb, add, const_cast<void*>(c.data), c.bf16, c.pitch, 0);
  }
  bool attends_bf16(const Attention& s) const override { return tensor_attention_takes_bf16(s); }
  void attention_forward_bf16(const Exec& exec, const Attention& s, ConstBf16Vec qkv, Bf16Vec y, Vec log_sum) const override {
    const Region region("attention::bf16_forward");
    tensor_attention_forward_bf16(exec, s, qkv, y, log_sum);
  }
  void attention_backward_bf16(const Exec& exec, const Attention& s, ConstBf16Vec qkv, ConstBf16Vec y, ConstBf16Vec dy, ConstVec log_sum,
                               bool add, Bf16Vec dqkv, Vec scratch) const override {
    const Region region("attention::bf16_backward");
    tensor_attention_backward_bf16(exec, s, qkv, y, dy, log_sum, add, dqkv, scratch);
  }

  /// Enough for either path: the precision may change, and vectors that lie oddly are portable's.
  Index attention_scratch(const Attention& s, bool backward) const override {
    return std::max(portable().attention_scratch(s, backward), backward ? s.rows() * s.heads : 0);
  }
  void attention_forward(const Exec& exec, const Attention& s, ConstVec qkv, Vec y, Vec log_sum, Vec scratch) const override {
    if (!tensor_attention_takes(s, {qkv.data(), y.data()})) return portable().attention_forward(exec, s, qkv, y, log_sum, scratch);
    const Region region("attention::tensor_forward");
    tensor_attention_forward(exec, s, qkv, y, log_sum);
  }
  void attention_backward(const Exec& exec, const Attention& s, ConstVec qkv, ConstVec y, ConstVec dy, ConstVec log_sum, bool add,
                          Vec dqkv, Vec scratch) const override {
    if (!tensor_attention_takes(s, {qkv.data(), y.data(), dy.data(), dqkv.data()}))
      return portable().attention_backward(exec, s, qkv, y, dy, log_sum, add, dqkv, scratch);
    const Region region("attention::tensor_backward");
    tensor_attention_backward(exec, s, qkv, y, dy, log_sum, add, dqkv, scratch);
  }
};

const Provider& cublas() {
  static const Cublas instance;
  return instance;
}

namespace {
const bool registered_cublas = add_provider(1, cublas());
}

}  // namespace varion::backend
