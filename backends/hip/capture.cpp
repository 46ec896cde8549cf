// HIP graphs, recorded from a stream.
#include "backends/capture.hpp"

#include <hip/hip_runtime.h>

#include "core/error.hpp"

namespace varion::backend {

namespace {
void check(hipError_t status, const char* what) {
  require(status == hipSuccess, Exit::environment, "HIP graph: ", what, ": ", hipGetErrorString(status));
}
}  // namespace

struct Capture::Impl {
  hipStream_t stream = nullptr;  // while it records
  hipGraph_t graph = nullptr;
  hipGraphExec_t ready = nullptr;

  void clear() {
    if (ready != nullptr) static_cast<void>(hipGraphExecDestroy(ready));
    if (graph != nullptr) static_cast<void>(hipGraphDestroy(graph));
    ready = nullptr;
    graph = nullptr;
  }
  // An error on the way must not leave the stream recording.
  ~Impl() {
    if (stream != nullptr) static_cast<void>(hipStreamEndCapture(stream, &graph));
    clear();
  }
};

/// A stream that keeps its order with the default one, where Kokkos copies without an execution space.
Exec separate_exec() {
  hipStream_t stream = nullptr;
  check(hipStreamCreate(&stream), "a stream");
  return Exec(stream);
}

/// Kokkos 3 gives a kernel the address of its arguments, in a ring of a hundred places that later kernels take: a recording would find
/// theirs. Kokkos 4 passes them by value.
bool Capture::supported() { return KOKKOS_VERSION >= 40000; }
Capture::Capture() : impl_(std::make_unique<Impl>()) {}
Capture::~Capture() = default;
bool Capture::ready() const { return impl_->ready != nullptr; }

void Capture::begin(const Exec& exec) {
  ensure(impl_->stream == nullptr, "a recording begins within another");
  impl_->clear();
  exec.fence();  // what is left of earlier work stays out of the recording
  check(hipStreamBeginCapture(exec.hip_stream(), hipStreamCaptureModeThreadLocal), "begin");
  impl_->stream = exec.hip_stream();
}

void Capture::end() {
  ensure(impl_->stream != nullptr, "a recording ends before it begins");
  const hipStream_t stream = impl_->stream;
  impl_->stream = nullptr;
  check(hipStreamEndCapture(stream, &impl_->graph), "end");
  check(hipGraphInstantiate(&impl_->ready, impl_->graph, nullptr, nullptr, 0), "instantiate");
}

void Capture::launch(const Exec& exec) const {
  ensure(ready(), "nothing was recorded");
  check(hipGraphLaunch(impl_->ready, exec.hip_stream()), "launch");
}

}  // namespace varion::backend
