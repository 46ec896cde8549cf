// `sentences`: lines of text drawn by counter (seed 0, stream data, step = 5, sample = part) from a small grammar whose next
// character hangs on what stands far back: verbs agree with their subject over a phrase between, a name is asked for again, brackets
// close in order, sums are right, made-up words are said again. `slips`: passages of such lines, right ones and ones with a slip
// each, in the same alphabet.
#include "core/random.hpp"
#include "data/token_stream.hpp"
#include "data/tokenizer.hpp"

namespace varion {

namespace {
class Line {
 public:
  Line(std::uint64_t part, Index line, bool slip) : key_(RandomKey::make(0, Stream::data, 5, part)), line_(line), slip_(slip) {}

  std::string write() {
    switch (below_(6)) {
      case 0:
      case 1: return agreement();
      case 2: return question();
      case 3: return sum();
      case 4: return brackets(0);
      default: return echo();
    }
  }

 private:
  /// A number in [0, n).
  std::uint32_t below_(std::uint32_t n) { return below(key_.words(line_ << 18 | drawn_++).w[0], n); }
  template <size_t n>
  std::string one_of(const char* const (&words)[n]) {
    return words[below_(n)];
  }

  std::string noun(bool many) {
    static const char* const kNouns[] = {"dog", "cat", "bird", "girl", "boy", "king", "farmer", "sailor"};
    static const char* const kAdjectives[] = {"old ", "young ", "small ", "tall ", "", "", "", ""};
    const std::string adjective = one_of(kAdjectives);
    return adjective + one_of(kNouns) + (many ? "s" : "");
  }
  std::string agreement() {
    static const char* const kVerbs[] = {"see", "follow", "know", "like", "help", "find"};
    static const char* const kPlaces[] = {" near the ", " behind the ", " with the "};
    const bool many = below_(2) == 0;
    std::string s = "the " + noun(many);
    if (below_(2) == 0) {
      s += one_of(kPlaces);
      s += noun(below_(2) == 0);
    }
    s += " " + one_of(kVerbs) + (many != slip_ ? "" : "s") + " the ";
    return s + noun(below_(2) == 0) + ".";
  }
  std::string question() {
    static const char* const kNames[] = {"Anna", "Boris", "Clara", "David", "Emma", "Felix", "Greta", "Hugo"};
    static const char* const kThings[] = {"key", "cup", "hat", "map", "pen", "bell"};
    static const char* const kColours[] = {"red ", "blue ", "green ", "black ", "white "};
    const std::uint32_t one = below_(8), other = (one + 1 + below_(7)) % 8, thing = below_(6), second = (thing + 1 + below_(5)) % 6;
    const std::string has = one_of(kColours) + kThings[thing], has_other = one_of(kColours) + kThings[second];
    const bool first = below_(2) == 0;
    return text(kNames[one], " has a ", has, " and ", kNames[other], " has a ", has_other) + ". who has the " +
           (first ? has : has_other) + "? " + kNames[first != slip_ ? one : other] + ".";
  }
  std::string sum() {
    const std::uint32_t a = below_(20), b = below_(20);
    return text(a, " + ", b, " = ", slip_ ? a + b + 40 : a + b, ".");
  }
  std::string brackets(int depth) {
    static const char* const kPairs[] = {"()", "[]", "{}"};
    const std::string pair = one_of(kPairs);
    std::string s(1, pair[0]);
    const std::uint32_t items = 1 + below_(3);
    for (std::uint32_t i = 0; i < items; ++i)
      s += depth < 3 && below_(2) == 0 ? brackets(depth + 1) : std::string(1, static_cast<char>('a' + below_(5)));
    const bool innermost = s.find_last_of("([{") == 0;
    return s + (slip_ && innermost ? pair[1] == ']' ? ')' : ']' : pair[1]);
  }
  std::string echo() {
    const std::string word = made_up(), again = slip_ ? made_up() : word;  // seldom the same
    return "say " + word + ": " + word + " " + again + ".";
  }
  std::string made_up() {
    std::string word;
    for (std::uint32_t k = 2 + below_(2); k > 0; --k) {
      word += "bdfgklmnprst"[below_(12)];
      word += "aeiou"[below_(5)];
    }
    return word;
  }

  RandomKey key_;
  Index line_, drawn_ = 0;
  bool slip_;
};

/// Whole lines, until there are `bytes`.
std::string lines(std::uint64_t part, size_t bytes, bool slip = false) {
  std::string all;
  for (Index i = 0; all.size() < bytes; ++i) all += Line(part, i, slip).write() + "\n";
  return all;
}

const std::string& sentences(bool train) {
  static const std::string parts[]{lines(1, 20000), lines(0, 200000)};
  return parts[train ? 1 : 0];
}

std::shared_ptr<const Tokenizer> alphabet() { return tokenizer_for("chars", sentences(true) + sentences(false), ""); }

DataSet load_sentences(const Config& c) {
  const std::string &train = sentences(true), &test = sentences(false);
  DataSet d;
  d.name = "sentences";
  d.tokenizer = alphabet();
  d.vocabulary = d.classes = d.tokenizer->size();
  d.train = windows_of(tokens_in_memory(d.tokenizer->encode(train)), c.integer("data.length"), "sentences");
  d.test = windows_of(tokens_in_memory(d.tokenizer->encode(test)), c.integer("data.length"), "sentences (test set)");
  return d;
}

DataSet load_slips(const Config& c) {
  DataSet d;
  d.name = "slips";
  d.tokenizer = alphabet();
  const Index length = c.integer("data.length");
  const auto both = [&](std::uint64_t part, size_t bytes, const std::string& what) {
    return passages_of({d.tokenizer->encode(lines(part, bytes)), d.tokenizer->encode(lines(part + 1, bytes, true))}, length,
                       {"slips (right ones" + what, "slips (wrong ones" + what});
  };
  d.train = both(2, 100000, ")");
  d.test = both(4, 32000, ", test set)");
  d.vocabulary = d.tokenizer->size();
  d.classes = 2;
  return d;
}

using T = OptionSpec::Type;
const OptionSpec kLength{"data.length", T::integer, "64", "tokens of a window", {}, 1, 1e6};
const bool registered_sentences =
    add_options("sentences", {kLength}) && add_options("slips", {kLength}) &&
    DataSets::of().add("sentences", {"lines from a small grammar, characters as tokens", load_sentences}) &&
    DataSets::of().add("slips", {"passages of such lines, right ones and ones with slips", load_slips});
}  // namespace

}  // namespace varion
