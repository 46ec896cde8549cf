// Saving while training goes on.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <thread>
#include <utility>

namespace varion {

/// Runs one job at a time on a thread of its own, which calls neither MPI nor Kokkos. HDF5 is used by one thread at a time: call
/// `wait` before using it elsewhere.
class Saver {
 public:
  ~Saver() {
    if (thread_.joinable()) thread_.join();
  }
  /// Waits for the job before, then starts this one. Errors: those of the job before.
  void start(std::function<void()> job) {
    wait();
    ended_ = false;
    thread_ = std::thread([this, job = std::move(job)] {
      try {
        job();
      } catch (...) {
        error_ = std::current_exception();
        failed_ = true;
      }
      ended_ = true;
    });
  }
  /// Whether the job has ended with an error that `wait` will throw.
  bool failed() const { return failed_; }
  /// Whether there is no job under way.
  bool ended() const { return ended_; }
  /// Waits for the job; throws what it threw.
  void wait() {
    if (thread_.joinable()) thread_.join();
    failed_ = false;
    if (std::exception_ptr error = std::exchange(error_, nullptr)) std::rethrow_exception(error);
  }

 private:
  std::thread thread_;
  std::exception_ptr error_;
  std::atomic<bool> failed_{false}, ended_{true};
};

}  // namespace varion
