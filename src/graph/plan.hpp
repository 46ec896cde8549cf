// Memory planning by liveness: buffers that never live at the same tick may share an address.
#pragma once

#include <algorithm>
#include <vector>

#include "core/types.hpp"

namespace varion {

/// Greedy best order: largest buffers first, each at the lowest offset free during its whole life.
class MemoryPlan {
 public:
  /// A buffer of `words` floats, alive from tick `from` to tick `to` inclusive. Returns its id.
  int add(Index words, int from, int to) {
    const Index padded = (words + kAlign - 1) / kAlign * kAlign;
    buffers_.push_back({padded, from, std::max(from, to), -1});
    return static_cast<int>(buffers_.size()) - 1;
  }

  /// Assigns all offsets; returns the words of the arena.
  Index solve() {
    std::vector<size_t> order(buffers_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return buffers_[a].words > buffers_[b].words; });
    Index total = 0;
    std::vector<const Buffer*> alive;
    for (size_t k = 0; k < order.size(); ++k) {
      Buffer& b = buffers_[order[k]];
      alive.clear();
      for (size_t j = 0; j < k; ++j) {
        const Buffer& o = buffers_[order[j]];
        if (o.from <= b.to && b.from <= o.to) alive.push_back(&o);
      }
      std::sort(alive.begin(), alive.end(),
                [](const Buffer* x, const Buffer* y) { return x->offset < y->offset; });
      Index offset = 0;
      for (const Buffer* o : alive) {
        if (o->offset >= offset + b.words) break;
        offset = std::max(offset, o->offset + o->words);
      }
      b.offset = offset;
      total = std::max(total, offset + b.words);
    }
    return total;
  }

  Index offset(int id) const { return buffers_[static_cast<size_t>(id)].offset; }
  Index unshared() const {
    Index sum = 0;
    for (const Buffer& b : buffers_) sum += b.words;
    return sum;
  }

 private:
  static constexpr Index kAlign = 16;  // floats: one cache line
  struct Buffer {
    Index words;
    int from, to;
    Index offset;
  };
  std::vector<Buffer> buffers_;
};

}  // namespace varion
