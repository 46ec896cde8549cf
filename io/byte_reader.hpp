// A data file read front to back, plain or gzip, with messages that name file, offset and reason.
// Nothing a header claims is believed: memory grows with the bytes that arrive.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace varion::io {

class ByteReader {
 public:
  /// Errors: 66 no such file or not readable, 65 a folder, 74 the system cannot open it.
  explicit ByteReader(const std::string& path);
  ~ByteReader();
  ByteReader(const ByteReader&) = delete;
  ByteReader& operator=(const ByteReader&) = delete;

  /// The next `count` bytes behind `out`. Errors: 65 the file ends first, or its gzip data is damaged; 74 reading failed.
  void append(std::uint64_t count, const char* what, std::vector<std::uint8_t>& out);
  /// The next byte, or -1 at the end.
  int byte();
  /// A 32-bit big-endian number.
  std::uint32_t big_endian(const char* what);
  /// Errors (65): something follows.
  void expect_end();
  /// Bytes read so far, of the unpacked data.
  std::uint64_t offset() const { return offset_; }
  /// Fails with exit code 65 and "FILE: at byte N: ...".
  [[noreturn]] void refuse(const std::string& reason) const;

 private:
  /// Fails where the last read has (65, 74).
  void check() const;
  std::string path_;
  void* file_;  // gzFile
  std::uint64_t offset_ = 0;
};

}  // namespace varion::io
