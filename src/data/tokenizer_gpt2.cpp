// GPT-2's byte-level byte-pair encoding (Radford et al. 2019, "Language models are unsupervised multitask learners", section 2.2;
// Sennrich et al. 2016): words are cut out by a pattern, and in the bytes of each word the pair of lowest rank is merged, until
// none is left. Vocabulary files as OpenAI publishes them: encoder.json (token -> number) and vocab.bpe (merges, a line each, in
// the order of their ranks).
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <mutex>

#include "core/error.hpp"
#include "data/gpt2_vocabulary.hpp"
#include "data/gpt2_words.hpp"
#include "data/tokenizer.hpp"

namespace varion {

namespace {
/// (left, right) -> (rank, merged), in one flat table.
class Pairs {
 public:
  struct Merge {
    std::int32_t rank, token;
  };
  explicit Pairs(const std::vector<Gpt2Merge>& merges) {
    while (slots_.size() < 2 * merges.size() + 2) slots_.resize(2 * slots_.size());
    for (size_t rank = 0; rank < merges.size(); ++rank)
      slots_[place(key_of(merges[rank].left, merges[rank].right))] = {key_of(merges[rank].left, merges[rank].right),
                                                                      {static_cast<std::int32_t>(rank), merges[rank].token}};
  }
  /// Rank -1: they do not merge.
  Merge find(std::int32_t left, std::int32_t right) const { return slots_[place(key_of(left, right))].merge; }

 private:
  struct Slot {
    std::uint64_t key = ~0ull;
    Merge merge{-1, -1};
  };
  static std::uint64_t key_of(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
  }
  size_t place(std::uint64_t key) const {
    size_t at = (key ^ key >> 29) * 0x9e3779b97f4a7c15ull >> 20 & (slots_.size() - 1);
    while (slots_[at].key != key && slots_[at].key != ~0ull) at = (at + 1) & (slots_.size() - 1);
    return at;
  }
  std::vector<Slot> slots_ = std::vector<Slot>(16);
};

/// Words that were met, and their tokens. Emptied when it is full, so that its memory is bounded (about 40 MB).
class WordCache {
 public:
  static constexpr size_t kLongest = 32;  // bytes; longer words seldom come again
  static std::uint64_t hash(std::string_view word) {
    std::uint64_t h = word.size();
    for (size_t at = 0; at < word.size(); at += 8) {
      std::uint64_t piece = 0;
      std::memcpy(&piece, word.data() + at, std::min<size_t>(8, word.size() - at));
      h = (h ^ piece) * 0x9e3779b97f4a7c15ull;
      h ^= h >> 32;
    }
    return h;
  }
  /// Appends the tokens of a word that is known.
  bool take(std::string_view word, std::uint64_t hash, std::vector<std::int32_t>& tokens) const {
    const Slot& s = slots_[place(word, hash)];
    if (s.bytes == 0) return false;
    tokens.insert(tokens.end(), tokens_.begin() + s.first, tokens_.begin() + s.first + s.count);
    return true;
  }
  void put(std::string_view word, std::uint64_t hash, const std::int32_t* tokens, size_t count) {
    if (++used_ > slots_.size() / 2) {
      std::fill(slots_.begin(), slots_.end(), Slot{});
      words_.clear();
      tokens_.clear();
      used_ = 1;
    }
    slots_[place(word, hash)] = {hash, static_cast<std::uint32_t>(words_.size()), static_cast<std::uint32_t>(tokens_.size()),
                                 static_cast<std::uint8_t>(word.size()), static_cast<std::uint8_t>(count)};
    words_ += word;
    tokens_.insert(tokens_.end(), tokens, tokens + count);
  }

 private:
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t word = 0, first = 0;  // places in words_ and tokens_
    std::uint8_t bytes = 0, count = 0;
  };
  size_t place(std::string_view word, std::uint64_t hash) const {
    size_t at = hash & (slots_.size() - 1);
    while (slots_[at].bytes != 0 &&
           (slots_[at].hash != hash || word != std::string_view(words_).substr(slots_[at].word, slots_[at].bytes)))
      at = (at + 1) & (slots_.size() - 1);
    return at;
  }
  std::vector<Slot> slots_ = std::vector<Slot>(size_t(1) << 19);
  std::string words_;
  std::vector<std::int32_t> tokens_;
  size_t used_ = 0;
};

class Gpt2 final : public Tokenizer {
 public:
  explicit Gpt2(const std::string& folder) : folder_(folder), vocabulary_(read_gpt2_vocabulary(folder)), pairs_(vocabulary_.merges) {}

