// "Did you mean": the closest known name to a mistyped one.
#pragma once

#include <string>
#include <vector>

namespace varion {

/// Edit distance of two words (insertions, deletions, substitutions, swaps of neighbours count 1); where it is above `limit`, some
/// number above it.
int edit_distance(const std::string& a, const std::string& b, int limit = 1 << 20);

/// ` (did you mean 'x'?)` when a known name is close enough, else an empty string.
std::string did_you_mean(const std::string& word, const std::vector<std::string>& known);

/// "a, b, c".
std::string join(const std::vector<std::string>& words, const std::string& separator = ", ");

}  // namespace varion
