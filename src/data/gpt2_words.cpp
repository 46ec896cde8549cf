#include "data/gpt2_words.hpp"

#include <utf8proc.h>

#include <array>

#include "data/utf8.hpp"

namespace varion {

namespace {
enum class Kind : unsigned char { letter, number, space, other, wide };  // wide: a byte of a longer character

constexpr std::array<Kind, 256> byte_kinds() {
  std::array<Kind, 256> kinds{};
  for (int b = 0; b < 256; ++b) {
    const bool letter = (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z');
    kinds[static_cast<size_t>(b)] = b >= 128                             ? Kind::wide
                                    : letter                             ? Kind::letter
                                    : b >= '0' && b <= '9'               ? Kind::number
                                    : b == ' ' || (b >= '\t' && b <= '\r') ? Kind::space
                                                                         : Kind::other;
  }
  return kinds;
}
constexpr std::array<Kind, 256> kByteKinds = byte_kinds();

/// \p{L}, \p{N} and \s (White_Space) beyond ASCII.
Kind kind_of(std::int32_t code) {
  if (code == 0x85) return Kind::space;
  switch (code < 0 ? UTF8PROC_CATEGORY_CN : utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return Kind::letter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return Kind::number;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return Kind::space;
    default: return Kind::other;
  }
}

Kind kind_at(std::string_view text, size_t at, size_t& bytes) {
  const Kind kind = kByteKinds[static_cast<unsigned char>(text[at])];
  bytes = 1;
  if (kind != Kind::wide) return kind;
  const Character c = character_at(text, at);
  bytes = static_cast<size_t>(c.bytes);
  return kind_of(c.code);
}

/// The end of the characters of one kind from `at` on.
size_t run_end(std::string_view text, size_t at, Kind kind) {
  size_t bytes = 0;
  while (at < text.size() && kind_at(text, at, bytes) == kind) at += bytes;
  return at;
}
}  // namespace

size_t word_end(std::string_view text, size_t at) {
  if (text[at] == '\'')
    for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
      if (text.compare(at, ending.size(), ending) == 0) return at + ending.size();
  size_t bytes = 0;
  const size_t first = text[at] == ' ' && at + 1 < text.size() ? at + 1 : at;
  const Kind kind = kind_at(text, first, bytes);
  if (kind != Kind::space) return run_end(text, first + bytes, kind);
  // Spaces: the last one before a word is left to it, or is a word of its own.
  const size_t end = run_end(text, at, Kind::space);
  size_t last = end - 1;
  while ((static_cast<unsigned char>(text[last]) & 0xc0) == 0x80) --last;
  return end == text.size() || last == at ? end : last;
}

}  // namespace varion
