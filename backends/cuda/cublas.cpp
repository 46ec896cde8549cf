// cuBLAS: GEMM on the execution space's own stream. It knows columns first: C row by row is C transposed, so
// C^T = op(B)^T op(A)^T is what it is asked for.
#include "backends/cuda/cublas.hpp"

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <map>

#include "core/error.hpp"
#include "core/profile.hpp"

namespace varion::backend {

namespace {
void check(cublasStatus_t status, const char* what) {
  require(status == CUBLAS_STATUS_SUCCESS, Exit::environment, "cuBLAS: ", what, ": ", cublasGetStatusString(status));
}

int narrow(Index v) {
  ensure(v < (Index(1) << 31), "cuBLAS: dimension ", v, " does not fit 32 bits");
  return static_cast<int>(v);
}

/// A handle and its workspace, one a stream: its sums then have one order whatever other streams do, and a recorded
/// call finds its memory where it was.
struct Handle {
  static constexpr size_t kWorkspace = size_t(32) << 20;  // bytes, what the library advises for Hopper
  cublasHandle_t handle = nullptr;
  void* workspace = nullptr;

  explicit Handle(cudaStream_t stream) {
    check(cublasCreate(&handle), "a handle");
    check(cublasSetStream(handle, stream), "a handle's stream");
    require(cudaMalloc(&workspace, kWorkspace) == cudaSuccess, Exit::environment, "cuBLAS: no memory for its workspace");
    check(cublasSetWorkspace(handle, workspace, kWorkspace), "a handle's workspace");
  }
  ~Handle() {
    cublasDestroy(handle);
    cudaFree(workspace);
  }
};

cublasHandle_t handle_of(const Exec& exec) {
  static std::map<cudaStream_t, Handle> handles;
  if (handles.empty()) Kokkos::push_finalize_hook([] { handles.clear(); });
  const cublasHandle_t handle = handles.try_emplace(exec.cuda_stream(), exec.cuda_stream()).first->second.handle;
  check(cublasSetMathMode(handle, precision() == Precision::tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH),
        "a math mode");
  return handle;
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
    ensure(m > 0 && n > 0 && k > 0, "GEMM of an empty matrix");
    const Real one = 1, beta = add ? Real(1) : Real(0);
    check(cublasSgemm(handle_of(exec), tb ? CUBLAS_OP_T : CUBLAS_OP_N, ta ? CUBLAS_OP_T : CUBLAS_OP_N, narrow(n), narrow(m),
                      narrow(k), &one, b.data(), narrow(tb ? k : n), a.data(), narrow(ta ? m : k), &beta, c.data(),
                      narrow(n)),
          "sgemm");
  }

  void gemm_batched(const Exec& exec, bool ta, bool tb, Index batch, Index m, Index n, Index k, ConstVec a,
                    Index stride_a, ConstVec b, Index stride_b, bool add, Vec c, Index stride_c) const override {
    const Region region("cublas::sgemm_batched");
    ensure(batch > 0 && m > 0 && n > 0 && k > 0, "GEMM of an empty matrix");
    const Real one = 1, beta = add ? Real(1) : Real(0);
    check(cublasSgemmStridedBatched(handle_of(exec), tb ? CUBLAS_OP_T : CUBLAS_OP_N, ta ? CUBLAS_OP_T : CUBLAS_OP_N,
                                    narrow(n), narrow(m), narrow(k), &one, b.data(), narrow(tb ? k : n), stride_b,
                                    a.data(), narrow(ta ? m : k), stride_a, &beta, c.data(), narrow(n), stride_c,
                                    narrow(batch)),
          "sgemm_batched");
  }
};

const Provider& cublas() {
  static const Cublas instance;
  return instance;
}

namespace {
const bool registered = add_provider(1, cublas());
}

}  // namespace varion::backend
