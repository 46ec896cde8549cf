// Work queued on an execution space, recorded once and launched again as one piece: a training step of many small
// kernels then costs one launch. CUDA and HIP graphs; a host has none.
//
// What is recorded must not wait, allocate or touch another stream, and must have run once before: libraries and
// Kokkos allocate at their first call. Kernel arguments are kept as they were when recorded.
#pragma once

#include <memory>

#include "core/types.hpp"

namespace varion::backend {

/// An execution space whose work can be recorded: with a stream of its own, which lives as long as the program.
/// On a host, the only one there is.
Exec separate_exec();

class Capture {
 public:
  static bool supported();
  Capture();
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  /// What is queued on `exec`, a separate_exec, from here to `end` is recorded, not run. Errors (70): not supported.
  void begin(const Exec& exec);
  /// Makes the recording ready to launch. Errors (69): something in it cannot be recorded.
  void end();
  bool ready() const;
  /// Queues what was recorded.
  void launch(const Exec& exec) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace varion::backend
