#include "train/windows.hpp"

#include <algorithm>

#include "core/options.hpp"
#include "core/random.hpp"

namespace varion {

__extension__ using Wide = unsigned __int128;

Windows::Windows(const Examples& e, Index batch, WindowOrder order)
    : stream_(e.tokens),
      length_(e.example.size()),
      count_(e.count),
      order_(order),
      begin_(static_cast<size_t>(batch)),
      window_(static_cast<size_t>(length_ + 1)),
      tokens_("varion::data::tokens", static_cast<size_t>(batch * length_)),
      targets_("varion::data::next_tokens", static_cast<size_t>(batch * length_)) {
  ensure(order != WindowOrder::epoch || count_ < Index(1) << 32, "an epoch of ", count_, " windows");
}

void Windows::train(const Exec& exec, std::uint64_t seed, std::uint64_t first, IntVec tokens, IntVec targets) {
  for (size_t i = 0; i < begin_.size(); ++i) {
    const std::uint64_t number = first + i;
    if (order_ == WindowOrder::epoch) {
      const auto n = static_cast<std::uint64_t>(count_);
      const RandomKey key = RandomKey::make(seed, Stream::order, number / n);
      begin_[i] = length_ * static_cast<Index>(keyed_bijection(key, static_cast<std::uint32_t>(n), static_cast<std::uint32_t>(number % n)));
      continue;
    }
    // 64 random bits times the number of places, shifted down: a bias below 2^-32 for texts of up to 2^32 tokens.
    const Words4 w = RandomKey::make(seed, Stream::order, 0).words(static_cast<Index>(number));
    const auto places = static_cast<std::uint64_t>(stream_->size() - length_);
    const std::uint64_t word = static_cast<std::uint64_t>(w.w[0]) << 32 | w.w[1];
    begin_[i] = static_cast<Index>(static_cast<Wide>(word) * places >> 64);
  }
  read(exec, tokens, targets);
}

void Windows::in_order(const Exec& exec, Index first, IntVec tokens, IntVec targets) {
  for (size_t i = 0; i < begin_.size(); ++i) begin_[i] = length_ * std::min(first + static_cast<Index>(i), count_ - 1);
  read(exec, tokens, targets);
}

void Windows::read(const Exec& exec, IntVec tokens, IntVec targets) {
  for (size_t i = 0; i < begin_.size(); ++i) {
    stream_->read(begin_[i], length_ + 1, window_.data());
    std::copy(window_.begin(), window_.end() - 1, tokens_.data() + static_cast<Index>(i) * length_);
    std::copy(window_.begin() + 1, window_.end(), targets_.data() + static_cast<Index>(i) * length_);
  }
  // From memory that is not pinned: the copies are over for the host when these return.
  Kokkos::deep_copy(exec, tokens, tokens_);
  Kokkos::deep_copy(exec, targets, targets_);
}

namespace {
using T = OptionSpec::Type;
const bool registered = add_options(
    "", {{"data.windows", T::choice, "random", "of a text: windows anywhere, or those of an epoch, shuffled", {"random", "epoch"}}});
}  // namespace

}  // namespace varion
