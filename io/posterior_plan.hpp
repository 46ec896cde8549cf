// How a posterior file is written: HDF5 makes a skeleton in memory, in which the places of all state vectors are reserved, and
// our own code writes skeleton and vectors, from where they are, as one process or as many (posterior_shares.hpp).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "io/commit_file.hpp"
#include "io/posterior_file.hpp"
#include "io/segments.hpp"

namespace varion::io {

/// Where a file holds a tensor of a state vector: 0 the mean, k the k-th of `states`.
struct Place {
  int vector;
  long begin, count;  // in the flat vector
  std::uint64_t address;
};

/// The HDF5 data of a file, without the numbers of the state vectors.
struct FilePlan {
  std::uint64_t bytes = 0;
  std::vector<std::pair<std::uint64_t, std::string>> own;  // HDF5's, by address: all that lies between the places
  std::vector<Place> places;                               // ascending
  /// Length and places, one a line, for other ranks; back again.
  std::string places_text() const;
  static FilePlan from_text(const std::string& lines);
};

/// The plan of a file with `p`'s tensors, attributes, tables, and states by name: the vectors themselves may be empty.
FilePlan plan_posterior(const PosteriorFile& p);

/// The numbers [begin, begin + count) of a flat state vector.
struct Stretch {
  const float* data;  // of number `begin`
  long begin, count;
};

/// All vectors of a file, whole.
std::vector<Stretch> whole_vectors(const PosteriorFile& p);

/// What is to be written of a plan by the holder of these stretches, one a vector; its `own` included.
std::vector<Piece> pieces_of(const FilePlan& plan, const std::vector<Stretch>& vectors);

using WriteAt = std::function<void(std::uint64_t address, const char* data, size_t bytes)>;
/// Writes pieces, which ascend, on this thread and takes their digests on another.
std::vector<Segment> write_pieces(const std::vector<Piece>& pieces, const WriteAt& write);

/// When all segments are written, in whatever order: table, trailer, and the file takes its name.
void finish_file(PendingFile& file, const FilePlan& plan, std::vector<Segment> segments);
/// The whole of it by one process: a PendingFile dir/name from its begin to its end. Errors: 73, 74.
void write_file(const std::string& dir, const std::string& name, const FilePlan& plan, const std::vector<Stretch>& vectors);
/// Length of the file, trailer included.
std::uint64_t file_bytes(const FilePlan& plan);

}  // namespace varion::io
