// What rocblas.cpp calls, as rocBLAS declares it (AMD, rocBLAS API reference, 4.x): where the library is missing, that file is compiled against
// this, so that it does not rot, and linked to nothing. Values of enumerations are the library's own business.
#pragma once

#include <hip/hip_runtime_api.h>

#include <cstdint>

#define ROCBLAS_VERSION_MAJOR 0
#define ROCBLAS_VERSION_MINOR 0
#define ROCBLAS_VERSION_PATCH 0

using rocblas_int = std::int32_t;
using rocblas_stride = std::int64_t;
using rocblas_handle = struct _rocblas_handle*;
enum rocblas_status { rocblas_status_success };
enum rocblas_operation { rocblas_operation_none, rocblas_operation_transpose };
enum rocblas_atomics_mode { rocblas_atomics_not_allowed, rocblas_atomics_allowed };

extern "C" {
const char* rocblas_status_to_string(rocblas_status);
rocblas_status rocblas_create_handle(rocblas_handle*);
rocblas_status rocblas_destroy_handle(rocblas_handle);
rocblas_status rocblas_set_stream(rocblas_handle, hipStream_t);
rocblas_status rocblas_set_atomics_mode(rocblas_handle, rocblas_atomics_mode);
rocblas_status rocblas_sgemm(rocblas_handle, rocblas_operation a_form, rocblas_operation b_form, rocblas_int m, rocblas_int n, rocblas_int k,
                             const float* alpha, const float* a, rocblas_int a_pitch, const float* b, rocblas_int b_pitch, const float* beta,
                             float* c, rocblas_int c_pitch);
rocblas_status rocblas_sgemm_strided_batched(rocblas_handle, rocblas_operation a_form, rocblas_operation b_form, rocblas_int m, rocblas_int n,
                                             rocblas_int k, const float* alpha, const float* a, rocblas_int a_pitch, rocblas_stride a_stride,
                                             const float* b, rocblas_int b_pitch, rocblas_stride b_stride, const float* beta, float* c,
                                             rocblas_int c_pitch, rocblas_stride c_stride, rocblas_int batch);
}
