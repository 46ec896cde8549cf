// A run's directory: records, log, status. A record is appended as it arrives; what a killed process left
// half-written is cut back to what the checkpoint knows when the run continues.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/options.hpp"
#include "io/folder_lock.hpp"
#include "posterior/metrics.hpp"

namespace varion {

/// How far a run's records had come when its checkpoint was written.
struct RecordMark {
  size_t bytes = 0;    // of metrics.jsonl
  std::string sha256;  // of those bytes
};

class RunFolder {
 public:
  /// Creates the folder where needed and locks it. Errors: 73, also where another run writes there. Where it does not write (on ranks after the first), it does nothing.
  RunFolder(std::string dir, bool quiet, bool writes = true);

  /// Empty, or why the folder could not be locked.
  std::string lock_note() const { return lock_ ? lock_->note() : ""; }
  const std::string& dir() const { return dir_; }
  std::string checkpoints() const { return dir_ + "/checkpoints"; }

  /// Starts new records (an old run's are dropped).
  void start();
  /// Continues behind `mark`; says so in the log when the records there are not the checkpoint's.
  void resume(const RecordMark& mark, std::uint64_t step);
  RecordMark mark() const;

  /// One line for people: console (unless quiet) and log.txt.
  void say(const std::string& line);
  /// One line of metrics.jsonl.
  void record(const nlohmann::json& row);
  /// Waits until the records are on the disk. Errors: 74.
  void sync() const;
  /// The lines of metrics.jsonl so far.
  const std::string& records() const { return records_; }
  /// metrics.csv from such lines: one column a key, in order of appearance. May run beside everything else.
  void write_csv(const std::string& records) const;
  void status(const std::string& state, std::uint64_t step, Exit code, const Metrics& metrics) const;
  /// A column of the records, for rows that have all of `keys`.
  std::vector<double> column(const std::string& key, const std::vector<std::string>& keys) const;

 private:
  std::string dir_, records_;
  std::vector<nlohmann::json> rows_;
  bool quiet_, writes_;
  std::unique_ptr<io::FolderLock> lock_;  // one writer
};

/// The directory with {name} replaced. Errors (78): a name outside [A-Za-z0-9._-].
std::string run_directory(const Config& config);

}  // namespace varion
