// Tokenizers by name: one file each.
#pragma once

#include <functional>

#include "core/error.hpp"
#include "core/registry.hpp"
#include "data/text.hpp"

namespace varion {

/// Text piece by piece, which may end inside characters; an empty piece is the end.
using TextPieces = std::function<std::string_view()>;

/// What a tokenizer cannot take: exit code 65, "byte N of the text REASON".
class TextError : public Error {
 public:
  TextError(std::uint64_t byte_, const std::string& reason_)
      : Error(Exit::data, text("byte ", byte_, " of the text ", reason_)), byte(byte_), reason(reason_) {}
  std::uint64_t byte;
  std::string reason;
};

/// A tokenizer's description is "NAME" or "NAME:ARGUMENT".
struct TokenizerEntry {
  static const char* kind() { return "tokenizer"; }
  std::string help;
  std::function<std::shared_ptr<const Tokenizer>(const std::string& argument)> make;
  /// The argument for a text and a vocabulary folder (data.vocab, may be empty), whichever it needs.
  std::function<std::string(const TextPieces& text, const std::string& vocabulary)> argument;
};
using Tokenizers = Registry<TokenizerEntry>;

/// The tokenizer `name` for a text. Errors (65, 66, 78).
std::shared_ptr<const Tokenizer> tokenizer_for(const std::string& name, const TextPieces& text, const std::string& vocabulary);
std::shared_ptr<const Tokenizer> tokenizer_for(const std::string& name, std::string_view text, const std::string& vocabulary);

/// What made files of tokens: `path` is the file with its description that lies beside them, or gpt2's folder; none where it is empty.
/// Errors (65, 66, 78).
std::shared_ptr<const Tokenizer> tokenizer_of_files(const std::string& path);

/// The bytes of one token each, as tokenizers keep them: decoding is joining.
class TokenBytes {
 public:
  void add(std::string_view bytes);
  Index size() const { return static_cast<Index>(ends_.size()); }
  std::string_view of(Index token) const;
  /// Errors (65): a token that is none.
  std::string join(const std::int32_t* tokens, Index count) const;

 private:
  std::string bytes_;
  std::vector<size_t> ends_;
};

}  // namespace varion
