#include "io/folder_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "core/error.hpp"
#include "io/commit_file.hpp"
#include "io/input_file.hpp"

namespace varion::io {

FolderLock::FolderLock(const std::string& dir) {
  const std::string path = dir + "/.lock";
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  require(fd_ >= 0, Exit::cant_create, "cannot create '", path, "': ", std::strerror(errno));
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    ::usleep(200000);  // who has just taken it is still writing its name
    char holder[512] = "";
    const ssize_t n = ::pread(fd_, holder, sizeof holder - 1, 0);
    ::close(fd_);
    fd_ = -1;
    std::string who(holder, n > 0 ? static_cast<size_t>(n) : 0);
    while (!who.empty() && who.back() == '\n') who.pop_back();
    require(error != EWOULDBLOCK, Exit::cant_create, "'", dir, "' is in use by another run (", who.empty() ? "unknown" : who,
            "): wait for it, stop it, or take another run.name");
    note_ = text("'", dir, "' cannot be locked (", std::strerror(error), "): make sure that only one run writes there");
    return;
  }
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  const char* job = std::getenv("SLURM_JOB_ID");
  const std::string who = text("host ", host, ", process ", ::getpid(), job != nullptr ? text(", job ", job) : "", "\n");
  if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, who.data(), who.size(), 0) < 0) note_ = "the holder of .lock could not be noted";
}

// The file stays: removing it would let two others lock two files of one name.
FolderLock::~FolderLock() {
  if (fd_ >= 0) ::close(fd_);
}

void probe_folder(const std::string& dir) {
  const std::string name = ".probe", bytes = "can this folder keep a file?\n";
  commit_file(dir, name, bytes);
  require(read_file(dir + "/" + name, 1000) == bytes, Exit::io, "'", dir, "' gives back other bytes than were written");
  remove_file(dir + "/" + name);
}

size_t free_space(const std::string& dir) {
  struct statvfs info {};
  if (::statvfs(dir.c_str(), &info) != 0) return ~size_t(0);
  return static_cast<size_t>(info.f_bavail) * static_cast<size_t>(info.f_frsize);
}

}  // namespace varion::io
