// A resolved configuration from key-value pairs.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>

#include "core/options.hpp"

namespace varion {

inline Config config_of(std::initializer_list<std::pair<const char*, std::string>> settings) {
  Config c;
  for (const auto& [key, value] : settings) c.set(key, value, "test");
  c.resolve();
  return c;
}

}  // namespace varion
