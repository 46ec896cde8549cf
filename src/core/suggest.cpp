#include "core/suggest.hpp"

#include <cstdlib>
#include <utility>

namespace varion {

int edit_distance(const std::string& a, const std::string& b, int limit) {
  const int n = static_cast<int>(a.size()), m = static_cast<int>(b.size());
  if (std::abs(n - m) > limit) return limit + 1;  // no distance is smaller than that
  // Of the prefixes of `a` with i - 2, i - 1 and i letters.
  std::vector<int> rows(3 * static_cast<size_t>(m + 1));
  int *before = rows.data(), *above = before + m + 1, *row = above + m + 1;
  for (int j = 0; j <= m; ++j) row[j] = j;
  int least = 0;
  for (int i = 1; i <= n; ++i) {
    std::swap(before, above);
    std::swap(above, row);
    row[0] = i;
    const int least_above = least;
    least = i;
    const char letter = a[static_cast<size_t>(i - 1)];
    const char* const other = b.data();
    for (int j = 1; j <= m; ++j) {
      int d = above[j - 1] + (letter == other[j - 1] ? 0 : 1);
      d = above[j] + 1 < d ? above[j] + 1 : d;
      d = row[j - 1] + 1 < d ? row[j - 1] + 1 : d;
      if (i > 1 && j > 1 && letter == other[j - 2] && a[static_cast<size_t>(i - 2)] == other[j - 1] && before[j - 2] + 1 < d)
        d = before[j - 2] + 1;
      row[j] = d;
      least = d < least ? d : least;
    }
    if (least > limit && least_above > limit) return limit + 1;  // what follows comes from these two rows
  }
  return row[m];
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& known) {
  const std::string short_word = word.substr(0, 64);  // keeps the search bounded on hostile input
  int best = 1 + static_cast<int>(short_word.size()) / 3;
  const std::string* found = nullptr;
  for (const std::string& name : known) {
    const int distance = edit_distance(short_word, name, best);
    if (distance <= best && (found == nullptr || distance < best)) {
      best = distance;
      found = &name;
    }
  }
  return found == nullptr ? "" : " (did you mean '" + *found + "'?)";
}

std::string join(const std::vector<std::string>& words, const std::string& separator) {
  std::string out;
  for (const std::string& w : words) out += (out.empty() ? "" : separator) + w;
  return out;
}

}  // namespace varion
