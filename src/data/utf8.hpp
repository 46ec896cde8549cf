// UTF-8, character by character (RFC 3629).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace varion {

struct Character {
  std::int32_t code;  // -1: the byte belongs to no character
  int bytes;
};

/// The character at `at`, which is inside. Overlong forms, halves of surrogate pairs and what lies beyond U+10FFFF are none.
inline Character character_at(std::string_view s, size_t at) {
  const auto byte = [&](size_t k) -> std::int32_t { return at + k < s.size() ? static_cast<unsigned char>(s[at + k]) : 0; };
  const auto follows = [&](size_t k) { return (byte(k) & 0xc0) == 0x80; };
  const std::int32_t b = byte(0);
  if (b < 0x80) return {b, 1};
  std::int32_t code = -1, least = 0;
  int bytes = 1;
  if ((b & 0xe0) == 0xc0 && follows(1)) {
    code = (b & 0x1f) << 6 | (byte(1) & 0x3f), least = 0x80, bytes = 2;
  } else if ((b & 0xf0) == 0xe0 && follows(1) && follows(2)) {
    code = (b & 0x0f) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f), least = 0x800, bytes = 3;
  } else if ((b & 0xf8) == 0xf0 && follows(1) && follows(2) && follows(3)) {
    code = (b & 0x07) << 18 | (byte(1) & 0x3f) << 12 | (byte(2) & 0x3f) << 6 | (byte(3) & 0x3f), least = 0x10000, bytes = 4;
  }
  if (code < least || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff) return {-1, 1};
  return {code, bytes};
}

inline void append_character(std::string& to, std::int32_t code) {
  const auto put = [&](std::int32_t b) { to += static_cast<char>(b); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6), put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12), put(0x80 | (code >> 6 & 0x3f)), put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | code >> 18), put(0x80 | (code >> 12 & 0x3f)), put(0x80 | (code >> 6 & 0x3f)), put(0x80 | (code & 0x3f));
  }
}

}  // namespace varion
