// Regular files to be read, with messages that name the file.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace varion::io {

inline constexpr int kPatience = 1000;                   // calls on a file that a signal may interrupt one after another
inline constexpr size_t kMostAtOnce = size_t(1) << 30;  // bytes a call: Linux takes just under 2^31

/// Bytes of files read and written so far, by all threads: whether something that takes long gets on.
inline std::atomic<std::uint64_t> bytes_moved{0};

/// Opens a regular file for reading. The caller closes it. Errors: 66 not there, 65 no regular file, 74 the system cannot.
int open_input(const std::string& path);

/// A regular file to read from anywhere, by any thread. Errors: 66 not there, 65 larger than `limit`, no regular file, or
/// shorter than it was; 74 reading failed.
class InputFile {
 public:
  explicit InputFile(const std::string& path, std::uint64_t limit);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  std::uint64_t size() const { return size_; }
  void read(std::uint64_t address, char* to, size_t bytes) const;

 private:
  std::string path_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
};

/// The whole file. Errors: 66 not there, 65 larger than `limit`, 74 reading failed.
inline std::string read_file(const std::string& path, size_t limit) {
  const InputFile file(path, limit);
  std::string bytes(static_cast<size_t>(file.size()), '\0');
  file.read(0, bytes.data(), bytes.size());
  return bytes;
}

}  // namespace varion::io
