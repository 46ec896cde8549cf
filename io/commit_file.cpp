#include "io/commit_file.hpp"

#include <fcntl.h>
#include <openssl/evp.h>
#include <signal.h>
#include <sys/stat.h>
#ifdef __linux__
#include <linux/magic.h>
#include <sys/vfs.h>
#endif
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "core/error.hpp"
#include "io/input_file.hpp"

namespace varion::io {

namespace {
/// Closes on every way out; `close` reports the error that a destructor could not.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  bool close() {
    const int fd = fd_;
    fd_ = -1;
    return ::close(fd) == 0;
  }

 private:
  int fd_;
};

constexpr std::uint64_t kReserved = std::uint64_t(64) << 20;  // from this size on, space is taken before

/// True when all bytes reached the kernel; errno tells otherwise.
template <class Call>
bool write_all(const char* data, size_t bytes, const Call& call) {
  size_t done = 0;
  int interrupted = 0;
  while (done < bytes) {
    const ssize_t n = call(data + done, std::min(bytes - done, kMostAtOnce), done);
    if (n < 0 && errno == EINTR && ++interrupted < kPatience) continue;
    if (n == 0) errno = EIO;
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
    bytes_moved += static_cast<std::uint64_t>(n);
  }
  return true;
}

bool write_at(int fd, std::uint64_t address, const char* data, size_t bytes) {
  return write_all(data, bytes, [&](const char* from, size_t n, size_t done) {
    return ::pwrite(fd, from, n, static_cast<off_t>(address + done));
  });
}

/// Takes the space of a large file; false where there is not enough. File systems that cannot do that find out later.
bool reserve(int fd, std::uint64_t bytes) {
#ifdef __linux__
  if (bytes < kReserved) return true;
  // In memory (tmpfs) to take pages first costs a tenth of the write, and there is no fragmentation to be saved.
  struct statfs s {};
  if (::fstatfs(fd, &s) == 0 && s.f_type == TMPFS_MAGIC)
    return s.f_blocks == 0 || static_cast<std::uint64_t>(s.f_bavail) * static_cast<std::uint64_t>(s.f_bsize) >= bytes;
  int interrupted = 0, failed = 0;
  while ((failed = ::fallocate(fd, 0, 0, static_cast<off_t>(bytes))) != 0 && errno == EINTR && ++interrupted < kPatience) {
  }
  return failed == 0 || (errno != ENOSPC && errno != EDQUOT && errno != EFBIG);
#else
  return fd >= 0 || bytes == 0;
#endif
}

void sync_folder(const std::string& dir, const std::string& name) {
  Descriptor folder(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  require(folder.get() >= 0 && ::fsync(folder.get()) == 0, Exit::io, "cannot sync folder '", dir,
          "': ", std::strerror(errno), "; '", name, "' may be lost if the machine loses power");
}
}  // namespace

void make_folder(const std::string& dir) {
  std::error_code e;
  std::filesystem::create_directories(dir, e);
  require(!e && std::filesystem::is_directory(dir), Exit::cant_create, "cannot create folder '", dir,
          "': ", e ? e.message() : "not a folder");
}

PendingFile::PendingFile(const std::string& dir, const std::string& name, std::uint64_t bytes)
    : dir_(dir), name_(name), part_(dir + "/." + name + "." + std::to_string(::getpid()) + ".tmp") {
  ::unlink(part_.c_str());  // left by a killed process that had our number
  fd_ = ::open(part_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd_ < 0) give_up(Exit::cant_create, "create", errno);
  pending_ = true;
  if (!reserve(fd_, bytes)) {
    const int error = errno;
    ::close(std::exchange(fd_, -1));  // no destructor runs
    give_up(Exit::io, text("take ", bytes, " bytes for").c_str(), error);
  }
}

PendingFile::~PendingFile() {
  if (fd_ >= 0) ::close(fd_);
  if (pending_) ::unlink(part_.c_str());
}

void PendingFile::give_up(Exit code, const char* verb, int error) {
  pending_ = false;
  ::unlink(part_.c_str());
  fail(code, "cannot ", verb, " '", dir_, "/", name_, "': ", std::strerror(error), "; the previous file, if any, is untouched");
}

