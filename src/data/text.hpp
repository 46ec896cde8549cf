// Text: a long row of tokens, and what turns characters into them.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.hpp"

namespace varion {

/// Tokens, in memory or in files that may be larger than it.
class TokenStream {
 public:
  virtual ~TokenStream() = default;
  virtual Index size() const = 0;
  /// Copies tokens [first, first + count) to `to`. From one thread at a time. Errors (65, 66): the file has changed, a token
  /// is not below the vocabulary's size.
  virtual void read(Index first, Index count, std::int32_t* to) const = 0;
  /// Of the tokens; of files also their sizes. Recorded and compared on resume.
  virtual std::uint64_t digest() const = 0;
};

/// Text to tokens and back.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  /// Number of tokens: they are 0 ... size - 1.
  virtual Index size() const = 0;
  /// Errors (65): text that is not UTF-8, or has characters that the tokenizer does not know.
  virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;
  /// Of a text that goes on behind `text`: appends the tokens at its beginning that what follows cannot change, and returns how
  /// many bytes they are. Errors as above.
  virtual size_t encode_front(std::string_view text, std::vector<std::int32_t>& tokens) const = 0;
  /// The bytes of tokens; a token may end in the middle of a character.
  virtual std::string decode(const std::int32_t* tokens, Index count) const = 0;
  /// The token that stands between texts; -1: it has none.
  virtual std::int32_t end_of_text() const { return -1; }
  /// What is needed to make it again (make_tokenizer), in one line: the alphabet itself, or where the vocabulary lies. Saved with a posterior.
  virtual std::string describe() const = 0;
};

/// The tokenizer that `describe` told of. Errors (65, 66, 78).
std::shared_ptr<const Tokenizer> make_tokenizer(const std::string& description);

}  // namespace varion
