// A resolved configuration from key-value pairs.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/options.hpp"

namespace varion {

inline Config config_of(const std::vector<std::pair<std::string, std::string>>& settings) {
  Config c;
  for (const auto& [key, value] : settings) c.set(key, value, "test");
  c.resolve();
  return c;
}

}  // namespace varion
