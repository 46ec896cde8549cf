// Ends a process that no longer gets on: a collective that waits for a lost rank, a file system that hangs.
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

namespace varion {

/// What a run is doing. Each has a time limit of its own.
enum class Phase : int { start, step, save, evaluate, wait };  // wait: for the steps that a device has been given

/// A thread that looks once in a while whether `beat` was called within the phase's limit. If not, it says phase, step and
/// rank, lets the main thread print where it is, and ends the process with code 70. It makes no MPI call; the launcher
/// then ends the other ranks. Slow work that still beats, or outside the steps reads or writes files, is left alone.
class Watchdog {
 public:
  /// `limit` seconds for every phase; 0: 600 s, and for steps, once one is done, 60 s or 50 times the slowest; below 0: no
  /// watchdog.
  Watchdog(double limit, int rank);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  /// The run is alive and does this now.
  void beat(Phase phase, std::uint64_t step);

 private:
  void watch();
  double limit_of(Phase phase) const;
  const double limit_;
  const int rank_;
  std::atomic<std::int64_t> last_{0};  // steady clock, nanoseconds
  std::atomic<std::int64_t> slowest_{0};
  std::atomic<int> phase_{0};
  std::atomic<std::uint64_t> step_{0};
  std::mutex mutex_;
  std::condition_variable wakes_;
  bool stops_ = false;
  pthread_t watched_;
  std::thread thread_;
};

}  // namespace varion
