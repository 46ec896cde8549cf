// rocBLAS: GEMM on the execution space's own stream. It knows columns first: C row by row is C transposed, so
// C^T = op(B)^T op(A)^T is what it is asked for.
#include "backends/hip/rocblas.hpp"

#include <hip/hip_runtime.h>
#include <rocblas/rocblas.h>

#include <map>

#include "backends/narrow.hpp"
#include "core/error.hpp"
#include "core/profile.hpp"

namespace varion::backend {

namespace {
void check(rocblas_status status, const char* what) {
  require(status == rocblas_status_success, Exit::environment, "rocBLAS: ", what, ": ", rocblas_status_to_string(status));
}

/// One a stream, so that sums have one order whatever other streams do; without atomic sums, so that they have one
/// order at all.
struct Handle {
  rocblas_handle handle = nullptr;
  explicit Handle(hipStream_t stream) {
    check(rocblas_create_handle(&handle), "a handle");
    check(rocblas_set_stream(handle, stream), "a handle's stream");
    check(rocblas_set_atomics_mode(handle, rocblas_atomics_not_allowed), "a handle's mode");
  }
  ~Handle() { rocblas_destroy_handle(handle); }
};

rocblas_handle handle_of(const Exec& exec) {
  static std::map<hipStream_t, Handle> handles;
  if (handles.empty()) Kokkos::push_finalize_hook([] { handles.clear(); });
  return handles.try_emplace(exec.hip_stream(), exec.hip_stream()).first->second.handle;
}

rocblas_operation form(bool transpose) {
  return transpose ? rocblas_operation_transpose : rocblas_operation_none;
}
}  // namespace

class Rocblas final : public PortableConvolution {
 public:
  std::string name() const override { return "rocblas"; }
  std::string description() const override {
    return text("GEMM by rocBLAS ", ROCBLAS_VERSION_MAJOR, ".", ROCBLAS_VERSION_MINOR, ".", ROCBLAS_VERSION_PATCH,
                ", convolution by portable");
  }

  void gemm(const Exec& exec, bool ta, bool tb, Index m, Index n, Index k, ConstVec a, ConstVec b, bool add,
            Vec c) const override {
    const Region region("rocblas::sgemm");
    refuse_empty(1, m, n, k);
    const Real one = 1, beta = add ? Real(1) : Real(0);
    check(rocblas_sgemm(handle_of(exec), form(tb), form(ta), narrow(n), narrow(m), narrow(k), &one, b.data(),
                        narrow(tb ? k : n), a.data(), narrow(ta ? m : k), &beta, c.data(), narrow(n)),
          "sgemm");
  }

  void gemm_batched(const Exec& exec, bool ta, bool tb, Index batch, Index m, Index n, Index k, ConstVec a,
                    Index stride_a, ConstVec b, Index stride_b, bool add, Vec c, Index stride_c) const override {
    const Region region("rocblas::sgemm_batched");
    refuse_empty(batch, m, n, k);
    const Real one = 1, beta = add ? Real(1) : Real(0);
    check(rocblas_sgemm_strided_batched(handle_of(exec), form(tb), form(ta), narrow(n), narrow(m), narrow(k), &one,
                                        b.data(), narrow(tb ? k : n), stride_b, a.data(), narrow(ta ? m : k), stride_a,
                                        &beta, c.data(), narrow(n), stride_c, narrow(batch)),
          "sgemm_batched");
  }
};

const Provider& rocblas() {
  static const Rocblas instance;
  return instance;
}

namespace {
const bool registered_rocblas = add_provider(1, rocblas());
}

}  // namespace varion::backend
