#include "train/windows.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "core/options.hpp"
#include "core/random.hpp"

namespace varion {

__extension__ using Wide = unsigned __int128;

Windows::Windows(const Examples& e, Index batch, WindowOrder order, const Masks& masks)
    : stream_(e.tokens),
      length_(e.example.size()),
      count_(e.count),
      order_(order),
      masks_(masks),
      begins_(e.begins),
      labels_(e.labels),
      chosen_(static_cast<size_t>(batch)),
      window_(static_cast<size_t>(e.is_row() && masks.share == 0 ? length_ + 1 : length_)) {
  if constexpr (!kHostExec)
    for (Staged& s : staged_) s.words = backend::host_words(static_cast<size_t>(batch * (length_ + (e.is_row() ? length_ : 1))));
  ensure(order != WindowOrder::epoch || count_ < Index(1) << 32, "an epoch of ", count_, " windows");
  if (e.is_row()) stretches_.push_back({0, stream_->size() - length_, 0});
  for (size_t i = 0; i < begins_.size(); ++i) {
    const auto known = std::find_if(stretches_.begin(), stretches_.end(), [&](const Stretch& s) { return s.label == labels_[i]; });
    if (known == stretches_.end()) {
      stretches_.push_back({begins_[i], 1, labels_[i]});
      continue;
    }
    const Index last = std::max(known->first + known->places, begins_[i] + 1);
    known->first = std::min(known->first, begins_[i]);
    known->places = last - known->first;
  }
  for (const Stretch& s : stretches_) places_ += s.places;
}

Windows::Chosen Windows::example(Index i) const {
  if (begins_.empty()) return {length_ * i, 0, {}};
  return {begins_[static_cast<size_t>(i)], labels_[static_cast<size_t>(i)], {}};
}

Windows::Chosen Windows::anywhere(std::uint64_t place) const {
  auto left = static_cast<Index>(place);
  size_t s = 0;
  for (; left >= stretches_[s].places; ++s) left -= stretches_[s].places;
  return {stretches_[s].first + left, stretches_[s].label, {}};
}

void Windows::train(const Exec& exec, std::uint64_t seed, std::uint64_t first, IntVec tokens, IntVec targets) {
  for (size_t i = 0; i < chosen_.size(); ++i) {
    const std::uint64_t number = first + i;
    if (order_ == WindowOrder::epoch) {
      const auto n = static_cast<std::uint64_t>(count_);
      const RandomKey key = RandomKey::make(seed, Stream::order, number / n);
      chosen_[i] = example(static_cast<Index>(keyed_bijection(key, static_cast<std::uint32_t>(n), static_cast<std::uint32_t>(number % n))));
    } else {
      // 64 random bits times the number of places, shifted down: a bias below 2^-32 for texts of up to 2^32 tokens.
      const Words4 w = RandomKey::make(seed, Stream::order, 0).words(static_cast<Index>(number));
      const std::uint64_t word = static_cast<std::uint64_t>(w.w[0]) << 32 | w.w[1];
      chosen_[i] = anywhere(static_cast<std::uint64_t>(static_cast<Wide>(word) * static_cast<std::uint64_t>(places_) >> 64));
    }
    if (masks_.share > 0) chosen_[i].mask = Masks::training(seed, number);
  }
  read(exec, tokens, targets);
}

void Windows::in_order(const Exec& exec, Index first, IntVec tokens, IntVec targets) {
  for (size_t i = 0; i < chosen_.size(); ++i) {
    const Index number = std::min(first + static_cast<Index>(i), count_ - 1);
    chosen_[i] = example(number);
    chosen_[i].mask = Masks::evaluation(static_cast<std::uint64_t>(number));
  }
  read(exec, tokens, targets);
}

void Windows::read(const Exec& exec, IntVec tokens, IntVec targets) {
  Staged& staged = staged_[turn_++ % staged_.size()];
  staged.copied.wait();  // the batch before the last
  auto* const words = static_cast<std::int32_t*>(static_cast<void*>(staged.words.get()));
  std::int32_t* const to = kHostExec ? tokens.data() : words;
  std::int32_t* const wanted = kHostExec ? targets.data() : words + tokens.extent(0);
  const bool asked = targets.extent(0) > 0;
  const size_t wants = labels_.empty() ? chosen_.size() * static_cast<size_t>(length_) : chosen_.size();
  ensure(tokens.extent(0) == chosen_.size() * static_cast<size_t>(length_) && (asked ? targets.extent(0) == wants : masks_.share == 0),
         "windows for ", tokens.extent(0), " tokens and ", targets.extent(0), " targets");
  for (size_t i = 0; i < chosen_.size(); ++i) {
    const Index at = static_cast<Index>(i) * length_;
    stream_->read(chosen_[i].begin, static_cast<Index>(window_.size()), window_.data());
    if (asked && !labels_.empty()) wanted[i] = chosen_[i].label;
    else if (asked && masks_.share > 0) masks_.apply(chosen_[i].mask, window_, wanted + at);
    else if (asked) std::copy(window_.begin() + 1, window_.end(), wanted + at);
    std::copy(window_.begin(), window_.begin() + length_, to + at);
  }
  if constexpr (kHostExec) return;
  using Words = Kokkos::View<const std::int32_t*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>;
  Kokkos::deep_copy(exec, tokens, Words(to, tokens.extent(0)));
  if (asked) Kokkos::deep_copy(exec, targets, Words(wanted, targets.extent(0)));
  staged.copied.set(exec);
}

namespace {
using T = OptionSpec::Type;
const bool registered_windows = add_options(
    "", {{"data.windows", T::choice, "random", "of a text: windows anywhere, or those of an epoch, shuffled", {"random", "epoch"}}});
}  // namespace

}  // namespace varion
