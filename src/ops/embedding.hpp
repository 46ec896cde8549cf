// Two ways to the same gradient of a table of tokens, for the tests to compare.
#pragma once

#include "core/types.hpp"

namespace varion {

/// table[token[n]] += dy[n] for n = 0, 1 ... in that order. token [rows], dy [rows, width].
void token_gradient_columns(const Exec& exec, Index rows, Index width, ConstIntVec token, ConstVec dy, Vec table);
void token_gradient_sorted(const Exec& exec, Index rows, Index width, ConstIntVec token, ConstVec dy, Vec table, Vec scratch);
constexpr int kSortBits = 21;  // of a count of rows
constexpr Index kMostSorted = (Index(1) << kSortBits) - 1;
inline Index token_gradient_words(Index rows) { return 2 * rows; }

}  // namespace varion
