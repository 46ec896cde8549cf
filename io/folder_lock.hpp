// One writer a folder.
#pragma once

#include <string>

namespace varion::io {

/// Holds a folder for as long as it lives: a lock of the operating system on `.lock` in it, which goes when the process
/// does, however it ends. The file says who holds it. Errors: 73 another process holds the folder (its host, process
/// and job are named) or the file cannot be made. Where the file system has no locks, `note` says so and nothing is held.
class FolderLock {
 public:
  explicit FolderLock(const std::string& dir);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  const std::string& note() const { return note_; }

 private:
  int fd_ = -1;
  std::string note_;
};

/// Writes, syncs, renames, reads back and removes a small file: what saving will need. Errors: 73, 74.
void probe_folder(const std::string& dir);

/// Bytes that a process may still write below `dir`; the largest number where that is not known.
size_t free_space(const std::string& dir);

}  // namespace varion::io
