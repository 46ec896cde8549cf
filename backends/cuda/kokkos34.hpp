// Kokkos 3.4 with CUDA 12 and newer: put before every CUDA source by nvcc_cxx. Newer ones need none of it.
#pragma once

#include <cuda_runtime_api.h>

#if CUDART_VERSION >= 13000
/// The form before CUDA 13, which named a device by its number; Kokkos 3.4 calls it for managed memory.
inline cudaError_t cudaMemPrefetchAsync(const void* pointer, size_t bytes, int device, cudaStream_t stream) {
  cudaMemLocation where{};
  where.type = device == cudaCpuDeviceId ? cudaMemLocationTypeHost : cudaMemLocationTypeDevice;
  where.id = device == cudaCpuDeviceId ? 0 : device;
  return cudaMemPrefetchAsync(pointer, bytes, where, 0, stream);
}
#endif
