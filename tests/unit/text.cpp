// Tokenizers, token streams, and the data sets made of text.
#include <filesystem>
#include <map>

#include "core/error.hpp"
#include "core/random.hpp"
#include "data/token_stream.hpp"
#include "data/tokenizer.hpp"
#include "data/utf8.hpp"
#include "io/commit_file.hpp"
#include "support/catch.hpp"
#include "support/config.hpp"
#include "support/files.hpp"
#include "support/refusal.hpp"
#include "support/tokens.hpp"

using namespace varion;

namespace {
const std::string kTextDir = "text-test";

bool has(const std::string& message, const std::string& part) {
  INFO(message);
  CHECK(message.find(part) != std::string::npos);
  return message.find(part) != std::string::npos;
}

std::vector<std::int32_t> all_of(const TokenStream& s) {
  std::vector<std::int32_t> out(static_cast<size_t>(s.size()));
  s.read(0, s.size(), out.data());
  return out;
}
}  // namespace

TEST_CASE("UTF-8: every character there is, and what is none") {
  for (std::int32_t code = 0; code <= 0x10ffff; ++code) {
    if (code >= 0xd800 && code < 0xe000) continue;
    std::string s;
    append_character(s, code);
    const Character c = character_at(s, 0);
    REQUIRE(c.code == code);
    REQUIRE(c.bytes == static_cast<int>(s.size()));
    if (s.size() > 1) REQUIRE(character_at(std::string_view(s).substr(0, s.size() - 1), 0).code == -1);  // cut short
  }
  for (const char* bad : {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf",
                          "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\xff", "\xc3(", "\xe2\x82(", "\xf0\x9f\x98("})
    CHECK(character_at(bad, 0).code == -1);
}

