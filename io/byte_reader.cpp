#include "io/byte_reader.hpp"

#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/error.hpp"
#include "io/input_file.hpp"

namespace varion::io {

ByteReader::ByteReader(const std::string& path) : path_(path), file_(nullptr) {
  const int fd = open_input(path);
  file_ = gzdopen(fd, "rb");  // takes plain files as they are
  if (file_ == nullptr) {
    ::close(fd);
    fail(Exit::io, "cannot open '", path, "': no memory for its buffers");
  }
  struct stat s {};
  const off_t size = ::fstat(fd, &s) == 0 ? s.st_size : 0;
  gzbuffer(static_cast<gzFile>(file_), static_cast<unsigned>(std::clamp<off_t>(size, 1 << 10, 1 << 17)));
}

ByteReader::~ByteReader() { gzclose(static_cast<gzFile>(file_)); }

void ByteReader::refuse(const std::string& reason) const {
  fail(Exit::data, path_, ": at byte ", offset_, ": ", reason);
}

void ByteReader::check() const {
  int error = Z_OK;
  const char* reason = gzerror(static_cast<gzFile>(file_), &error);
  require(error != Z_ERRNO, Exit::io, "cannot read '", path_, "' at byte ", offset_, ": ", std::strerror(errno));
  if (error != Z_OK && error != Z_STREAM_END) refuse(text("damaged gzip data: ", reason));
}

void ByteReader::append(std::uint64_t count, const char* what, std::vector<std::uint8_t>& out) {
  constexpr std::uint64_t kFirst = 1u << 13, kLargest = 1u << 20;  // as much again as has arrived
  for (std::uint64_t done = 0; done < count;) {
    const auto want = static_cast<unsigned>(std::min(std::clamp(done, kFirst, kLargest), count - done));
    const size_t old = out.size();
    out.resize(old + want);
    const int got = gzread(static_cast<gzFile>(file_), out.data() + old, want);
    if (got > 0) {
      done += static_cast<std::uint64_t>(got);
      offset_ += static_cast<std::uint64_t>(got);
    }
    check();
    if (got < 0) refuse("damaged gzip data");
    if (static_cast<unsigned>(got) < want)
      refuse(text("the file ends inside ", what, ": ", done, " of ", count, " bytes"));
  }
}

int ByteReader::byte() {
  const int c = gzgetc(static_cast<gzFile>(file_));
  if (c >= 0) {
    ++offset_;
    return c;
  }
  check();
  return -1;
}

std::uint32_t ByteReader::big_endian(const char* what) {
  std::vector<std::uint8_t> b;
  append(4, what, b);
  return std::uint32_t(b[0]) << 24 | std::uint32_t(b[1]) << 16 | std::uint32_t(b[2]) << 8 | std::uint32_t(b[3]);
}

void ByteReader::expect_end() {
  if (byte() >= 0) {
    --offset_;
    refuse("data behind the end that the header states");
  }
}

}  // namespace varion::io
