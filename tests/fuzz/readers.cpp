// I1, I2: bytes made up by libFuzzer for every reader; FUZZ_TARGET names one. Refusing with an Error of code 65 or 78 (a command line: 64) is right;
// anything else that ends a reader is a finding. scripts/fuzz.sh builds and runs it.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "app/command.hpp"
#include "core/error.hpp"
#include "core/options.hpp"
#include "data/gpt2_vocabulary.hpp"
#include "data/gpt2_words.hpp"
#include "data/tokenizer.hpp"
#include "io/image_files.hpp"
#include "io/posterior_file.hpp"
#include "io/safetensors.hpp"
#include "io/segments.hpp"
#include "io/table.hpp"
#include "io/token_files.hpp"
#include "memory_file.hpp"

namespace varion {
const std::map<std::string, std::string>& presets() {
  static const std::map<std::string, std::string> none;
  return none;
}
}  // namespace varion

using namespace varion;

namespace {
/// The bytes as a file.
const char* file_of(const std::uint8_t* data, size_t size) {
  become_file(data, size);
  return "fuzz";
}

/// A posterior file whose digest is right whatever is in it: what HDF5 then gets to read.
std::string signed_as_posterior(const std::uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  return bytes + io::trailer_of({{0, size, io::xxh128(bytes.data(), size)}});
}

void read_one(const std::string& target, const std::uint8_t* data, size_t size) {
  if (target == "idx") {
    io::read_idx(file_of(data, size), size > 3 && data[3] == 3 ? 3 : 1);
  } else if (target == "cifar") {
    io::CifarImages images;
    io::read_cifar(file_of(data, size), size > 0 && size % 3074 == 0 ? 2 : 1, 10, images);
  } else if (target == "table") {
    io::read_table(file_of(data, size));
  } else if (target == "indices") {
    io::read_indices(file_of(data, size), 0, 100);
  } else if (target == "posterior") {
    io::decode_posterior(std::string(reinterpret_cast<const char*>(data), size), "fuzz");
  } else if (target == "hdf5") {
    io::decode_posterior(signed_as_posterior(data, size), "fuzz");
  } else if (target == "tokens") {
    const io::TokenFiles files(file_of(data, size));
    std::vector<std::uint16_t> all(static_cast<size_t>(files.size()));
    files.read(0, files.size(), all.data());
    files.digest();
  } else if (target == "vocabulary") {  // encoder.json, a zero byte, vocab.bpe
    const std::string bytes(reinterpret_cast<const char*>(data), size);
    const size_t zero = std::min(bytes.find('\0'), bytes.size());
    const Gpt2Vocabulary v = parse_gpt2_vocabulary(bytes.substr(0, zero), "json", bytes.substr(std::min(zero + 1, bytes.size())), "merges");
    for (const Gpt2Merge& m : v.merges)
      if (std::string(v.bytes.of(m.left)) + std::string(v.bytes.of(m.right)) != v.bytes.of(m.token)) std::abort();
  } else if (target == "words") {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    for (size_t at = 0, end = 0; at < size; at = end)
      if (end = word_end(text, at); end <= at || end > size) std::abort();
    // An alphabet is looked for among as many codes as the largest in it: with characters of four bytes in one text of 16.
    if (size % 16 != 0 && std::any_of(data, data + size, [](std::uint8_t b) { return b >= 0xf0; })) return;
    const auto chars = make_tokenizer(tokenizer_for("chars", text, "")->describe());
    const std::vector<std::int32_t> tokens = chars->encode(text);
    if (chars->decode(tokens.data(), static_cast<Index>(tokens.size())) != text) std::abort();
  } else if (target == "safetensors") {
    io::read_safetensors(file_of(data, size));
  } else if (target == "config") {
    Config c;
    c.read_text(std::string(reinterpret_cast<const char*>(data), size), "fuzz");
    c.resolve();
  } else if (target == "cli") {  // a word a line
    const std::string_view all(reinterpret_cast<const char*>(data), size);
    std::vector<std::string> words;
    for (size_t at = 0, end = 0; at < size; at = end + 1) {
      end = std::min(all.find('\n', at), size);
      words.emplace_back(all.substr(at, end - at));
    }
    const Arguments a = parse_arguments(without_force(words).first, {"out", "repeats", "json"});
    Config c;
    for (const auto& [key, value] : a.settings) c.set(key, value, "command line");
    c.resolve();
  } else {
    std::fprintf(stderr, "FUZZ_TARGET must be idx, cifar, table, indices, posterior, hdf5, safetensors, tokens, vocabulary, words, config or cli\n");
    std::exit(64);
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, size_t size) {
  static const char* const target = std::getenv("FUZZ_TARGET");
  try {
    read_one(target == nullptr ? "" : target, data, size);
  } catch (const Error& e) {
    if (e.code() != Exit::data && e.code() != Exit::config && (e.code() != Exit::usage || std::string_view(target) != "cli")) {
      std::fprintf(stderr, "refused with %d: %s\n", static_cast<int>(e.code()), e.what());
      std::abort();
    }
  }
  return 0;
}
