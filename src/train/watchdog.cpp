#include "train/watchdog.hpp"

#include <execinfo.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>

#include "io/input_file.hpp"

namespace varion {

namespace {
std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Where the main thread is, from within it.
extern "C" void print_stack(int) {
  void* frames[64];
  const int count = ::backtrace(frames, 64);
  ::backtrace_symbols_fd(frames, count, 2);
}
constexpr int kSignal = SIGURG;  // ignored unless somebody handles it
const char* const kNames[] = {"start", "step", "save", "evaluate", "wait"};
}  // namespace

Watchdog::Watchdog(double limit, int rank) : limit_(limit), rank_(rank), watched_(::pthread_self()) {
  if (limit_ < 0) return;
  void* frame[1];
  ::backtrace(frame, 1);  // loads what it needs now: not in a signal handler
  std::signal(kSignal, print_stack);
  last_ = now();
  thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    stops_ = true;
  }
  wakes_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Watchdog::beat(Phase phase, std::uint64_t step) {
  if (limit_ < 0) return;
  const std::int64_t t = now();
  if (phase == Phase::step && phase_ == static_cast<int>(Phase::step)) slowest_ = std::max(slowest_.load(), t - last_);
  last_ = t;
  phase_ = static_cast<int>(phase);
  step_ = step;
}

double Watchdog::limit_of(Phase phase) const {
  if (limit_ > 0) return limit_;
  return phase == Phase::step && slowest_ > 0 ? std::max(60.0, 50e-9 * static_cast<double>(slowest_)) : 600;
}

void Watchdog::watch() {
  std::uint64_t moved = 0;
  std::unique_lock<std::mutex> guard(mutex_);
  while (!wakes_.wait_for(guard, std::chrono::milliseconds(100), [this] { return stops_; })) {
    const int phase = phase_;
    if (const std::uint64_t now_moved = io::bytes_moved; now_moved != moved && phase != static_cast<int>(Phase::step)) {
      moved = now_moved;
      last_ = now();
    }
    const double silent = 1e-9 * static_cast<double>(now() - last_), limit = limit_of(static_cast<Phase>(phase));
    if (silent <= limit) continue;
    char line[200];
    const int length = std::snprintf(line, sizeof line, "varion: watchdog: rank %d, %s, step %llu: no progress for %.0f s (limit %.0f s)\n",
                                     rank_, kNames[phase], static_cast<unsigned long long>(step_.load()), silent, limit);
    if (::write(2, line, static_cast<size_t>(length)) < 0) {
    }
    ::pthread_kill(watched_, kSignal);
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    ::_exit(70);
  }
}

}  // namespace varion
