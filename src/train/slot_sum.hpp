// The sum of a step's slots, on one rank or on many, added in one fixed order.
#pragma once

#include <vector>

#include "comm/comm.hpp"

namespace varion {

/// Adds vectors pairwise, like the carries of a binary counter: (0 + 1) + (2 + 3) ... With 2^k vectors the order is that of
/// the balanced tree, whose lower levels other ranks may do: the bits do not depend on who does what. Keeps one
/// vector a level, allocated at its first use.
class SlotSum {
 public:
  explicit SlotSum(const Comm& comm = {}) : comm_(comm) {}
  /// Takes in the next vector; it is not changed.
  void add(const Exec& exec, ConstVec v);
  /// The sum of what was added, in a buffer that the caller may change until the next `add`; empty again for the next
  /// step.
  Vec take(const Exec& exec);

 private:
  Comm comm_;  // gives the vectors
  std::vector<KeptVec> level_;
  std::uint64_t count_ = 0;
};

}  // namespace varion
