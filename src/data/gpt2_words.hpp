// The pattern by which GPT-2 cuts text into words before it merges bytes (Radford et al. 2019, encoder.py):
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
#pragma once

#include <string_view>

namespace varion {

/// Where the word that begins at `at` ends. Bytes that are no UTF-8 are neither letter nor number nor space.
size_t word_end(std::string_view text, size_t at);

/// A word that ends at least so many bytes before the end of what is known of a text is not changed by the rest: room for a
/// character in pieces, behind a space that would be left to it.
constexpr size_t kWordMargin = 8;

}  // namespace varion
