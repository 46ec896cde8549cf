// A copy of the state that is made, and hashed, while the next pass runs: nothing changes the state before its update.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "comm/comm.hpp"
#include "io/posterior_plan.hpp"
#include "optim/optimizer.hpp"

namespace varion {

class Snapshot {
 public:
  Snapshot();
  /// Memory for copies of so many words. On a host the pages are touched, which takes longer than a copy: any thread may do it.
  void reserve(size_t words);
  /// The state as the work queued on `exec` leaves it: of every vector the numbers `copied`, which this rank has or which are
  /// none, and the hash of all it has. Nothing may change the state until `wait` has returned. The copy before is overwritten.
  void take(const Exec& exec, const Optimizer& optimizer, Stretch copied);
  /// Does what nobody has begun yet, on any thread. On a device there is nothing to do: it has been queued.
  void work();
  /// Helps, and waits for the rest.
  void wait();

  /// Of this rank's words (state_hash.hpp).
  std::uint64_t sum() const { return sum_; }
  /// The copies, one a vector, the mean first.
  std::vector<io::Stretch> vectors() const;

 private:
  /// Up to kPart numbers of a vector.
  struct Part {
    size_t vector;
    Index begin, count;
  };
  Exec copies_;  // beside the passes
  std::vector<Vec> state_;
  Index own_begin_ = 0;
  Stretch copied_{0, 0};
  std::shared_ptr<float> memory_;
  size_t room_ = 0;
  std::vector<Part> parts_;
  std::atomic<size_t> next_{0}, done_{0};
  std::atomic<std::uint64_t> sum_{0};
};

}  // namespace varion
