#include "io/commit_file.hpp"

#include <fcntl.h>
#include <openssl/evp.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "core/error.hpp"

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

constexpr int kPatience = 1000;  // calls that a signal may interrupt one after another

/// True when all bytes reached the kernel; errno tells otherwise.
bool write_all(int fd, const std::string& bytes) {
  size_t done = 0;
  int interrupted = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::write(fd, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR && ++interrupted < kPatience) continue;
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}
}  // namespace

void make_folder(const std::string& dir) {
  std::error_code e;
  std::filesystem::create_directories(dir, e);
  require(!e && std::filesystem::is_directory(dir), Exit::cant_create, "cannot create folder '", dir,
          "': ", e ? e.message() : "not a folder");
}

void commit_file(const std::string& dir, const std::string& name, const std::string& bytes) {
  const std::string path = dir + "/" + name;
  const std::string part = dir + "/." + name + "." + std::to_string(::getpid()) + ".tmp";
  const auto give_up = [&](Exit code, const char* verb, int error) {
    ::unlink(part.c_str());
    fail(code, "cannot ", verb, " '", path, "': ", std::strerror(error),
         "; the previous file, if any, is untouched");
  };
  ::unlink(part.c_str());  // left by a killed process that had our number
  Descriptor fd(::open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (fd.get() < 0) give_up(Exit::cant_create, "create", errno);
  if (!write_all(fd.get(), bytes)) give_up(Exit::io, "write", errno);
  if (::fsync(fd.get()) != 0) give_up(Exit::io, "sync", errno);
  if (!fd.close()) give_up(Exit::io, "close", errno);
  if (::rename(part.c_str(), path.c_str()) != 0) give_up(Exit::io, "rename to", errno);
  Descriptor folder(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  require(folder.get() >= 0 && ::fsync(folder.get()) == 0, Exit::io, "cannot sync folder '", dir,
          "': ", std::strerror(errno), "; '", name, "' may be lost if the machine loses power");
}

void append_file(const std::string& dir, const std::string& name, const std::string& bytes) {
  const std::string path = dir + "/" + name;
  Descriptor fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  require(fd.get() >= 0, Exit::cant_create, "cannot create '", path, "': ", std::strerror(errno));
  require(write_all(fd.get(), bytes) && fd.close(), Exit::io, "cannot write '", path, "': ", std::strerror(errno));
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

std::string read_file(const std::string& path, size_t limit) {
  struct stat info {};
  const auto refuse = [&] {
    const int error = errno;
    const bool absent = error == ENOENT || error == ENOTDIR || error == EACCES;
    fail(absent ? Exit::no_input : Exit::io, "cannot open '", path, "': ", std::strerror(error));
  };
  if (::stat(path.c_str(), &info) != 0) refuse();
  require(S_ISREG(info.st_mode), Exit::data, "'", path, "' is not a regular file");
  const auto size = static_cast<size_t>(info.st_size);
  require(size <= limit, Exit::data, "'", path, "' has ", size, " bytes, more than the limit of ", limit);
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) refuse();
  std::string bytes(size, '\0');
  size_t done = 0;
  int interrupted = 0;
  while (done < size) {
    const ssize_t n = ::read(fd.get(), bytes.data() + done, size - done);
    if (n < 0 && errno == EINTR && ++interrupted < kPatience) continue;
    require(n >= 0, Exit::io, "cannot read '", path, "' at byte ", done, ": ", std::strerror(errno));
    require(n > 0, Exit::data, "'", path, "' ended at byte ", done, " of ", size, " while being read");
    done += static_cast<size_t>(n);
  }
  return bytes;
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
