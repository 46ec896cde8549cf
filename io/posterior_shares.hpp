// A posterior file written by several processes that hold a stretch of every state vector each. The file is that of one writer, byte
// for byte: its segments are shared out whole, each to the process that holds most of it, which gets the rest from the others.
#pragma once

#include <string>
#include <vector>

#include "io/posterior_plan.hpp"

namespace varion::io {

/// Bytes of a file that one process holds and one process writes.
struct Span {
  std::uint64_t address;
  size_t bytes;
  int holder, writer;
  int vector;  // of which they are numbers, or -1: HDF5's own, which the first process holds
  long begin;  // the first of these numbers
};

/// The numbers [begin, end) of every vector, which a process holds.
struct Holding {
  long begin, end;
};

/// All of a file, by address, from its places alone. `held`, by process, covers every vector once, in whatever order. Every process
/// that asks gets the same answer.
std::vector<Span> share_out(const FilePlan& places, const std::vector<Holding>& held, size_t segment = kSegment);

/// What this process holds of the others' segments, by process.
std::vector<std::string> bytes_for_others(const std::vector<Span>& spans, const FilePlan& plan, const std::vector<Stretch>& vectors,
                                          int rank, int ranks);

/// What this process writes: from its own memory, and from what the others have sent it (by process).
std::vector<Piece> share_pieces(const std::vector<Span>& spans, const FilePlan& plan, const std::vector<Stretch>& vectors, int rank,
                                const std::vector<std::string>& received);

/// Writes them into the file that is on its way at `part` (PendingFile::part), and waits for the disk. Errors: 73, 74.
std::vector<Segment> write_share(const std::string& part, const std::vector<Piece>& pieces);

}  // namespace varion::io
