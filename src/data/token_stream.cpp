#include "data/token_stream.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace varion {

namespace {
/// FNV-1a over whole numbers.
std::uint64_t mix(std::uint64_t h, std::uint64_t word) { return (h ^ word) * 1099511628211ull; }
constexpr std::uint64_t kStart = 1469598103934665603ull;

class InMemory final : public TokenStream {
 public:
  explicit InMemory(std::vector<std::int32_t> tokens) : tokens_(std::move(tokens)) {}
  Index size() const override { return static_cast<Index>(tokens_.size()); }
  void read(Index first, Index count, std::int32_t* to) const override {
    ensure(first >= 0 && count >= 0 && first + count <= size(), "tokens ", first, " .. ", first + count, " of ", size());
    std::copy_n(tokens_.data() + first, count, to);
  }
  std::uint64_t digest() const override {
    std::uint64_t h = kStart;
    for (const std::int32_t t : tokens_) h = mix(h, static_cast<std::uint32_t>(t));
    return h;
  }

 private:
  std::vector<std::int32_t> tokens_;
};

class Part final : public TokenStream {
 public:
  Part(std::shared_ptr<const TokenStream> whole, Index first, Index count)
      : whole_(std::move(whole)), first_(first), count_(count) {
    ensure(first >= 0 && count >= 0 && first + count <= whole_->size(), "a part of ", count, " tokens from ", first, " of ",
           whole_->size());
  }
  Index size() const override { return count_; }
  void read(Index first, Index count, std::int32_t* to) const override {
    ensure(first >= 0 && count >= 0 && first + count <= count_, "tokens ", first, " .. ", first + count, " of ", count_);
    whole_->read(first_ + first, count, to);
  }
  std::uint64_t digest() const override {
    return mix(mix(mix(kStart, whole_->digest()), static_cast<std::uint64_t>(first_)), static_cast<std::uint64_t>(count_));
  }

 private:
  std::shared_ptr<const TokenStream> whole_;
  Index first_, count_;
};
}  // namespace

std::shared_ptr<const TokenStream> tokens_in_memory(std::vector<std::int32_t> tokens) {
  return std::make_shared<InMemory>(std::move(tokens));
}

std::shared_ptr<const TokenStream> part_of(std::shared_ptr<const TokenStream> whole, Index first, Index count) {
  return std::make_shared<Part>(std::move(whole), first, count);
}

Examples windows_of(std::shared_ptr<const TokenStream> tokens, Index length, const std::string& name) {
  require(tokens->size() > length, Exit::data, name, ": ", tokens->size(), " tokens, a window of data.length = ", length,
          " takes ", length + 1, ": give more text or a smaller data.length");
  Examples e;
  e.example = {length};
  e.count = (tokens->size() - 1) / length;
  e.tokens = std::move(tokens);
  return e;
}

Examples passages_of(const std::vector<std::vector<std::int32_t>>& classes, Index length, const std::vector<std::string>& names) {
  struct Passage {
    double place;  // among those of its class, in (0, 1)
    std::int32_t label;
    Index begin;
  };
  std::vector<Passage> all;
  std::vector<std::int32_t> tokens;
  for (size_t k = 0; k < classes.size(); ++k) {
    const Index count = static_cast<Index>(classes[k].size()) / length;
    require(count > 0, Exit::data, names[k], ": ", classes[k].size(), " tokens, a passage is data.length = ", length,
            ": give more text or a smaller data.length");
    for (Index i = 0; i < count; ++i)
      all.push_back({(static_cast<double>(i) + 0.5) / static_cast<double>(count), static_cast<std::int32_t>(k),
                     static_cast<Index>(tokens.size()) + i * length});
    tokens.insert(tokens.end(), classes[k].begin(), classes[k].end());
  }
  std::sort(all.begin(), all.end(), [](const Passage& a, const Passage& b) { return a.place != b.place ? a.place < b.place : a.label < b.label; });
  Examples e;
  e.example = {length};
  e.count = static_cast<Index>(all.size());
  e.tokens = tokens_in_memory(std::move(tokens));
  for (const Passage& p : all) {
    e.begins.push_back(p.begin);
    e.labels.push_back(p.label);
  }
  return e;
}

Examples some_windows(const Examples& from, Index first, Index count) {
  const Index length = from.example[0];
  Examples e;
  e.example = from.example;
  e.count = count;
  if (!from.is_row()) {
    e.tokens = from.tokens;
    e.begins.assign(from.begins.begin() + first, from.begins.begin() + first + count);
    e.labels.assign(from.labels.begin() + first, from.labels.begin() + first + count);
    return e;
  }
  e.tokens = part_of(from.tokens, first * length, count * length + 1);
  return e;
}

}  // namespace varion
