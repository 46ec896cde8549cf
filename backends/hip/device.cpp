// AMD GPUs: whether there is one, and what it is.
#include <hip/hip_runtime.h>
#include <mpi.h>
#ifdef OPEN_MPI
#include <mpi-ext.h>
#endif

#include <cctype>

#include "backends/backend.hpp"
#include "core/error.hpp"

namespace varion::backend {

bool rounds_factors() { return false; }

bool mpi_knows_device_memory() {
#if defined(OPEN_MPI) && defined(MPIX_ROCM_AWARE_SUPPORT)
  return MPIX_Query_rocm_support() == 1;
#else
  return false;
#endif
}

/// Only its attributes are asked for: whether this build holds code that the device can run.
__global__ void probe() {}

std::string missing_device() {
  int count = 0;
  hipError_t status = hipGetDeviceCount(&count);
  if (status == hipSuccess && count == 0) status = hipErrorNoDevice;
  if (status != hipSuccess)
    return text("no HIP device: ", hipGetErrorString(status), "; rocminfo shows what the driver sees");
  hipFuncAttributes attributes;
  status = hipFuncGetAttributes(&attributes, reinterpret_cast<const void*>(probe));
  if (status == hipSuccess) return "";
  hipDeviceProp_t p;
  if (hipGetDeviceProperties(&p, 0) != hipSuccess) return text("no HIP device: ", hipGetErrorString(status));
  return text("no HIP device: ", p.name, " cannot run this build (", hipGetErrorString(status),
              "): build with VARION_HIP_ARCH=", p.gcnArchName);
}

namespace {
std::string uuid(int device) {
  hipDevice_t handle;
  hipUUID id;
  if (hipDeviceGet(&handle, device) != hipSuccess || hipDeviceGetUuid(&id, handle) != hipSuccess) return "";
  std::string out = "GPU-";  // sixteen characters, as rocminfo prints them
  for (const char c : id.bytes)
    if (std::isalnum(static_cast<unsigned char>(c))) out += c;
  return out;
}

std::string pci(int device) {
  char id[32] = "";
  return hipDeviceGetPCIBusId(id, sizeof id, device) == hipSuccess ? id : "";
}
}  // namespace

std::vector<std::string> devices() {
  std::vector<std::string> out;
  int count = 0;
  if (hipGetDeviceCount(&count) != hipSuccess) return out;
  for (int d = 0; d < count; ++d) {
    hipDeviceProp_t p;
    if (hipGetDeviceProperties(&p, d) == hipSuccess)
      out.push_back(text(p.name, ", ", p.totalGlobalMem >> 20, " MiB, ", p.gcnArchName, ", ", pci(d)));
  }
  return out;
}

#if KOKKOS_VERSION >= 40000
using HostPinned = Kokkos::HIPHostPinnedSpace;
#else
using HostPinned = Kokkos::Experimental::HIPHostPinnedSpace;
#endif

std::shared_ptr<float> host_words(size_t words) {
  const Kokkos::View<float*, HostPinned> pinned(Kokkos::view_alloc(Kokkos::WithoutInitializing, "varion::host_words"), words);
  return {pinned.data(), [pinned](const float*) {}};  // lives as long as the pointer
}

namespace {
void check_mark(hipError_t status) {
  require(status == hipSuccess, Exit::environment, "HIP event: ", hipGetErrorString(status));
}
}  // namespace

void Mark::set(const Exec& exec) {
  if (!event_) {
    hipEvent_t event = nullptr;
    check_mark(hipEventCreateWithFlags(&event, hipEventDisableTiming));
    event_ = std::shared_ptr<void>(event, [](void* p) { static_cast<void>(hipEventDestroy(static_cast<hipEvent_t>(p))); });
  }
  check_mark(hipEventRecord(static_cast<hipEvent_t>(event_.get()), exec.hip_stream()));
}

void Mark::wait() const {
  if (event_) check_mark(hipEventSynchronize(static_cast<hipEvent_t>(event_.get())));
}

std::vector<std::pair<std::string, std::string>> device_facts() {
  int device = 0, driver = 0, runtime = 0;
  hipDeviceProp_t p;
  const bool known = hipGetDevice(&device) == hipSuccess && hipGetDeviceProperties(&p, device) == hipSuccess &&
                     hipDriverGetVersion(&driver) == hipSuccess && hipRuntimeGetVersion(&runtime) == hipSuccess;
  require(known, Exit::environment, "no HIP device: ", hipGetErrorString(hipGetLastError()));
  return {{"back_end", Exec::name()},
          {"device", p.name},
          {"uuid", uuid(device)},
          {"pci", pci(device)},
          {"architecture", p.gcnArchName},
          {"driver", text(driver)},
          {"runtime", text(runtime)},
          {"clock_mhz", text(p.clockRate / 1000)},
          {"memory_clock_mhz", text(p.memoryClockRate / 1000)},
          {"memory_mib", text(p.totalGlobalMem >> 20)},
          {"compute_units", text(p.multiProcessorCount)}};
}

}  // namespace varion::backend
