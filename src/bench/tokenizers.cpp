// GPT-2's tokenizer on made-up text: its bytes a second on one core.
#include <unistd.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "bench/bench.hpp"
#include "core/random.hpp"
#include "data/tokenizer.hpp"
#include "io/commit_file.hpp"

namespace varion {

namespace {
const std::string kFirst = "bdfgklmnprst", kSecond = "aeiou";

/// Words of one to four syllables; low numbers, the short ones, come often, as in a language.
std::string made_up_words(size_t bytes) {
  const RandomKey key = RandomKey::make(1, Stream::test, 7);
  std::string text;
  for (Index i = 0; text.size() < bytes; ++i) {
    const Words4 w = key.words(i);
    // The number's logarithm is uniform: ten words are a seventh of the text, and some are always new.
    auto number = static_cast<std::uint64_t>(std::exp(16 * static_cast<double>(unit_interval(w.w[0]))));
    do {
      text += kFirst[number % 12];
      text += kSecond[number / 12 % 5];
      number /= 60;
    } while (number > 0);
    text += w.w[1] % 10 == 0 ? ".\n" : " ";
  }
  return text;
}

/// Files of a vocabulary: bytes, syllables, a space before them, pairs of syllables.
void write_vocabulary(const std::string& dir) {
  const std::string space = "\xc4\xa0";  // how the files write it
  nlohmann::json numbers;
  int next = 0, hidden = 256;
  const auto letter = [](int code) {
    if (code < 128) return std::string(1, static_cast<char>(code));
    return std::string{static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 63))};
  };
  for (int b = 0; b < 256; ++b) numbers[letter((b > 32 && b < 127) || (b > 160 && b != 173) ? b : hidden++)] = next++;
  std::string merges = "#version: 0.2\n";
  const auto merge = [&](const std::string& left, const std::string& right) {
    numbers[left + right] = next++;
    merges += left + " " + right + "\n";
  };
  std::vector<std::string> syllables;
  for (const char a : kFirst)
    for (const char b : kSecond) {
      merge({a}, {b});
      syllables.push_back({a, b});
    }
  for (const std::string& s : syllables) merge(space, s);
  for (const std::string& s : syllables)
    for (const std::string& t : syllables) merge(s, t);
  io::commit_file(dir, "encoder.json", numbers.dump());
  io::commit_file(dir, "vocab.bpe", merges);
}
}  // namespace

void run_tokenizers(Bench& bench) {
  const std::string label = "tokenizer/gpt2";
  if (!bench.wants(label) || Comm::world().size() > 1) return;
  const std::string dir = text(bench.options().dir, "/varion-bench-", ::getpid());
  io::make_folder(dir);
  write_vocabulary(dir);
  const auto tokenizer = tokenizer_for("gpt2", std::string_view(), dir);
  const std::string words = made_up_words(static_cast<size_t>(bench.size(Index(4) << 20, 1 << 12)));
  size_t tokens = 0;
  bench.measure(label, {0, 0, static_cast<double>(words.size()) / 1e6, "MB", 0}, [&] { tokens += tokenizer->encode(words).size(); });
  ensure(tokens > 0, "a text without tokens");
  for (const char* name : {"encoder.json", "vocab.bpe"}) io::remove_file(dir + "/" + name);
  ::rmdir(dir.c_str());
}

namespace {
const bool registered_tokenizers = BenchCases::of().add("tokenizers", {"text to tokens", 1, run_tokenizers});
}  // namespace

}  // namespace varion
