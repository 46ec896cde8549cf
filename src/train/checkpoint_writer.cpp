#include "train/checkpoint_writer.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <system_error>
#include <thread>

#include "core/error.hpp"
#include "io/input_file.hpp"
#include "train/checkpoint.hpp"
#include "train/nonfinite.hpp"
#include "train/state_hash.hpp"

namespace varion {

/// What this rank keeps a copy of, of every vector.
Stretch CheckpointWriter::copied() const {
  if (parallel_) return comm_.own(optimizer_.size());
  return {0, comm_.is_first() && !joins() ? optimizer_.size() : 0};
}

void CheckpointWriter::prepare() {
  const size_t words = optimizer_.state().size() * static_cast<size_t>(copied().size());
  if constexpr (!kHostExec) return snapshot_.reserve(words);
  try {
    saver_.start([this, words] { snapshot_.reserve(words); });
  } catch (const std::system_error&) {  // no thread to be had now: the first save will take it
  }
}

void CheckpointWriter::begin(FileOrder order) {
  finish();
  saver_.wait();
  order_ = std::move(order);
  snapshot_.take(exec_, optimizer_, copied());
  saver_.start([this] { snapshot_.work(); });
  stage_ = Stage::copying;
  vectors_ = snapshot_.vectors();
  if (!joins()) return;
  joined_.clear();
  for (const StateVector& s : optimizer_.state()) joined_.push_back(whole(s.data, optimizer_, comm_));
  for (size_t k = 0; k < joined_.size(); ++k) vectors_[k] = {joined_[k].data(), 0, static_cast<long>(joined_[k].size())};
}

void CheckpointWriter::release() {
  if (stage_ != Stage::copying) return;
  snapshot_.wait();
  const std::string hash = state_hash(snapshot_.sum(), optimizer_, order_.step, order_.samples, order_.skipped, comm_);
  require_same_state(hash, order_.step, comm_);
  order_.file.train["state_hash"] = hash;
  stage_ = parallel_ ? Stage::looking : Stage::naming;
  if (parallel_) saver_.start([this] { look(); });
  else if (comm_.is_first()) saver_.start([this] { write_alone(); });
}

namespace {
/// An entry that is not finite: Errors (10), or a line.
void refuse_entry(const std::string& entry, const FileOrder& order) {
  const std::string cause = text("step ", order.step, ": not finite: ", entry, "; ", order.name, " was not written");
  require(!order.only_finite, Exit::diverged, cause);
  std::fprintf(stderr, "varion: %s\n", cause.c_str());
}
}  // namespace

void CheckpointWriter::look() {
  bad_ = nonfinite_entry(order_.file, vectors_);
  samples_.assign(2, {});
  samples_[0] = layer_sample(order_.file, vectors_[0]);
  for (size_t k = 0; k < order_.file.states.size(); ++k)
    if (order_.file.states[k].first == "hess") samples_[1] = layer_sample(order_.file, vectors_[k + 1]);
}

void CheckpointWriter::write_alone() {
  look();
  if (!bad_.empty()) return refuse_entry(bad_, order_);
  order_.before();
  order_.file.layers = layer_table(order_.file, samples_[0], samples_[1]);
  io::write_file(order_.dir, order_.name, io::plan_posterior(order_.file), vectors_);
  order_.after();
}

void CheckpointWriter::open() {
  order_.before();
  order_.file.layers = layer_table(order_.file, samples_[0], samples_[1]);
  plan_ = io::plan_posterior(order_.file);
  pending_ = std::make_unique<io::PendingFile>(order_.dir, order_.name, io::file_bytes(plan_));
}

/// A rank that cannot write says so to all, so that the first one takes the file away and they end with one line.
void CheckpointWriter::share() {
  try {
    written_ = "0\n" + io::segments_text(io::write_share(part_, io::share_pieces(spans_, plan_, vectors_, comm_.rank(), received_)));
  } catch (const Error& e) {
    written_ = text(static_cast<int>(e.code()), "\nrank ", comm_.rank(), ": ", e.what());
  }
}

void CheckpointWriter::advance() {
  if (stage_ <= Stage::copying) return;
  saver_.wait();
  if (stage_ == Stage::looking) {
    const std::vector<std::string> all = comm_.gather(bad_);
    const auto bad = std::find_if(all.begin(), all.end(), [](const std::string& entry) { return !entry.empty(); });
    if (bad != all.end()) {
      if (order_.only_finite || comm_.is_first()) refuse_entry(*bad, order_);
      stage_ = Stage::idle;
      return;
    }
    for (std::vector<float>& s : samples_) comm_.sum(s);  // a number stands on one rank and is zero on the others
    if (comm_.is_first()) saver_.start([this] { open(); });
    stage_ = Stage::opening;
  } else if (stage_ == Stage::opening) {
    part_ = comm_.from_first(pending_ ? pending_->part() : "");
    const std::string places = comm_.from_first(plan_.places_text());
    if (!comm_.is_first()) plan_ = io::FilePlan::from_text(places);
    std::vector<io::Holding> held;
    for (int r = 0; r < comm_.size(); ++r) {
      const Stretch s = comm_.stretch_of(optimizer_.size(), r);
      held.push_back({s.begin, s.end});
    }
    spans_ = io::share_out(plan_, held);
    received_ = comm_.swap_texts(io::bytes_for_others(spans_, plan_, vectors_, comm_.rank(), comm_.size()));
    saver_.start([this] { share(); });
    stage_ = Stage::sharing;
  } else if (stage_ == Stage::sharing) {
    std::vector<io::Segment> segments;
    for (const std::string& said : comm_.gather(written_)) {
      const size_t line = said.find('\n');
      if (const int code = std::stoi(said); code != 0) {
        pending_.reset();  // takes the temporary file away
        fail(static_cast<Exit>(code), said.substr(line + 1), "; the previous file, if any, is untouched");
      }
      const auto more = io::segments_from(said.substr(line + 1));
      segments.insert(segments.end(), more.begin(), more.end());
    }
    if (comm_.is_first())
      saver_.start([this, segments = std::move(segments)] {
        io::finish_file(*pending_, plan_, segments);
        pending_.reset();
        order_.after();
      });
    stage_ = Stage::naming;
  } else {
    stage_ = Stage::idle;
  }
}

/// Until no rank is at work. All learn that the work gets on, so that nobody's watchdog takes waiting for standing still.
void CheckpointWriter::wait_together() {
  std::uint64_t moved = io::bytes_moved;
  for (auto pause = std::chrono::milliseconds(1);; pause = std::min(2 * pause, std::chrono::milliseconds(50))) {
    const std::uint64_t bytes = io::bytes_moved;
    const std::uint64_t bits = comm_.any((is_busy() ? 1u : 0u) | (bytes != moved ? 2u : 0u));
    moved = bytes;
    if ((bits & 2) != 0) progressed();
    if ((bits & 1) == 0) return;
    std::this_thread::sleep_for(pause);
  }
}

void CheckpointWriter::finish() {
  release();
  while (stage_ != Stage::idle) {
    wait_together();
    advance();
  }
}

}  // namespace varion
