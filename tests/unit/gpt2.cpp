// GPT-2's tokenizer on made-up vocabularies: the pattern of words against std::regex, merging against the paper's loop, damage.
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "core/error.hpp"
#include "core/random.hpp"
#include "data/gpt2_vocabulary.hpp"
#include "data/gpt2_words.hpp"
#include "data/utf8.hpp"
#include "io/commit_file.hpp"
#include "support/catch.hpp"
#include "support/tokens.hpp"

using namespace varion;

namespace {
const std::string kGpt2Dir = "gpt2-test";

struct Draws {
  RandomKey key;
  Index drawn = 0;
  std::uint32_t operator()(std::uint32_t n) { return below(key.words(drawn++).w[0], n); }
};
Draws draws(std::uint64_t number) { return {RandomKey::make(11, Stream::test, number)}; }

std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = word_end(text, at);
    REQUIRE(end > at);
    out.emplace_back(text.substr(at, end - at));
    at = end;
  }
  return out;
}

using Words = std::vector<std::string>;

/// How the files write a byte, put together another way: Python's bytes_to_unicode (encoder.py).
std::string written(const std::string& bytes) {
  std::string out;
  for (const char c : bytes) {
    const int b = static_cast<unsigned char>(c);
    int code = b;
    if (b <= 32) code = 256 + b;
    else if (b >= 127 && b <= 160) code = 256 + 33 + b - 127;
    else if (b == 173) code = 256 + 67;
    append_character(out, code);
  }
  return out;
}

/// A vocabulary: the bytes, in an order of its own, and merges (tokens by their bytes).
struct MadeUp {
  std::vector<std::string> tokens;
  std::vector<std::pair<std::string, std::string>> merges;
  MadeUp() {
    for (int b = 0; b < 256; ++b) tokens.push_back(std::string(1, static_cast<char>(b * 37 + 5)));
  }
  void merge(const std::string& a, const std::string& b) {
    merges.emplace_back(a, b);
    tokens.push_back(a + b);
  }
  std::string json() const {
    nlohmann::json j;
    for (size_t i = 0; i < tokens.size(); ++i) j[written(tokens[i])] = i;
    return j.dump();
  }
  std::string lines() const {
    std::string s = "#version: 0.2\n";
    for (const auto& [a, b] : merges) s += written(a) + " " + written(b) + "\n";
    return s;
  }
  std::shared_ptr<const Tokenizer> make() const {
    io::make_folder(kGpt2Dir);
    io::commit_file(kGpt2Dir, "encoder.json", json());
    io::commit_file(kGpt2Dir, "vocab.bpe", lines());
    return make_tokenizer("gpt2:" + kGpt2Dir);
  }
  /// The paper's loop: the pair of lowest rank everywhere in the word, from the left, until there is none.
  std::vector<std::int32_t> tokens_of(const std::string& text) const {
    std::vector<std::int32_t> out;
    for (const std::string& word : words(text)) {
      std::vector<std::string> parts;
      for (const char c : word) parts.emplace_back(1, c);
      for (const auto& [a, b] : merges) {
        std::vector<std::string> next;
        for (size_t i = 0; i < parts.size(); ++i) {
          const bool both = i + 1 < parts.size() && parts[i] == a && parts[i + 1] == b;
          next.push_back(both ? a + b : parts[i]);
          i += both ? 1 : 0;
        }
        parts = next;
      }
      for (const std::string& p : parts)
        out.push_back(static_cast<std::int32_t>(std::find(tokens.begin(), tokens.end(), p) - tokens.begin()));
    }
    return out;
  }
};

std::string refusal(const std::string& json, const std::string& merges) {
  try {
    parse_gpt2_vocabulary(json, "J", merges, "M");
  } catch (const Error& e) {
    CHECK(e.code() == Exit::data);
    CHECK(std::string(e.what()).find('\n') == std::string::npos);
    return e.what();
  }
  return "accepted";
}
}  // namespace

