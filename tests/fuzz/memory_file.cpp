// In place of io/input_file.cpp and of zlib's gz functions: the same, but of bytes in memory. Writing an input to a file and reading it back
// took most of the time of a small one.
#include "memory_file.hpp"

#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "core/error.hpp"
#include "io/input_file.hpp"

namespace {
const std::uint8_t* bytes_there = nullptr;
size_t size_there = 0;

/// What zlib's gzFile points to begins with what its macro `gzgetc` looks at: nothing is ever ready there.
struct Stream {
  gzFile_s none{};
  size_t at = 0;  // of a plain file
  bool packed = false, ended = false;
  z_stream z{};
  int error = Z_OK;
  const char* reason = "";
};

Stream& stream_of(gzFile f) { return *reinterpret_cast<Stream*>(f); }

int fails(Stream& s, int error, const char* reason, int result) {
  s.error = error;
  s.reason = reason;
  return result;
}
}  // namespace

void become_file(const std::uint8_t* data, size_t size) {
  bytes_there = data;
  size_there = size;
}

// --- io/input_file.hpp -----------------------------------------------------------------------------

namespace varion::io {

int open_input(const std::string&) { return 0; }

InputFile::InputFile(const std::string& path, std::uint64_t limit) : path_(path), size_(size_there) {
  require(size_ <= limit, Exit::data, "'", path, "' has ", size_, " bytes, more than the limit of ", limit);
}

InputFile::~InputFile() = default;

void InputFile::read(std::uint64_t address, char* to, size_t bytes) const {
  require(address <= size_ && bytes <= size_ - address, Exit::data, "'", path_, "' ended at byte ", size_, " while being read");
  if (bytes > 0) std::memcpy(to, bytes_there + address, bytes);
}

}  // namespace varion::io

// --- zlib ------------------------------------------------------------------------------------------

extern "C" {

gzFile gzdopen(int, const char*) {
  auto* s = new Stream;
  s->packed = size_there >= 2 && bytes_there[0] == 0x1f && bytes_there[1] == 0x8b;
  if (s->packed) {
    inflateInit2(&s->z, 15 + 16);
    s->z.next_in = const_cast<Bytef*>(bytes_there);
    s->z.avail_in = static_cast<uInt>(size_there);
  }
  return &s->none;
}

int gzbuffer(gzFile, unsigned) { return 0; }

int gzclose(gzFile f) {
  Stream* const s = &stream_of(f);
  if (s->packed) inflateEnd(&s->z);
  delete s;
  return Z_OK;
}

int gzread(gzFile f, voidp to, unsigned count) {
  Stream& s = stream_of(f);
  if (!s.packed) {
    const size_t n = std::min<size_t>(count, size_there - s.at);
    if (n > 0) std::memcpy(to, bytes_there + s.at, n);
    s.at += n;
    return static_cast<int>(n);
  }
  if (s.error == Z_DATA_ERROR) return -1;
  s.z.next_out = static_cast<Bytef*>(to);
  s.z.avail_out = count;
  while (s.z.avail_out > 0 && !s.ended) {
    const int code = inflate(&s.z, Z_NO_FLUSH);
    if (code == Z_STREAM_END) {  // another packed file may follow; whatever else does is not looked at
      s.ended = s.z.avail_in < 2 || s.z.next_in[0] != 0x1f || s.z.next_in[1] != 0x8b;
      if (!s.ended) inflateReset(&s.z);
    } else if (code == Z_BUF_ERROR) {
      s.ended = true;
      fails(s, Z_BUF_ERROR, "unexpected end of file", 0);
    } else if (code != Z_OK) {
      return fails(s, Z_DATA_ERROR, s.z.msg == nullptr ? "damaged" : s.z.msg, -1);
    }
  }
  return static_cast<int>(count - s.z.avail_out);
}

int(gzgetc)(gzFile f) {
  unsigned char c = 0;
  return gzread(f, &c, 1) == 1 ? c : -1;
}

const char* gzerror(gzFile f, int* error) {
  *error = stream_of(f).error;
  return stream_of(f).reason;
}

}  // extern "C"
