#include "io/segments.hpp"

#ifdef __GNUC__  // GCC 12 takes the undefined lanes of its own AVX-512 intrinsics for a mistake (bug 105593)
#pragma GCC diagnostic ignored "-Wuninitialized"
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#endif
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "core/error.hpp"
#include "io/commit_file.hpp"

namespace varion::io {

namespace {
constexpr char kMagic[] = "varion-posterior 1.1\n";
constexpr char kMagic0[] = "varion-posterior 1\n";  // version 1.0: one SHA-256 and no table
constexpr size_t kLine = 20 + 1 + 20 + 1 + 32 + 1;

std::string hex(const XXH128_hash_t& h) {
  char s[40];
  std::snprintf(s, sizeof s, "%016llx%016llx", static_cast<unsigned long long>(h.high64),
                static_cast<unsigned long long>(h.low64));
  return s;
}

/// The trailer without its digest and padding.
std::string head_of(std::uint64_t payload, std::uint64_t count) {
  return text(kMagic, "bytes ", payload, "\nsegments ", count, "\n");
}

/// A word and a number in `t` from `at`, which moves behind them; false where they do not stand there.
bool take_number(const std::string& t, size_t& at, const std::string& word, std::uint64_t& value) {
  if (t.compare(at, word.size(), word) != 0) return false;
  const auto r = std::from_chars(t.data() + at + word.size(), t.data() + t.size(), value);
  at = static_cast<size_t>(r.ptr - t.data());
  return r.ec == std::errc();
}

[[noreturn]] void damaged(const std::string& name, const std::string& what) {
  fail(Exit::data, name, ": damaged: ", what, " differs from what the file says of itself; take an older checkpoint");
}
}  // namespace

std::string xxh128(const std::vector<Piece>& pieces) {
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  for (const Piece& p : pieces) XXH3_128bits_update(&state, p.data, p.bytes);
  return hex(XXH3_128bits_digest(&state));
}

std::string xxh128(const char* data, size_t bytes) { return hex(XXH3_128bits(data, bytes)); }

std::vector<std::vector<Piece>> runs_of(const std::vector<Piece>& pieces, size_t most) {
  std::vector<std::vector<Piece>> out;
  std::uint64_t end = 0;
  size_t filled = most;
  for (Piece p : pieces) {
    if (p.address != end) filled = most;
    while (p.bytes > 0) {
      if (filled == most) {
        out.emplace_back();
        filled = 0;
      }
      const size_t n = std::min(p.bytes, most - filled);
      out.back().push_back({p.address, p.data, n});
      p = {p.address + n, p.data + n, p.bytes - n};
      filled += n;
    }
    end = p.address;
  }
  return out;
}

std::string segments_text(const std::vector<Segment>& segments) {
  std::string out;
  char line[kLine + 1];
  for (const Segment& s : segments) {
    std::snprintf(line, sizeof line, "%020llu %020llu %s\n", static_cast<unsigned long long>(s.address),
                  static_cast<unsigned long long>(s.bytes), s.digest.c_str());
    out += line;
  }
  return out;
}

std::vector<Segment> segments_from(const std::string& lines) {
  std::vector<Segment> out;
  for (size_t at = 0; at + kLine <= lines.size(); at += kLine) {
    Segment s;
    std::from_chars(lines.data() + at, lines.data() + at + 20, s.address);
    std::from_chars(lines.data() + at + 21, lines.data() + at + 41, s.bytes);
    s.digest = lines.substr(at + 42, 32);
    out.push_back(std::move(s));
  }
  return out;
}

std::string trailer_of(const std::vector<Segment>& segments) {
  std::uint64_t payload = 0;
  for (const Segment& s : segments) {
    ensure(s.address == payload, "segments leave a gap at byte ", payload);
    payload += s.bytes;
  }
  std::string end = segments_text(segments);
  const size_t table = end.size();
  end += head_of(payload, segments.size());
  end += "xxh3 " + xxh128(end.data(), end.size()) + "\n";
  end.resize(table + kTrailer, '\0');
  return end;
}

Trailer read_trailer(const std::string& last, std::uint64_t size, const std::string& name) {
  Trailer t;
  const bool old = last.compare(0, sizeof kMagic0 - 1, kMagic0) == 0;
  const bool ours = old || last.compare(0, sizeof kMagic - 1, kMagic) == 0;
  require(ours && last.size() == kTrailer && size > kTrailer, Exit::data, name,
          ": not a Varion posterior file, or truncated (", size, " bytes)");
  size_t at = old ? sizeof kMagic0 - 1 : sizeof kMagic - 1;
  t.count = 1;
  const bool read = take_number(last, at, "bytes ", t.payload) && (old || take_number(last, at, "\nsegments ", t.count));
  const std::string word = old ? "\nsha256 " : "\nxxh3 ";
  const size_t digits = old ? 64 : 32;
  const std::uint64_t most = size / kLine;  // nothing below overflows
  if (!read || t.count > most || last.compare(at, word.size(), word) != 0) damaged(name, "its trailer");
  t.table = old ? 0 : static_cast<size_t>(t.count * kLine);
  t.digest = last.substr(at + word.size(), digits);
  if (t.payload == 0 || t.payload > size || t.payload + t.table + kTrailer != size) damaged(name, "its size");
  return t;
}

std::vector<Segment> read_segments(const Trailer& t, const std::string& end, const std::string& name) {
  std::vector<Segment> segments;
  // Compared as a whole with what must stand there, so that every bit of table and trailer counts.
  if (t.digest.size() == 64) {
    std::string must = text(kMagic0, "bytes ", t.payload, "\nsha256 ", t.digest, "\n");
    must.resize(kTrailer, '\0');
    if (end != must) damaged(name, "its trailer");
    return {{0, t.payload, t.digest}};
  }
  segments = segments_from(end.substr(0, t.table));
  std::uint64_t reached = 0;
  for (const Segment& s : segments) {
    if (s.address != reached || s.bytes == 0 || s.bytes > t.payload - reached) damaged(name, "its table of segments");
    reached += s.bytes;
  }
  if (reached != t.payload || trailer_of(segments) != end) damaged(name, "its table of segments");
  return segments;
}

void verify_segment(const Segment& s, const char* data, const std::string& name) {
  const std::string found = s.digest.size() == 64 ? sha256(data, s.bytes) : xxh128(data, s.bytes);
  if (found != s.digest) damaged(name, text("the digest of ", s.bytes, " bytes from byte ", s.address));
}

}  // namespace varion::io
