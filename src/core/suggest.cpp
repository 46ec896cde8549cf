#include "core/suggest.hpp"

#include <algorithm>
#include <cstdlib>

namespace varion {

int edit_distance(const std::string& a, const std::string& b) {
  const size_t n = a.size(), m = b.size();
  std::vector<int> before(m + 1), above(m + 1), row(m + 1);  // of the prefixes of `a` with i - 2, i - 1 and i letters
  for (size_t j = 0; j <= m; ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= n; ++i) {
    before.swap(above);
    above.swap(row);
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= m; ++j) {
      const int substitution = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, substitution});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[m];
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& known) {
  const std::string short_word = word.substr(0, 64);  // keeps the search bounded on hostile input
  int best = 1 + static_cast<int>(short_word.size()) / 3;
  const std::string* found = nullptr;
  for (const std::string& name : known) {
    const auto longer = static_cast<int>(name.size()) - static_cast<int>(short_word.size());
    if (std::abs(longer) > best) continue;  // no distance is smaller than that
    const int distance = edit_distance(short_word, name);
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
