#include "io/posterior_image.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "core/error.hpp"
#include "core/huge_pages.hpp"
#include "io/input_file.hpp"
#include "io/parallel.hpp"
#include "io/segments.hpp"

namespace varion::io {

namespace {
constexpr std::uint64_t kLimit = std::uint64_t(1) << 40;
}

VerifiedImage::VerifiedImage(const std::string& bytes, const std::string& name) {
  const std::string last = bytes.substr(bytes.size() - std::min(bytes.size(), kTrailer));
  const Trailer trailer = read_trailer(last, bytes.size(), name);
  const auto segments = read_segments(trailer, bytes.substr(trailer.payload), name);
  for (const Segment& s : segments) verify_segment(s, bytes.data() + s.address, name);
  data_ = bytes.data();
  size_ = trailer.payload;
}

VerifiedImage::VerifiedImage(const std::string& path) {
  const InputFile file(path, kLimit);
  std::string end(std::min<std::uint64_t>(file.size(), kTrailer), '\0');
  file.read(file.size() - end.size(), end.data(), end.size());
  const Trailer trailer = read_trailer(end, file.size(), path);
  end.assign(static_cast<size_t>(file.size() - trailer.payload), '\0');
  file.read(trailer.payload, end.data(), end.size());
  const auto segments = read_segments(trailer, end, path);
  void* const memory = ::mmap(nullptr, trailer.payload, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(memory != MAP_FAILED, Exit::io, "no memory for the ", trailer.payload, " bytes of '", path, "'");
  wish_huge_pages(memory, trailer.payload);
  own_ = static_cast<char*>(memory);
  size_ = trailer.payload;
  data_ = own_;
  try {
    for_parts(segments.size(), [&](size_t i) {
      file.read(segments[i].address, own_ + segments[i].address, segments[i].bytes);
      verify_segment(segments[i], own_ + segments[i].address, path);
    });
  } catch (...) {  // no destructor runs
    ::munmap(own_, size_);
    throw;
  }
}

VerifiedImage::~VerifiedImage() {
  if (own_ != nullptr) ::munmap(own_, size_);
}

void VerifiedImage::release(std::uint64_t address, std::uint64_t bytes) {
  static const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  if (own_ == nullptr || address > size_ || bytes > size_ - address) return;
  const std::uint64_t begin = (address + page - 1) / page * page, end = (address + bytes) / page * page;
  if (end > begin) ::madvise(own_ + begin, end - begin, MADV_DONTNEED);
}

}  // namespace varion::io
