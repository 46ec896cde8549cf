// Text from a file, or from a folder's *.txt joined in the order of their names, front to back.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace varion::io {

class TextFiles {
 public:
  /// Errors: 66 not there, or no .txt in the folder; 65 no regular file; 74.
  explicit TextFiles(const std::string& path);
  std::uint64_t size() const;  // bytes
  /// Appends at most `most` further bytes; false at the end. Errors: 65 a file has changed; 66, 74.
  bool next(size_t most, std::string& to);
  /// From the beginning again.
  void rewind() { file_ = at_ = 0; }
  /// Whether the next byte, if there is one, is a file's first.
  bool at_border() const { return at_ == 0 || file_ == bytes_.size() || at_ == bytes_[file_]; }
  const std::vector<std::string>& paths() const { return paths_; }
  /// Bytes of each.
  const std::vector<std::uint64_t>& sizes() const { return bytes_; }
  /// "FILE: byte N", for messages; `byte` of the joined text.
  std::string place(std::uint64_t byte) const;

 private:
  std::vector<std::string> paths_;
  std::vector<std::uint64_t> bytes_;
  size_t file_ = 0;
  std::uint64_t at_ = 0;  // in the file
};

}  // namespace varion::io
