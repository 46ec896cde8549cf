#include "core/suggest.hpp"

#include <algorithm>

namespace varion {

int edit_distance(const std::string& a, const std::string& b) {
  const size_t n = a.size(), m = b.size();
  std::vector<std::vector<int>> d(n + 1, std::vector<int>(m + 1, 0));
  for (size_t i = 0; i <= n; ++i) d[i][0] = static_cast<int>(i);
  for (size_t j = 0; j <= m; ++j) d[0][j] = static_cast<int>(j);
  for (size_t i = 1; i <= n; ++i)
    for (size_t j = 1; j <= m; ++j) {
      const int substitution = d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, substitution});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[n][m];
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& known) {
  const std::string short_word = word.substr(0, 64);  // keeps the search bounded on hostile input
  int best = 1 + static_cast<int>(short_word.size()) / 3;
  const std::string* found = nullptr;
  for (const std::string& name : known) {
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
