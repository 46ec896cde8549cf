// What stands behind the HDF5 data of a posterior file (docs/formats.md): a table of segments, which cover the data without
// gaps, with the XXH3-128 of each; then a trailer of fixed length with the XXH3-128 of that table and of the trailer itself.
// Segments can be hashed beside the writing, by several threads or ranks, and be verified in parallel.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace varion::io {

/// Bytes of a file that lie one behind the other there, and somewhere in memory.
struct Piece {
  std::uint64_t address;  // in the file
  const char* data;
  size_t bytes;
};

struct Segment {
  std::uint64_t address = 0, bytes = 0;
  std::string digest;  // XXH3-128, 32 hexadecimal digits
};

/// XXH3-128 of these pieces' bytes, one after another.
std::string xxh128(const std::vector<Piece>& pieces);
std::string xxh128(const char* data, size_t bytes);

constexpr size_t kSegment = size_t(16) << 20;  // bytes of a segment, the last one's less

/// Pieces in ascending order, cut into runs without gaps of at most `most` bytes: what becomes a segment each.
std::vector<std::vector<Piece>> runs_of(const std::vector<Piece>& pieces, size_t most = kSegment);

constexpr size_t kTrailer = 192;  // bytes, text padded with zeros; the same in version 1.0

/// Table and trailer for HDF5 data that these segments, in ascending order, cover.
std::string trailer_of(const std::vector<Segment>& segments);

/// What a trailer says. Of version 1.0: one segment with a SHA-256 (64 digits).
struct Trailer {
  std::uint64_t payload = 0;  // bytes of HDF5 data
  size_t table = 0;           // bytes between the data and the last `kTrailer`
  std::uint64_t count = 0;    // segments
  std::string digest;         // of the table and the trailer; in 1.0 of the data
};
/// From the last `kTrailer` bytes of a file of `size` bytes. Errors (65): not ours, or truncated.
Trailer read_trailer(const std::string& last, std::uint64_t size, const std::string& name);
/// The segments in `end`, which is everything behind the data. Errors (65): any bit differs from what must stand there.
std::vector<Segment> read_segments(const Trailer& trailer, const std::string& end, const std::string& name);
/// Errors (65): the segment's bytes, at `data`, have another digest.
void verify_segment(const Segment& segment, const char* data, const std::string& name);

/// One line a segment; lines of several ranks may follow each other.
std::string segments_text(const std::vector<Segment>& segments);
std::vector<Segment> segments_from(const std::string& lines);

}  // namespace varion::io
