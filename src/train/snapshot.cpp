#include "train/snapshot.hpp"

#include <algorithm>
#include <cstring>
#include <thread>

#include "backends/backend.hpp"
#include "backends/capture.hpp"
#include "train/state_hash.hpp"

namespace varion {

namespace {
constexpr Index kPart = 1 << 16;
}  // namespace

Snapshot::Snapshot() : copies_(backend::separate_exec()) {}

void Snapshot::reserve(size_t words) {
  if (words <= room_) return;
  memory_.reset();  // never both at once
  memory_ = backend::host_words(words);
  room_ = words;
  if constexpr (kHostExec) std::memset(memory_.get(), 0, words * sizeof(Real));
}

void Snapshot::take(const Exec& exec, const Optimizer& optimizer, Stretch copied) {
  exec.fence();  // others read what it leaves
  state_.clear();
  parts_.clear();
  for (const StateVector& s : optimizer.state()) state_.push_back(s.data);
  own_begin_ = optimizer.own_begin();
  copied_ = copied;
  reserve(state_.size() * static_cast<size_t>(copied.size()));
  if constexpr (kHostExec) {
    for (size_t k = 0; k < state_.size(); ++k)
      for (Index at = own_begin_, end = own_begin_ + optimizer.own_size(); at < end; at += kPart)
        parts_.push_back({k, at, std::min(kPart, end - at)});
    sum_ = 0;
  } else {
    for (size_t k = 0; k < state_.size() && copied.size() > 0; ++k)
      Kokkos::deep_copy(copies_, HostPart(memory_.get() + k * static_cast<size_t>(copied.size()), static_cast<size_t>(copied.size())),
                        slice(state_[k], copied.begin - own_begin_, copied.size()));
    sum_ = state_sum(exec, optimizer);
  }
  done_ = next_ = 0;
}

void Snapshot::work() {
  for (size_t i = next_++; i < parts_.size(); i = next_++) {
    const Part& p = parts_[i];
    const Real* const from = state_[p.vector].data() + (p.begin - own_begin_);
    const Index begin = std::max(p.begin, copied_.begin), end = std::min(p.begin + p.count, copied_.end);
    if (end > begin)
      std::memcpy(memory_.get() + static_cast<Index>(p.vector) * copied_.size() + (begin - copied_.begin), from + (begin - p.begin),
                  static_cast<size_t>(end - begin) * sizeof(Real));
    sum_ += hash_words(p.vector + 1, p.begin, from, p.count);
    ++done_;
  }
}

void Snapshot::wait() {
  work();
  while (done_ < parts_.size()) std::this_thread::yield();  // another thread's last part: microseconds
  copies_.fence();  // the host reads the copies
}

std::vector<io::Stretch> Snapshot::vectors() const {
  std::vector<io::Stretch> out;
  for (size_t k = 0; k < state_.size(); ++k)
    out.push_back({memory_.get() + static_cast<Index>(k) * copied_.size(), copied_.begin, copied_.size()});
  return out;
}

}  // namespace varion
