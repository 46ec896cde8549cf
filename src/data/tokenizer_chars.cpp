// One token a character: the alphabet is what the text uses, in the order of Unicode (nanoGPT's character level).
#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "data/tokenizer.hpp"
#include "data/utf8.hpp"
#include "io/posterior_file.hpp"

namespace varion {

namespace {
const char* const kNotUtf8 = "is not UTF-8: convert it, or take the tokenizer bytes";

class Chars final : public Tokenizer {
 public:
  /// `alphabet` is UTF-8, ascending. Errors (65).
  explicit Chars(std::string alphabet) : alphabet_(std::move(alphabet)) {
    std::int32_t last = -1;
    for (size_t at = 0; at < alphabet_.size();) {
      const Character c = character_at(alphabet_, at);
      require(c.code > last, Exit::data, "the alphabet of 'chars' is damaged at byte ", at, ": its characters must be UTF-8 and ascend");
      last = c.code;
      if (token_.size() <= static_cast<size_t>(c.code)) token_.resize(static_cast<size_t>(c.code) + 1, -1);
      token_[static_cast<size_t>(c.code)] = static_cast<std::int32_t>(bytes_.size());
      bytes_.add(std::string_view(alphabet_).substr(at, static_cast<size_t>(c.bytes)));
      at += static_cast<size_t>(c.bytes);
    }
    require(bytes_.size() > 0, Exit::data, "the alphabet of 'chars' is empty");
  }
  Index size() const override { return bytes_.size(); }
  std::vector<std::int32_t> encode(std::string_view text) const override {
    std::vector<std::int32_t> tokens;
    tokens.reserve(text.size());
    append(text, text.size(), tokens);
    return tokens;
  }
  size_t encode_front(std::string_view text, std::vector<std::int32_t>& tokens) const override {
    return append(text, text.size() < 4 ? 0 : text.size() - 3, tokens);  // the last bytes may be half a character
  }
  std::string decode(const std::int32_t* tokens, Index count) const override { return bytes_.join(tokens, count); }
  std::string describe() const override { return "chars:" + nlohmann::json(alphabet_).dump(); }

 private:
  /// The characters that begin before `end`; returns where the last one ends.
  size_t append(std::string_view text, size_t end, std::vector<std::int32_t>& tokens) const {
    size_t at = 0;
    while (at < end) {
      const Character c = character_at(text, at);
      if (c.code < 0) throw TextError(at, kNotUtf8);
      const std::int32_t token = static_cast<size_t>(c.code) < token_.size() ? token_[static_cast<size_t>(c.code)] : -1;
      if (token < 0) throw TextError(at, varion::text("is '", text.substr(at, static_cast<size_t>(c.bytes)), "', which the alphabet of 'chars' has not"));
      tokens.push_back(token);
      at += static_cast<size_t>(c.bytes);
    }
    return at;
  }

  std::string alphabet_;
  TokenBytes bytes_;
  std::vector<std::int32_t> token_;  // of a character's number; -1: not in the alphabet
};

std::shared_ptr<const Tokenizer> make_chars(const std::string& argument) {
  const auto alphabet = nlohmann::json::parse(argument, nullptr, false);
  require(alphabet.is_string(), Exit::data, "the alphabet of 'chars' is no JSON string");
  return std::make_shared<Chars>(alphabet.get<std::string>());
}

/// The alphabet of the text, or that of a run whose posterior file `vocabulary` is: to go on from there with another text.
std::string alphabet_of(const TextPieces& text, const std::string& vocabulary) {
  if (!vocabulary.empty()) {
    const io::PosteriorFile f = io::load_attributes(vocabulary);
    const std::string name = "chars:";
    const auto kept = f.data.find("tokenizer");
    require(kept != f.data.end() && kept->second.rfind(name, 0) == 0, Exit::config, "data.vocab = ", vocabulary,
            ": was not trained on characters");
    return kept->second.substr(name.size());
  }
  std::vector<bool> used;
  std::string piece;
  std::uint64_t before = 0;  // bytes of the text before `piece`
  const auto take = [&](size_t end) {
    size_t at = 0;
    while (at < end) {
      const Character c = character_at(piece, at);
      if (c.code < 0) throw TextError(before + at, kNotUtf8);
      if (used.size() <= static_cast<size_t>(c.code)) used.resize(static_cast<size_t>(c.code) + 1);
      used[static_cast<size_t>(c.code)] = true;
      at += static_cast<size_t>(c.bytes);
    }
    piece.erase(0, at);
    before += at;
  };
  for (std::string_view next = text(); !next.empty(); next = text()) {
    piece += next;
    take(piece.size() < 4 ? 0 : piece.size() - 3);  // the last bytes may be half a character
  }
  take(piece.size());
  std::string alphabet;
  for (size_t code = 0; code < used.size(); ++code)
    if (used[code]) append_character(alphabet, static_cast<std::int32_t>(code));
  return nlohmann::json(alphabet).dump();
}

const bool registered_tokenizer_chars = Tokenizers::of().add("chars", {"one token a character of the text", make_chars, alphabet_of});
}  // namespace

}  // namespace varion
