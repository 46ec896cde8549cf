// Which windows of a text a batch holds.
#pragma once

#include <vector>

#include "data/dataset.hpp"

namespace varion {

/// How windows are chosen: anywhere in the text, or those of an epoch one after another, shuffled.
enum class WindowOrder { random, epoch };

/// Windows of a text and their targets, the tokens one further. Chosen and read on the host: a text may be larger than memory.
class Windows {
 public:
  /// Of `batch` windows of examples' length.
  Windows(const Examples& e, Index batch, WindowOrder order);
  /// Windows number first ... first + batch - 1 of the training order, functions of seed and number alone: each begins at an
  /// offset that is uniform over the text (paper, section 4.1: random offsets), or an epoch is a keyed bijection of all
  /// example windows. Errors as TokenStream::read.
  void train(const Exec& exec, std::uint64_t seed, std::uint64_t first, IntVec tokens, IntVec targets);
  /// Example windows from `first` on, the last one repeated past the end.
  void in_order(const Exec& exec, Index first, IntVec tokens, IntVec targets);

 private:
  void read(const Exec& exec, IntVec tokens, IntVec targets);
  std::shared_ptr<const TokenStream> stream_;
  Index length_, count_;
  WindowOrder order_;
  std::vector<Index> begin_;  // [batch]
  std::vector<std::int32_t> window_;  // [length + 1]
  IntVec::HostMirror tokens_, targets_;  // [batch length], where the device has memory of its own
};

}  // namespace varion
