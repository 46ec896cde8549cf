// Files of 16-bit tokens, little-endian: nanoGPT's (tokens alone) and llm.c's (before them 256 int32: 20240520, version 1, count).
// One file, a folder's *.bin, or those that fit a pattern such as data/train_*.bin, in the order of their names, are one row.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/commit_file.hpp"
#include "io/input_file.hpp"

namespace varion::io {

/// Reads from anywhere by pread, so that the row may be larger than memory and a file that shrinks is an error.
class TokenFiles {
 public:
  /// Errors: 66 not there, or no file fits; 65 no file of tokens (empty, an odd number of bytes, a header that does not fit the size,
  /// another format of llm.c); 74 reading failed.
  explicit TokenFiles(const std::string& path);
  std::int64_t size() const { return files_.back().first + files_.back().count; }
  /// Tokens [first, first + count), which must be there. Errors: 65 a file has changed since; 66, 74.
  void read(std::int64_t first, std::int64_t count, std::uint16_t* to) const;
  /// Of names' order, sizes, the first and last MiB of every file and eight blocks of 64 KiB between. Errors as above.
  std::uint64_t digest() const;
  /// "FILE: token N", for messages.
  std::string place(std::int64_t token) const;
  size_t count_files() const { return files_.size(); }

 private:
  struct File {
    std::string path;
    std::uint64_t bytes;        // of the whole file
    std::uint64_t header;       // bytes before the tokens
    std::int64_t first, count;  // tokens before it in the row, and in it
  };
  void add(const std::string& path);
  const InputFile& open(size_t file) const;
  size_t file_of(std::int64_t token) const;
  std::vector<File> files_;
  mutable std::vector<std::unique_ptr<InputFile>> open_;  // few at a time: a job may open but so many
  mutable int open_count_ = 0;
};

enum class TokenFormat { nanogpt, llmc };

/// Writes one row of tokens: to `path`, or, where `shard` > 0, to files of so many tokens, path_000000.bin and on (`path` less its
/// .bin). A file is there whole or not at all; what was written is taken away again unless all is finished.
class TokenWriter {
 public:
  /// Errors: 73 files are there and may not be replaced (`force`), or cannot be created.
  TokenWriter(const std::string& path, TokenFormat format, std::int64_t shard, bool force);
  ~TokenWriter();
  TokenWriter(const TokenWriter&) = delete;
  TokenWriter& operator=(const TokenWriter&) = delete;
  /// Errors: 65 a token does not fit 16 bits; 73, 74.
  void write(const std::int32_t* tokens, size_t count);
  /// The last file, and away with older ones behind it. Errors: 65 no tokens; 74.
  void finish();
  std::int64_t written() const { return written_; }
  size_t count_files() const { return done_.size(); }

 private:
  void flush();
  void close();
  std::string dir_, stem_;
  TokenFormat format_;
  std::int64_t shard_, written_ = 0, in_file_ = 0;
  std::unique_ptr<PendingFile> file_;
  std::vector<std::string> done_;
  std::vector<std::uint16_t> buffer_;
  std::uint64_t address_ = 0;
  bool finished_ = false;
};

}  // namespace varion::io
