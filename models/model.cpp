#include "models/model.hpp"

#include <algorithm>
#include <sstream>

#include "core/error.hpp"

namespace varion {

std::vector<std::string> words_of(const std::string& list) {
  std::vector<std::string> out;
  std::istringstream in(list);
  for (std::string word; std::getline(in, word, ',');) {
    const size_t first = word.find_first_not_of(' ');
    if (first != std::string::npos) out.push_back(word.substr(first, word.find_last_not_of(' ') + 1 - first));
  }
  return out;
}

bool begins(const std::string& name, const std::string& word) {
  return name.rfind(word, 0) == 0 && (name.size() == word.size() || name[word.size()] == '.');
}

void freeze(Layout& layout, const Model& model, const Config& config) {
  const std::vector<std::string> words = words_of(config.text("model.freeze"));
  if (!model.frozen && words.empty()) return;
  layout.freeze([frozen = model.frozen, config, words](const std::string& name) {
    return (frozen && frozen(name, config)) || std::any_of(words.begin(), words.end(), [&](const std::string& w) { return begins(name, w); });
  });
}

void require_trained(const Layout& layout, const Config& config) {
  const auto& frozen = layout.frozen();
  for (const std::string& word : words_of(config.text("model.freeze")))
    require(std::any_of(frozen.begin(), frozen.end(), [&](const Parameter& p) { return begins(p.name, word); }), Exit::config,
            "model.freeze: ", config.text("model.name"), " has no tensor '", word, "'");
  require(layout.size() > 0, Exit::config, "model.freeze leaves nothing of ", config.text("model.name"), " to train");
}

}  // namespace varion