  Index size() const override { return vocabulary_.bytes.size(); }

  std::vector<std::int32_t> encode(std::string_view text) const override {
    std::vector<std::int32_t> tokens;
    tokens.reserve(text.size() / 4);
    append(text, text.size(), tokens);
    return tokens;
  }
  size_t encode_front(std::string_view text, std::vector<std::int32_t>& tokens) const override {
    return append(text, text.size() < kWordMargin ? 0 : text.size() - kWordMargin, tokens);
  }
  std::string decode(const std::int32_t* tokens, Index count) const override { return vocabulary_.bytes.join(tokens, count); }
  std::int32_t end_of_text() const override { return vocabulary_.end_of_text; }
  std::string describe() const override { return "gpt2:" + folder_; }

 private:
  /// The words that end at `end` at the latest; returns where the last one ends.
  size_t append(std::string_view text, size_t end, std::vector<std::int32_t>& tokens) const {
    const std::lock_guard<std::mutex> one_at_a_time(mutex_);
    for (size_t at = 0; at < text.size();) {
      const size_t next = word_end(text, at);
      if (next > end) return at;
      const std::string_view word = text.substr(at, next - at);
      at = next;
      if (word.size() > WordCache::kLongest) {
        merge(word, tokens);
        continue;
      }
      const std::uint64_t hash = WordCache::hash(word);
      if (cache_.take(word, hash, tokens)) continue;
      const size_t before = tokens.size();
      merge(word, tokens);
      cache_.put(word, hash, tokens.data() + before, tokens.size() - before);
    }
    return text.size();
  }

  /// n log n in the word's bytes: a heap of the pairs that can merge, leftmost first where ranks are equal, over a list of
  /// tokens; pairs that are gone are passed over when they come up.
  void merge(std::string_view word, std::vector<std::int32_t>& tokens) const {
    const auto n = static_cast<Index>(word.size());
    list_.resize(word.size());
    heap_.clear();
    const auto at = [&](Index i) -> Link& { return list_[static_cast<size_t>(i)]; };
    const auto later = [](const Candidate& a, const Candidate& b) { return a.rank != b.rank ? a.rank > b.rank : a.left > b.left; };
    const auto offer = [&](Index left) {
      const Index right = at(left).next;
      if (right == n) return;
      const Pairs::Merge m = pairs_.find(at(left).token, at(right).token);
      if (m.rank < 0) return;
      heap_.push_back({m.rank, m.token, left, at(left).token, at(right).token});
      std::push_heap(heap_.begin(), heap_.end(), later);
    };
    for (Index i = 0; i < n; ++i)
      at(i) = {vocabulary_.of_byte[static_cast<unsigned char>(word[static_cast<size_t>(i)])], i - 1, i + 1};
    for (Index i = 0; i < n; ++i) offer(i);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), later);
      const Candidate c = heap_.back();
      heap_.pop_back();
      const Index right = at(c.left).next;
      if (at(c.left).token != c.left_token || right == n || at(right).token != c.right_token) continue;
      at(c.left).token = c.token;
      at(c.left).next = at(right).next;
      at(right).token = -1;
      if (at(right).next < n) at(at(right).next).before = c.left;
      if (at(c.left).before >= 0) offer(at(c.left).before);
      offer(c.left);
    }
    for (Index i = 0; i < n; i = at(i).next) tokens.push_back(at(i).token);
  }

  struct Link {
    std::int32_t token;  // -1: became part of the one before
    Index before, next;
  };
  struct Candidate {
    std::int32_t rank, token;  // of the pair, and what it becomes
    Index left;
    std::int32_t left_token, right_token;
  };
  std::string folder_;
  Gpt2Vocabulary vocabulary_;
  Pairs pairs_;
  mutable std::mutex mutex_;  // of what follows
  mutable WordCache cache_;
  mutable std::vector<Link> list_;
  mutable std::vector<Candidate> heap_;
};

bool register_tokenizer_gpt2() {
  return Tokenizers::of().add(
      "gpt2", {"GPT-2's byte-pair encoding; its files are in data.vocab",
               [](const std::string& folder) { return std::make_shared<Gpt2>(folder); },
               [](const TextPieces&, const std::string& vocabulary) {
                 require(!vocabulary.empty(), Exit::config, "the tokenizer gpt2 needs data.vocab, the folder of encoder.json and vocab.bpe");
                 return std::filesystem::absolute(vocabulary).lexically_normal().string();
               }});
}
const bool registered_tokenizer_gpt2 = register_tokenizer_gpt2();
}  // namespace

}  // namespace varion
