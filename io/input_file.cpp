#include "io/input_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/error.hpp"

namespace varion::io {

int open_input(const std::string& path) {
  struct stat info {};
  const auto refuse = [&] {
    const int error = errno;
    const bool absent = error == ENOENT || error == ENOTDIR || error == EACCES;
    fail(absent ? Exit::no_input : Exit::io, "cannot open '", path, "': ", std::strerror(error));
  };
  if (::stat(path.c_str(), &info) != 0) refuse();  // a pipe would be waited for
  require(S_ISREG(info.st_mode), Exit::data, "'", path, "' is not a regular file");
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) refuse();
  return fd;
}

InputFile::InputFile(const std::string& path, std::uint64_t limit) : path_(path), fd_(open_input(path)) {
  struct stat info {};
  const bool known = ::fstat(fd_, &info) == 0;
  size_ = static_cast<std::uint64_t>(info.st_size);
  if (known && size_ <= limit) return;
  const int error = errno;
  ::close(fd_);  // no destructor runs
  require(known, Exit::io, "cannot open '", path, "': ", std::strerror(error));
  fail(Exit::data, "'", path, "' has ", size_, " bytes, more than the limit of ", limit);
}

InputFile::~InputFile() { ::close(fd_); }

void InputFile::read(std::uint64_t address, char* to, size_t bytes) const {
  size_t done = 0;
  int interrupted = 0;
  while (done < bytes) {
    const ssize_t n = ::pread(fd_, to + done, std::min(bytes - done, kMostAtOnce), static_cast<off_t>(address + done));
    if (n < 0 && errno == EINTR && ++interrupted < kPatience) continue;
    require(n >= 0, Exit::io, "cannot read '", path_, "' at byte ", address + done, ": ", std::strerror(errno));
    require(n > 0, Exit::data, "'", path_, "' ended at byte ", address + done, " of ", size_, " while being read");
    done += static_cast<size_t>(n);
    bytes_moved += static_cast<std::uint64_t>(n);
  }
}

}  // namespace varion::io