TEST_CASE("words: letters, numbers, signs, endings, spaces, in and beyond ASCII") {
  CHECK(words("I'm sure they'll; we'RE 3rd") == Words{"I", "'m", " sure", " they", "'ll", ";", " we", "'", "RE", " 3", "rd"});
  CHECK(words("a  b \n\n c\t") == Words{"a", " ", " b", " \n\n", " c", "\t"});
  CHECK(words("x \n y") == Words{"x", " \n", " y"});
  CHECK(words("x\n\ny") == Words{"x", "\n", "\n", "y"});
  CHECK(words("  ") == Words{"  "});
  CHECK(words(" 's !'s") == Words{" '", "s", " !'", "s"});
  CHECK(words("\xc3\xa9t\xc3\xa9 na\xc3\xafve\xe2\x80\x94\xd9\xa3") == Words{"\xc3\xa9t\xc3\xa9", " na\xc3\xafve", "\xe2\x80\x94", "\xd9\xa3"});
  CHECK(words("a\xc2\xa0\xe3\x80\x80" "b") == Words{"a", "\xc2\xa0", "\xe3\x80\x80", "b"});  // spaces, but none that joins a word
  CHECK(words("a\xc2\x85\xe2\x80\xa8" "b") == Words{"a", "\xc2\x85", "\xe2\x80\xa8", "b"});
  CHECK(words("\xe6\xbc\xa2\xe5\xad\x97 \xf0\x9f\x98\x80!") == Words{"\xe6\xbc\xa2\xe5\xad\x97", " \xf0\x9f\x98\x80!"});
  CHECK(words("e\xcc\x81x") == Words{"e", "\xcc\x81", "x"});                               // a mark is no letter
  CHECK(words("a\xff\xc3 \xc3(b") == Words{"a", "\xff\xc3", " \xc3(", "b"});               // nor is a stray byte
  CHECK(words(std::string("\0\0a", 3)) == Words{std::string("\0\0", 2), "a"});
}

TEST_CASE("words of ASCII text are those of the pattern") {
  const std::regex pattern("'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\\sA-Za-z0-9]+|\\s+(?!\\S)|\\s+");
  const std::string letters = "abcdelmrstvXYZ09''''    \n\t\r!?.-";
  Draws draw = draws(1);
  for (int i = 0; i < 3000; ++i) {
    std::string text;
    for (std::uint32_t n = 1 + draw(40); n > 0; --n) text += letters[draw(static_cast<std::uint32_t>(letters.size()))];
    Words wanted;
    for (std::sregex_iterator at(text.begin(), text.end(), pattern); at != std::sregex_iterator(); ++at) wanted.push_back(at->str());
    INFO(text);
    REQUIRE(words(text) == wanted);
  }
}

TEST_CASE("merging: as the paper's loop, whatever the vocabulary, and any bytes there and back") {
  Draws draw = draws(2);
  for (int round = 0; round < 20; ++round) {
    MadeUp v;
    std::set<std::string> known(v.tokens.begin(), v.tokens.end());
    std::vector<std::string> parts{"a", "b", "c", " ", "\xc3", "\xa9", "1", "\n"};
    for (int tries = 0; tries < 60; ++tries) {
      const std::string a = parts[draw(static_cast<std::uint32_t>(parts.size()))], b = parts[draw(static_cast<std::uint32_t>(parts.size()))];
      if (a.size() + b.size() > 9 || !known.insert(a + b).second) continue;
      v.merge(a, b);
      parts.push_back(a + b);
    }
    v.tokens.push_back("<|endoftext|>");
    const auto t = v.make();
    CHECK(t->size() == static_cast<Index>(v.tokens.size()));
    CHECK(make_tokenizer(t->describe())->size() == t->size());
    for (int i = 0; i < 60; ++i) {
      std::string text;
      const bool any = draw(3) == 0;
      for (std::uint32_t n = 1 + draw(i == 0 ? 3000 : 80); n > 0; --n)
        text += any ? std::string(1, static_cast<char>(draw(256))) : parts[draw(static_cast<std::uint32_t>(parts.size()))];
      const std::vector<std::int32_t> tokens = t->encode(text);
      REQUIRE(decoded(*t, tokens) == text);
      REQUIRE(tokens == v.tokens_of(text));
      REQUIRE(t->encode(text) == tokens);  // from the words that were kept
      std::vector<std::int32_t> pieces;
      std::string rest;
      for (size_t at = 0; at < text.size();) {  // in pieces of any length
        const size_t take = std::min<size_t>(1 + draw(9), text.size() - at);
        rest.append(text, at, take);
        at += take;
        rest.erase(0, t->encode_front(rest, pieces));
      }
      for (const std::int32_t token : t->encode(rest)) pieces.push_back(token);
      REQUIRE(pieces == tokens);
    }
    const std::int32_t end = static_cast<std::int32_t>(v.tokens.size()) - 1;
    CHECK(t->decode(&end, 1) == "<|endoftext|>");
    CHECK(t->end_of_text() == end);
    const auto of_text = t->encode("<|endoftext|>");  // text that looks like it is text
    CHECK(std::find(of_text.begin(), of_text.end(), end) == of_text.end());
  }
}

