// NVIDIA GPUs: whether there is one, and what it is.
#include <cuda_runtime_api.h>
#include <mpi.h>
#ifdef OPEN_MPI
#include <mpi-ext.h>
#endif

#include <cstdio>

#include "backends/backend.hpp"
#include "core/error.hpp"

namespace varion::backend {

bool rounds_factors() { return true; }

bool mpi_knows_device_memory() {
#if defined(OPEN_MPI) && defined(MPIX_CUDA_AWARE_SUPPORT)
  return MPIX_Query_cuda_support() == 1;
#else
  return false;
#endif
}

namespace {
std::string version(int number) { return text(number / 1000, ".", number % 1000 / 10); }
}  // namespace

/// Only its attributes are asked for: whether this build holds code that the device can run.
__global__ void probe() {}

std::string missing_device() {
  int count = 0;
  cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count == 0) status = cudaErrorNoDevice;
  if (status == cudaErrorInsufficientDriver) {
    int known = 0, needed = 0;
    cudaDriverGetVersion(&known);
    cudaRuntimeGetVersion(&needed);
    return known == 0 ? "no CUDA device: there is no NVIDIA driver on this machine"
                      : text("no CUDA device: the driver knows CUDA ", version(known), ", this build needs ", version(needed));
  }
  if (status != cudaSuccess)
    return text("no CUDA device: ", cudaGetErrorString(status), "; nvidia-smi shows what the driver sees");
  cudaFuncAttributes attributes;
  status = cudaFuncGetAttributes(&attributes, probe);
  if (status == cudaSuccess) return "";
  cudaDeviceProp p;
  if (cudaGetDeviceProperties(&p, 0) != cudaSuccess) return text("no CUDA device: ", cudaGetErrorString(status));
  return text("no CUDA device: ", p.name, " cannot run this build (", cudaGetErrorString(status),
              "): build with VARION_CUDA_ARCH=", p.major, p.minor);
}

namespace {
int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, which, device) == cudaSuccess ? value : 0;
}

std::string uuid(const cudaDeviceProp& p) {
  std::string out = "GPU-";
  for (int i = 0; i < 16; ++i) {
    char hex[4];
    std::snprintf(hex, sizeof hex, "%02x", static_cast<unsigned>(static_cast<unsigned char>(p.uuid.bytes[i])));
    out += text(i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", hex);
  }
  return out;
}

std::string pci(int device) {
  char id[32] = "";
  return cudaDeviceGetPCIBusId(id, sizeof id, device) == cudaSuccess ? id : "";
}
}  // namespace

std::vector<std::string> devices() {
  std::vector<std::string> out;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) return out;
  for (int d = 0; d < count; ++d) {
    cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, d) == cudaSuccess)
      out.push_back(text(p.name, ", ", p.totalGlobalMem >> 20, " MiB, compute capability ", p.major, ".", p.minor, ", ", pci(d)));
  }
  return out;
}

std::shared_ptr<float> host_words(size_t words) {
  const Kokkos::View<float*, Kokkos::CudaHostPinnedSpace> pinned(Kokkos::view_alloc(Kokkos::WithoutInitializing, "varion::host_words"), words);
  return {pinned.data(), [pinned](const float*) {}};  // lives as long as the pointer
}

namespace {
void check_mark(cudaError_t status) {
  require(status == cudaSuccess, Exit::environment, "CUDA event: ", cudaGetErrorString(status));
}
}  // namespace

void Mark::set(const Exec& exec) {
  if (!event_) {
    cudaEvent_t event = nullptr;
    check_mark(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    event_ = std::shared_ptr<void>(event, [](void* p) { static_cast<void>(cudaEventDestroy(static_cast<cudaEvent_t>(p))); });
  }
  check_mark(cudaEventRecord(static_cast<cudaEvent_t>(event_.get()), exec.cuda_stream()));
}

void Mark::wait() const {
  if (event_) check_mark(cudaEventSynchronize(static_cast<cudaEvent_t>(event_.get())));
}

std::vector<std::pair<std::string, std::string>> device_facts() {
  int device = 0, driver = 0, runtime = 0;
  cudaDeviceProp p;
  const bool known = cudaGetDevice(&device) == cudaSuccess && cudaGetDeviceProperties(&p, device) == cudaSuccess &&
                     cudaDriverGetVersion(&driver) == cudaSuccess && cudaRuntimeGetVersion(&runtime) == cudaSuccess;
  require(known, Exit::environment, "no CUDA device: ", cudaGetErrorString(cudaGetLastError()));
  return {{"back_end", Exec::name()},
          {"device", p.name},
          {"uuid", uuid(p)},
          {"pci", pci(device)},
          {"capability", text(p.major, ".", p.minor)},
          {"driver", version(driver)},
          {"runtime", version(runtime)},
          {"clock_mhz", text(attribute(cudaDevAttrClockRate, device) / 1000)},
          {"memory_clock_mhz", text(attribute(cudaDevAttrMemoryClockRate, device) / 1000)},
          {"memory_mib", text(p.totalGlobalMem >> 20)},
          {"multiprocessors", text(p.multiProcessorCount)}};
}

}  // namespace varion::backend
