// Writes posterior files while training goes on, by one rank or by all.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/comm.hpp"
#include "io/posterior_shares.hpp"
#include "optim/optimizer.hpp"
#include "train/saver.hpp"
#include "train/snapshot.hpp"

namespace varion {

/// A file to be written.
struct FileOrder {
  std::string dir, name;
  io::PosteriorFile file;  // without what is found out on the way: the state's hash, `layers`, the numbers
  std::uint64_t step = 0, samples = 0, skipped = 0;
  bool only_finite = true;               // else a state with numbers that are none is no error, but not written either: nobody could read it
  std::function<void()> before, after;  // on the first rank's saving thread: before anything is written, and when the file has its name
};

/// One file at a time, in stages. MPI is called by the thread that trains alone, at places that all ranks pass alike; the work in
/// between is done by a thread of each rank.
///   copying  all ranks read the state, up to its next change, and agree on its hash
///   looking  all: are their numbers finite, their part of the layers' samples   } where all ranks write
///   opening  the first: plan and temporary file                                }
///   sharing  all: their segments, to the disk                                  }
///   naming   the first: what is left of the file, and its name
class CheckpointWriter {
 public:
  /// `parallel`: all ranks write, else the first one.
  CheckpointWriter(const Optimizer& optimizer, const Exec& exec, const Comm& comm, bool parallel)
      : optimizer_(optimizer), exec_(exec), comm_(comm), parallel_(parallel && comm.size() > 1) {}

  /// Takes the memory for copies, beside the first steps. Not collective.
  void prepare();
  /// Begins with the state as it stands. Waits for the file before. Collective.
  void begin(FileOrder order);
  /// Waits until the state may be changed. To be called before every change. Collective. Errors (70): ranks have different states.
  void release();
  /// Whether the others should wait with `advance`.
  bool is_busy() const { return stage_ > Stage::copying && !saver_.ended(); }
  /// To be called where no rank is busy: goes on to the next stage. Collective.
  void advance();
  /// Throws what has failed on this rank's thread. Not collective.
  void check() {
    if (saver_.failed()) saver_.wait();
  }
  /// Waits until the file is there. Collective.
  void finish();
  std::function<void()> progressed = [] {};  // called while it waits, when bytes have been moved on any rank

 private:
  enum class Stage { idle, copying, looking, opening, sharing, naming };
  bool joins() const { return optimizer_.own_size() < optimizer_.size() && !parallel_; }
  void wait_together();
  Stretch copied() const;
  void write_alone();
  void look();
  void open();
  void share();
  const Optimizer& optimizer_;
  const Exec exec_;
  Comm comm_;
  const bool parallel_;
  Stage stage_ = Stage::idle;
  FileOrder order_;
  Snapshot snapshot_;
  std::vector<std::vector<float>> joined_;  // on the first rank, which writes what others keep
  std::vector<io::Stretch> vectors_;        // what this rank writes of
  std::string bad_;                         // the first entry of it that is not finite
  std::vector<std::vector<float>> samples_;  // for `layers`, of mean and hess
  io::FilePlan plan_;
  std::unique_ptr<io::PendingFile> pending_;
  std::vector<std::string> received_;
  std::vector<io::Span> spans_;
  std::string part_, written_;  // the temporary file; this rank's segments, or what has failed
  Saver saver_;                 // last: it uses all of the above
};

}  // namespace varion
