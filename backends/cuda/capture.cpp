// CUDA graphs, recorded from a stream.
#include "backends/capture.hpp"

#include <cuda_runtime_api.h>

#include "core/error.hpp"

namespace varion::backend {

namespace {
void check(cudaError_t status, const char* what) {
  require(status == cudaSuccess, Exit::environment, "CUDA graph: ", what, ": ", cudaGetErrorString(status));
}
}  // namespace

struct Capture::Impl {
  cudaStream_t stream = nullptr;  // while it records
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t ready = nullptr;

  void clear() {
    if (ready != nullptr) cudaGraphExecDestroy(ready);
    if (graph != nullptr) cudaGraphDestroy(graph);
    ready = nullptr;
    graph = nullptr;
  }
  // An error on the way must not leave the stream recording.
  ~Impl() {
    if (stream != nullptr) cudaStreamEndCapture(stream, &graph);
    clear();
  }
};

/// A stream that keeps its order with the default one, where Kokkos copies without an execution space.
Exec separate_exec() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreate(&stream), "a stream");
  return Exec(stream);
}

bool Capture::supported() { return true; }
Capture::Capture() : impl_(std::make_unique<Impl>()) {}
Capture::~Capture() = default;
bool Capture::ready() const { return impl_->ready != nullptr; }

void Capture::begin(const Exec& exec) {
  ensure(impl_->stream == nullptr, "a recording begins within another");
  impl_->clear();
  exec.fence();  // what is left of earlier work stays out of the recording
  check(cudaStreamBeginCapture(exec.cuda_stream(), cudaStreamCaptureModeThreadLocal), "begin");
  impl_->stream = exec.cuda_stream();
}

void Capture::end() {
  ensure(impl_->stream != nullptr, "a recording ends before it begins");
  const cudaStream_t stream = impl_->stream;
  impl_->stream = nullptr;
  check(cudaStreamEndCapture(stream, &impl_->graph), "end");
#if CUDART_VERSION >= 12000
  check(cudaGraphInstantiate(&impl_->ready, impl_->graph, 0), "instantiate");
#else
  check(cudaGraphInstantiate(&impl_->ready, impl_->graph, nullptr, nullptr, 0), "instantiate");
#endif
}

void Capture::launch(const Exec& exec) const {
  ensure(ready(), "nothing was recorded");
  check(cudaGraphLaunch(impl_->ready, exec.cuda_stream()), "launch");
}

}  // namespace varion::backend
