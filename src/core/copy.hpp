// Numbers from one vector into another of either kind.
#pragma once

#include "core/blocks.hpp"

namespace varion {

/// to = from, or with `add` to += from. 8 or 12 bytes per element, less where one is kept in bfloat16.
template <class From, class To>
void copy_numbers(const char* label, const Exec& exec, const From& from, bool add, const To& to) {
  const Index n = static_cast<Index>(from.extent(0));
  if (add)
    for_streams(label, exec, 0, n, reads(from), updates(to), writes(), KOKKOS_LAMBDA(const Streams<1, 1, 0>& s, int lo, int hi) {
      const Real* const x = s.read[0];
      Real* const y = s.update[0];
      VARION_IVDEP
      for (int i = lo; i < hi; ++i) y[i] += x[i];
    });
  else
    for_streams(label, exec, 0, n, reads(from), updates(), writes(to), KOKKOS_LAMBDA(const Streams<1, 0, 1>& s, int lo, int hi) {
      const Real* const x = s.read[0];
      Real* const y = s.write[0];
      VARION_IVDEP
      for (int i = lo; i < hi; ++i) y[i] = x[i];
    });
}

}  // namespace varion
