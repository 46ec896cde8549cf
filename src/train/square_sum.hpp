// Norms: sums of squares with the same bits on any number of threads and ranks.
#pragma once

#include "comm/comm.hpp"

namespace varion {

/// A vector's sum of squares, on the device, added in an order that depends on nothing but its length.
class SquareSum {
 public:
  /// Of the numbers [begin, end) of v, of which begin is a multiple of kStretchAlign; the rest counts as zeros. 4 bytes read per number.
  void take(const Exec& exec, ConstVec v, Index begin, Index end);
  /// The last one taken; 0 before the first.
  Kokkos::View<const double, Memory> value() const { return value_; }
  /// The sum over ranks that each took another stretch.
  double over_ranks(const Exec& exec, const Comm& comm) const;

 private:
  Kokkos::View<double*, Memory> parts_;
  Kokkos::View<double, Memory> value_{"varion::train::squares"};
};

/// parts[chunk] = the sum of squares of a chunk of kStretchAlign numbers, for the chunks of [begin, end): as a host does it,
/// and as a GPU does, a team a chunk (on a host for the tests).
void square_chunks_host(const Real* x, Index begin, Index end, double* parts);
void square_chunks_team(const Exec& exec, ConstVec v, Index begin, Index end, Kokkos::View<double*, Memory> parts);

}  // namespace varion