TEST_CASE("chars: the alphabet in order, made again from its description, anything else refused") {
  const std::string text = "za\nb\xc3\xa9 \xe2\x82\xac\"\\b\xf0\x9f\x98\x80z\x7f";
  const auto chars = tokenizer_for("chars", text, "");
  CHECK(chars->size() == 11);
  const std::vector<std::int32_t> tokens = chars->encode("\n \"\\abz\x7f\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
  CHECK(tokens == std::vector<std::int32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  CHECK(decoded(*chars, chars->encode(text)) == text);
  CHECK(chars->describe().find('\n') == std::string::npos);
  const auto again = make_tokenizer(chars->describe());
  CHECK(again->encode(text) == chars->encode(text));
  CHECK(again->describe() == chars->describe());
}

TEST_CASE("chars: alphabet and tokens of a text in pieces that end inside characters") {
  const std::string text = "a\xc3\xa9" "b\xe2\x82\xac\xf0\x9f\x98\x80 \xe6\xbc\xa2\xe5\xad\x97z\xf0\x9d\x94\x98";
  const auto whole = tokenizer_for("chars", text, "");
  for (size_t step = 1; step <= 5; ++step) {
    INFO(step);
    size_t at = 0;
    const TextPieces pieces = [&] {
      const std::string_view next = std::string_view(text).substr(at, step);
      at += next.size();
      return next;
    };
    CHECK(tokenizer_for("chars", pieces, "")->describe() == whole->describe());
    std::vector<std::int32_t> tokens;
    std::string rest;
    for (size_t from = 0; from < text.size(); from += step) {
      rest += text.substr(from, step);
      rest.erase(0, whole->encode_front(rest, tokens));
    }
    CHECK(rest.size() < 8);
    for (const std::int32_t token : whole->encode(rest)) tokens.push_back(token);
    CHECK(tokens == whole->encode(text));
  }
}

TEST_CASE("chars: what is refused") {
  const auto chars = make_tokenizer("chars:\"ab\"");
  has(refusal(Exit::data, [&] { chars->encode("abc"); }), "byte 2 of the text is 'c', which the alphabet of 'chars' has not");
  has(refusal(Exit::data, [&] { chars->encode("ab\xff"); }), "byte 2 of the text is not UTF-8");
  has(refusal(Exit::data, [&] { tokenizer_for("chars", "a\xc3", ""); }), "byte 1 of the text is not UTF-8");
  has(refusal(Exit::data, [&] { tokenizer_for("chars", "", ""); }), "empty");
  for (const char* damaged : {"chars:\"ba\"", "chars:\"aa\""}) has(refusal(Exit::data, [&] { make_tokenizer(damaged); }), "damaged at byte 1");
  for (const char* damaged : {"chars", "chars:", "chars:ab", "chars:[\"a\"]", "chars:\"a"})
    has(refusal(Exit::data, [&] { make_tokenizer(damaged); }), "no JSON string");
  has(refusal(Exit::config, [&] { make_tokenizer("char:\"ab\""); }), "did you mean 'chars'");
  for (const std::int32_t token : {-1, 2})
    has(refusal(Exit::data, [&] { chars->decode(&token, 1); }), "not below the vocabulary's size, 2");
}

TEST_CASE("bytes: any bytes there and back") {
  const auto bytes = make_tokenizer("bytes");
  std::string text;
  for (int b = 0; b < 512; ++b) text += static_cast<char>(b * 7);
  CHECK(bytes->size() == 256);
  CHECK(bytes->encode("\xff" "a") == std::vector<std::int32_t>{255, 97});
  CHECK(decoded(*bytes, bytes->encode(text)) == text);
}

TEST_CASE("token streams: parts, windows, digests") {
  std::vector<std::int32_t> tokens(101);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(i * i % 17);
  const auto whole = tokens_in_memory(tokens);
  const Examples e = windows_of(whole, 10, "test");
  CHECK(e.count == 10);
  const Examples some = some_windows(e, 3, 2);
  CHECK(some.count == 2);
  CHECK(all_of(*some.tokens) == std::vector<std::int32_t>(tokens.begin() + 30, tokens.begin() + 51));
  const auto inner = part_of(some.tokens, 1, 5);
  CHECK(all_of(*inner) == std::vector<std::int32_t>(tokens.begin() + 31, tokens.begin() + 36));
  CHECK(windows_of(part_of(whole, 0, 100), 10, "test").count == 9);  // the last target is missing
  std::int32_t one[8];
  CHECK_THROWS_AS(inner->read(0, 6, one), Error);
  CHECK_THROWS_AS(whole->read(100, 2, one), Error);
  has(refusal(Exit::data, [&] { windows_of(whole, 101, "test"); }), "test: 101 tokens, a window of data.length = 101 takes 102");
  CHECK(tokens_in_memory(tokens)->digest() == whole->digest());
  CHECK(part_of(whole, 0, 100)->digest() != part_of(whole, 1, 100)->digest());
  CHECK(part_of(whole, 0, 100)->digest() != part_of(whole, 0, 99)->digest());
  tokens[50] ^= 1;
  CHECK(tokens_in_memory(tokens)->digest() != whole->digest());
}

TEST_CASE("text: parts as nanoGPT cuts them, windows held out at the end, folders joined by name") {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += i % 7 == 0 ? "\xc3\xa9" : std::string(1, static_cast<char>('a' + i % 5));
  const std::string path = put(kTextDir, "all.txt", text);
  const auto load = [&](const std::string& where, const std::string& trained, const std::string& held, const std::string& tested) {
    return load_data(config_of({{"data.name", "text"}, {"data.path", where}, {"data.length", "8"}, {"data.train_size", trained},
                                {"data.val_size", held}, {"data.test_size", tested}}));
  };
  const DataSet d = load(path, "0", "0", "0");
  CHECK(d.vocabulary == 6);
  CHECK(d.classes == 6);
  CHECK(d.train.tokens->size() == 900);
  CHECK(d.test.tokens->size() == 100);
  CHECK(d.train.count == 112);
  CHECK(d.test.count == 12);
  CHECK(decoded(*d.tokenizer, all_of(*d.train.tokens)) + decoded(*d.tokenizer, all_of(*d.test.tokens)) == text);

  const DataSet some = load(path, "50", "10", "3");
  CHECK(some.train.count == 40);
  CHECK(some.validation.count == 10);
  CHECK(some.test.count == 3);
  const std::vector<std::int32_t> tokens = all_of(*d.train.tokens);
  CHECK(all_of(*some.train.tokens) == std::vector<std::int32_t>(tokens.begin(), tokens.begin() + 321));
  CHECK(all_of(*some.validation.tokens) == std::vector<std::int32_t>(tokens.begin() + 320, tokens.begin() + 401));
  CHECK(some.test.tokens->size() == 25);
  CHECK(some.digest != d.digest);
  CHECK(load(path, "50", "10", "0").digest == some.digest);
  has(refusal(Exit::config, [&] { load(path, "5", "5", "0"); }), "leaves nothing");

  std::filesystem::remove_all(kTextDir + "/folder");
  io::make_folder(kTextDir + "/folder");
  has(refusal(Exit::no_input, [&] { load(kTextDir + "/folder", "0", "0", "0"); }), "holds no .txt files");
  io::commit_file(kTextDir + "/folder", "b.txt", text.substr(500));
  io::commit_file(kTextDir + "/folder", "a.txt", text.substr(0, 500));
  io::commit_file(kTextDir + "/folder", "a.md", "not read");
  CHECK(load(kTextDir + "/folder", "0", "0", "0").digest == d.digest);
  has(refusal(Exit::no_input, [&] { load(kTextDir + "/none", "0", "0", "0"); }), kTextDir + "/none");
  has(refusal(Exit::data, [&] { load(put(kTextDir, "short.txt", "abcdefgh"), "0", "0", "0"); }), "short.txt (training part): 7 tokens");
  has(refusal(Exit::data, [&] { load(put(kTextDir, "bad.txt", text + "\xff"), "0", "0", "0"); }), "bad.txt: byte 1143 is not UTF-8");
  has(refusal(Exit::config, [&] { load_data(config_of({{"data.name", "text"}})); }), "data.path");
}

namespace {
/// Bits a character of `test`, by counts of the `order` characters before it in `train` and one of everything.
double bits(const std::vector<std::int32_t>& train, const std::vector<std::int32_t>& test, size_t order, Index vocabulary) {
  std::map<std::vector<std::int32_t>, std::map<std::int32_t, int>> seen;
  for (size_t i = order; i < train.size(); ++i) ++seen[{train.begin() + static_cast<long>(i - order), train.begin() + static_cast<long>(i)}][train[i]];
  double sum = 0;
  for (size_t i = order; i < test.size(); ++i) {
    const auto& counts = seen[{test.begin() + static_cast<long>(i - order), test.begin() + static_cast<long>(i)}];
    double all = 0, hit = 0;
    for (const auto& [token, n] : counts) all += n, hit += token == test[i] ? n : 0;
    sum -= std::log2((hit + 0.01) / (all + 0.01 * static_cast<double>(vocabulary)));
  }
  return sum / static_cast<double>(test.size() - order);
}
}  // namespace

TEST_CASE("sentences: the same everywhere, and more of the past tells more") {
  const DataSet d = load_data(config_of({{"data.name", "sentences"}}));
  CHECK(d.digest == 0x4f3138201b2032a7ull);
  CHECK(d.vocabulary == 54);
  CHECK(d.test.tokens->size() > 20000);
  const std::vector<std::int32_t> train = all_of(*d.train.tokens), test = all_of(*d.test.tokens);
  CHECK(decoded(*d.tokenizer, train).substr(0, 4) == "{c}\n");
  const double letters = bits(train, test, 0, d.vocabulary), pairs = bits(train, test, 1, d.vocabulary);
  CHECK(letters == Approx(4.656).margin(0.01));
  CHECK(pairs == Approx(2.943).margin(0.01));  // 2.04 nats
  CHECK(bits(train, test, 3, d.vocabulary) == Approx(1.325).margin(0.01));
  CHECK(bits(train, test, 5, d.vocabulary) > 1.4);  // counting goes no further
}
