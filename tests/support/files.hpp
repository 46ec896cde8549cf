// Files that a test makes up.
#pragma once

#include <filesystem>
#include <string>

#include "io/commit_file.hpp"

namespace varion {

/// Writes `bytes` to dir/name, where `name` may name folders, and returns the path.
inline std::string put(const std::string& dir, const std::string& name, const std::string& bytes) {
  const std::filesystem::path path = dir + "/" + name;
  io::make_folder(path.parent_path().string());
  io::commit_file(path.parent_path().string(), path.filename().string(), bytes);
  return path.string();
}

}  // namespace varion
