// The only way a result reaches the disk: whole, or not at all.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.hpp"

namespace varion::io {

/// Writes `bytes` to dir/name: temporary file in the same folder, write, fsync, close, rename, fsync of
/// the folder. On an error the old file stands and the temporary one is gone. Errors: 73 the file
/// cannot be created, 74 anything later; the message names the path and the system's reason.
void commit_file(const std::string& dir, const std::string& name, const std::string& bytes);

/// The same in steps, for files too large to be put together first, and for several writers. What is not committed leaves
/// nothing behind. Errors as above.
class PendingFile {
 public:
  /// Opens the temporary file. Where `bytes`, the whole length, is large, its space is taken at once, so that a full disk shows
  /// before any work.
  PendingFile(const std::string& dir, const std::string& name, std::uint64_t bytes);
  ~PendingFile();
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;
  void write(std::uint64_t address, const char* data, size_t bytes);
  /// fsync, close, rename, fsync of the folder.
  void commit();
  /// Its temporary name, for PartFile.
  const std::string& part() const { return part_; }

 private:
  [[noreturn]] void give_up(Exit code, const char* verb, int error);
  std::string dir_, name_, part_;
  int fd_ = -1;
  bool pending_ = false;
};

/// A PendingFile of another process, which waits: a share of its bytes. Errors: 73, 74.
class PartFile {
 public:
  explicit PartFile(const std::string& part);
  ~PartFile();
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;
  void write(std::uint64_t address, const char* data, size_t bytes);
  /// fsync and close.
  void finish();

 private:
  std::string part_;
  int fd_ = -1;
};

/// Adds `bytes` at the end of dir/name, for records that a reader follows while they grow; a crash may leave a
/// torn last line, which resuming cuts off. Errors: 73, 74.
void append_file(const std::string& dir, const std::string& name, const std::string& bytes);

/// Waits until what was appended is on the disk. Errors: 74.
void sync_file(const std::string& path);

/// Removes a file if it is there. Errors: 74.
void remove_file(const std::string& path);

/// Removes temporary files of commit_file that a kill -9 left: all where nobody else writes here (`alone`), else those whose
/// process is gone from this machine.
void remove_leftovers(const std::string& dir, bool alone);

/// Creates the folder and its parents. Errors: 73.
void make_folder(const std::string& dir);

/// SHA-256 of the bytes, 64 hexadecimal digits.
std::string sha256(const char* bytes, size_t count);

/// Names of the regular files in a folder, sorted; empty when there is no folder, unless it must exist. Errors: 74 it cannot
/// be listed.
std::vector<std::string> list_files(const std::string& dir, bool must_exist = false);

}  // namespace varion::io
