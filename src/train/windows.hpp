// Which windows of a text a batch holds.
#pragma once

#include <array>
#include <vector>

#include "backends/backend.hpp"
#include "data/dataset.hpp"
#include "train/masks.hpp"

namespace varion {

/// How windows are chosen: anywhere in the text, or those of an epoch one after another, shuffled.
enum class WindowOrder { random, epoch };

/// Windows of a text and their targets: the tokens one further, those under `masks` (-1: not asked for), or a passage's label.
/// Chosen and read on the host: a text may be larger than memory.
class Windows {
 public:
  /// Of `batch` windows of examples' length.
  Windows(const Examples& e, Index batch, WindowOrder order, const Masks& masks = {});
  /// Windows number first ... first + batch - 1 of the training order, functions of seed and number alone: each begins at an
  /// offset that is uniform over the text (paper, section 4.1: random offsets), or an epoch is a keyed bijection of all
  /// example windows. A passage lies anywhere among those of its class. Errors as TokenStream::read.
  void train(const Exec& exec, std::uint64_t seed, std::uint64_t first, IntVec tokens, IntVec targets);
  /// Example windows from `first` on, the last one repeated past the end. Without targets where the view is empty.
  void in_order(const Exec& exec, Index first, IntVec tokens, IntVec targets);

 private:
  /// A class's passages, or the whole of a text: places where windows begin.
  struct Stretch {
    Index first, places;
    std::int32_t label;
  };
  struct Chosen {
    Index begin = 0;
    std::int32_t label = 0;
    RandomKey mask;
  };
  Chosen example(Index i) const;
  Chosen anywhere(std::uint64_t place) const;
  void read(const Exec& exec, IntVec tokens, IntVec targets);
  std::shared_ptr<const TokenStream> stream_;
  Index length_, count_;
  WindowOrder order_;
  Masks masks_;
  std::vector<Index> begins_;          // of passages
  std::vector<std::int32_t> labels_;
  std::vector<Stretch> stretches_;
  Index places_ = 0;                   // of all stretches
  std::vector<Chosen> chosen_;         // [batch]
  std::vector<std::int32_t> window_;   // [length + 1], or [length] where nothing behind it is asked for
  /// Tokens and targets of a batch on the way to a device that has memory of its own.
  struct Staged {
    std::shared_ptr<float> words;
    backend::Mark copied;
  };
  std::array<Staged, 2> staged_;  // the host fills one while the device reads the other
  size_t turn_ = 0;
};

}  // namespace varion