void PendingFile::write(std::uint64_t address, const char* data, size_t bytes) {
  if (!write_at(fd_, address, data, bytes)) give_up(Exit::io, "write", errno);
}

void PendingFile::commit() {
  if (::fsync(fd_) != 0) give_up(Exit::io, "sync", errno);
  if (::close(std::exchange(fd_, -1)) != 0) give_up(Exit::io, "close", errno);
  if (::rename(part_.c_str(), (dir_ + "/" + name_).c_str()) != 0) give_up(Exit::io, "rename to", errno);
  pending_ = false;
  sync_folder(dir_, name_);
}

void commit_file(const std::string& dir, const std::string& name, const std::string& bytes) {
  PendingFile file(dir, name, bytes.size());
  file.write(0, bytes.data(), bytes.size());
  file.commit();
}

PartFile::PartFile(const std::string& part) : part_(part), fd_(::open(part.c_str(), O_WRONLY | O_CLOEXEC)) {
  require(fd_ >= 0, Exit::cant_create, "cannot open '", part_, "': ", std::strerror(errno));
}

PartFile::~PartFile() {
  if (fd_ >= 0) ::close(fd_);
}

void PartFile::write(std::uint64_t address, const char* data, size_t bytes) {
  require(write_at(fd_, address, data, bytes), Exit::io, "cannot write '", part_, "': ", std::strerror(errno));
}

void PartFile::finish() {
  require(::fsync(fd_) == 0, Exit::io, "cannot sync '", part_, "': ", std::strerror(errno));
  require(::close(std::exchange(fd_, -1)) == 0, Exit::io, "cannot close '", part_, "': ", std::strerror(errno));
}

void append_file(const std::string& dir, const std::string& name, const std::string& bytes) {
  const std::string path = dir + "/" + name;
  Descriptor fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  require(fd.get() >= 0, Exit::cant_create, "cannot create '", path, "': ", std::strerror(errno));
  const auto append = [&](const char* from, size_t n, size_t) { return ::write(fd.get(), from, n); };
  require(write_all(bytes.data(), bytes.size(), append) && fd.close(), Exit::io, "cannot write '", path,
          "': ", std::strerror(errno));
}

void sync_file(const std::string& path) {
  Descriptor fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  require(fd.get() >= 0 && ::fsync(fd.get()) == 0 && fd.close(), Exit::io, "cannot sync '", path,
          "': ", std::strerror(errno));
}

void remove_file(const std::string& path) {
  require(::unlink(path.c_str()) == 0 || errno == ENOENT, Exit::io, "cannot remove '", path,
          "': ", std::strerror(errno));
}

void remove_leftovers(const std::string& dir, bool alone) {
  for (const std::string& name : list_files(dir)) {
    if (name.size() < 6 || name[0] != '.' || name.substr(name.size() - 4) != ".tmp") continue;
    const std::string stem = name.substr(0, name.size() - 4);
    const long pid = std::strtol(stem.c_str() + stem.rfind('.') + 1, nullptr, 10);
    if (alone) remove_file(dir + "/" + name);
    else if (pid > 0 && ::kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH) remove_file(dir + "/" + name);
  }
}

std::string sha256(const char* bytes, size_t count) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  ensure(EVP_Digest(bytes, count, digest, &length, EVP_sha256(), nullptr) == 1, "SHA-256 failed");
  std::string out;
  for (unsigned int i = 0; i < length; ++i) {
    out += "0123456789abcdef"[digest[i] >> 4];
    out += "0123456789abcdef"[digest[i] & 15];
  }
  return out;
}

std::vector<std::string> list_files(const std::string& dir, bool must_exist) {
  // A folder that cannot be listed is not an empty one: a run would start afresh over its own checkpoints.
  const auto check = [&](const std::error_code& e) {
    require(!e, Exit::io, "cannot list folder '", dir, "': ", e.message());
  };
  std::vector<std::string> out;
  std::error_code e;
  std::filesystem::directory_iterator at(dir, e);
  if (e == std::errc::no_such_file_or_directory && !must_exist) return out;
  check(e);
  for (; at != std::filesystem::directory_iterator(); at.increment(e), check(e)) {
    std::error_code gone;  // removed meanwhile
    if (at->is_regular_file(gone)) out.push_back(at->path().filename().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace varion::io
