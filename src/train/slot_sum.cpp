#include "train/slot_sum.hpp"

#include "core/blocks.hpp"
#include "core/error.hpp"

namespace varion {

/// to += from. 12 bytes per element.
void add_vector(const Exec& exec, ConstVec from, Vec to) {
  for_streams("varion::slots::add", exec, 0, static_cast<Index>(to.extent(0)), reads(from), updates(to), writes(),
              KOKKOS_LAMBDA(const Streams<1, 1, 0>& s, int lo, int hi) {
                const Real* const a = s.read[0];
                Real* const b = s.update[0];
                VARION_IVDEP
                for (int i = lo; i < hi; ++i) b[i] += a[i];
              });
}

void SlotSum::add(const Exec& exec, ConstVec v) {
  const auto level = [&](size_t at) -> KeptVec& {
    while (level_.size() <= at) level_.push_back(comm_.vector("varion::train::slots", static_cast<Index>(v.extent(0))));
    return level_[at];
  };
  const auto occupied = [&](size_t at) { return (count_ >> at & 1) != 0; };
  if (!occupied(0)) {
    Kokkos::deep_copy(exec, level(0).vec, v);
  } else {
    add_vector(exec, v, level(0).vec);
    size_t at = 0;
    for (; occupied(at + 1); ++at) add_vector(exec, level(at).vec, level(at + 1).vec);
    KeptVec& above = level(at + 1);
    std::swap(level_[at], above);  // a buffer that is free comes down
  }
  ++count_;
}

Vec SlotSum::take(const Exec& exec) {
  ensure(count_ > 0, "a sum of no slots");
  size_t low = 0;
  while ((count_ >> low & 1) == 0) ++low;
  Vec sum = level_[low].vec;
  for (size_t at = low + 1; count_ >> at != 0; ++at)  // where the count is no power of two
    if ((count_ >> at & 1) != 0) {
      add_vector(exec, sum, level_[at].vec);
      sum = level_[at].vec;
    }
  count_ = 0;
  return sum;
}

}  // namespace varion