TEST_CASE("more words than are kept, and one long word") {
  MadeUp v;
  v.merge("a", "b");
  v.merge("ab", "ab");
  v.merge("1", "2");
  const auto t = v.make();
  Draws draw = draws(3);
  std::string text;
  for (int i = 0; i < 300000; ++i) text += " " + std::to_string(draw(1000000)) + "x" + std::to_string(i);
  CHECK(decoded(*t, t->encode(text)) == text);
  std::string row;
  for (int i = 0; i < 500001; ++i) row += "ab";  // a million bytes: what is quadratic would take minutes
  const auto tokens = t->encode(row);
  CHECK(tokens.size() == 250001);
  CHECK(tokens.front() == 257);
  CHECK(tokens.back() == 256);
}

TEST_CASE("vocabulary files: read under both of their names, damage refused with its place") {
  MadeUp v;
  v.merge("a", "b");
  v.merge("ab", "c");
  const std::string json = v.json(), lines = v.lines();
  CHECK(parse_gpt2_vocabulary(json, "J", lines, "M").merges.size() == 2);
  CHECK(parse_gpt2_vocabulary(json, "J", "a b\r\n\r\nab c", "M").merges.size() == 2);
  const auto says = [](const std::string& what, const std::string& part) {
    INFO(what);
    CHECK(what.find(part) != std::string::npos);
  };
  says(refusal("", lines), "J: no JSON object");
  says(refusal("[1]", lines), "J: no JSON object");
  says(refusal("{}", lines), "J: no JSON object");
  says(refusal(json.substr(0, json.size() - 1), lines), "J: no JSON object");
  nlohmann::json j = nlohmann::json::parse(json);
  const auto with = [&](const std::string& token, const nlohmann::json& number) {
    nlohmann::json changed = j;
    changed[token] = number;
    return refusal(changed.dump(), lines);
  };
  for (const nlohmann::json& number : {nlohmann::json(5), nlohmann::json(-1), nlohmann::json(258), nlohmann::json(1.5), nlohmann::json("1")})
    says(with("abc", number), "the 258 tokens must have the numbers 0 to 257, each once");
  says(with("\xe6\xbc\xa2", 258), "holds a character that stands for no byte");
  says(with("", 258), "holds a character that stands for no byte");
  nlohmann::json without = nlohmann::json::object();
  without["a"] = 0;
  says(refusal(without.dump(), ""), "J: no token for byte 0");
  says(refusal(json, "a b\nab"), "M:2: 'ab' is not two tokens");
  says(refusal(json, "a b\nab c d"), "M:2: 'ab c d' is not two tokens");
  says(refusal(json, "a b\na \n"), "M:2: 'a ' is not two tokens");
  says(refusal(json, "a b\nc d\n"), "M:2: 'c d' merges, or makes, what J does not number");
  says(refusal(json, "ab c\na b\n"), "M:1: 'ab c' merges what no line before has made");
  says(refusal(json, "a b\na b\n"), "M:2: 'a b' makes a token that is already made");

  std::filesystem::remove_all(kGpt2Dir + "/other");
  io::make_folder(kGpt2Dir + "/other");
  const auto refused = [](const std::string& description, Exit code) -> std::string {
    try {
      make_tokenizer(description);
    } catch (const Error& e) {
      CHECK(e.code() == code);
      return e.what();
    }
    return "accepted";
  };
  says(refused("gpt2:" + kGpt2Dir + "/other", Exit::no_input), "/other/encoder.json");
  io::commit_file(kGpt2Dir + "/other", "vocab.json", json);
  says(refused("gpt2:" + kGpt2Dir + "/other", Exit::no_input), "/other/vocab.bpe");
  io::commit_file(kGpt2Dir + "/other", "merges.txt", lines);
  CHECK(make_tokenizer("gpt2:" + kGpt2Dir + "/other")->encode("abc") == std::vector<std::int32_t>{257});
}
