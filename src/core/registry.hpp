// Self-registration: one file per op, model, optimizer, schedule, data set; nothing else to edit.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/suggest.hpp"

namespace varion {

/// Everything registered of one kind. `Entry` has a static `kind()` such as "optimizer".
/// Registering files are linked as objects, never through a static library, which would drop them.
template <class Entry>
class Registry {
 public:
  static Registry& of() {
    static Registry instance;
    return instance;
  }

  /// Adds `entry`; a name used twice is a bug. Returns true so that a namespace-scope constant can
  /// hold the result.
  bool add(const std::string& name, Entry entry) {
    ensure(entries_.emplace(name, std::move(entry)).second, Entry::kind(), " '", name,
           "' is registered twice");
    return true;
  }

  bool has(const std::string& name) const { return entries_.count(name) != 0; }

  const Entry& find(const std::string& name) const {
    const auto it = entries_.find(name);
    require(it != entries_.end(), Exit::config, "unknown ", Entry::kind(), " '", name, "'",
            did_you_mean(name, names()), "; known: ", join(names()));
    return it->second;
  }

  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& [name, entry] : entries_) out.push_back(name);
    return out;
  }

  const std::map<std::string, Entry>& all() const { return entries_; }

 private:
  std::map<std::string, Entry> entries_;
};

}  // namespace varion
