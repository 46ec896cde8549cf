#include "io/posterior_shares.hpp"

#include <algorithm>
#include <map>

#include "core/error.hpp"

namespace varion::io {

std::vector<Span> share_out(const FilePlan& places, const std::vector<Holding>& held, size_t segment) {
  std::vector<Span> spans;
  std::vector<size_t> order;  // processes by what they hold
  for (size_t r = 0; r < held.size(); ++r) order.push_back(r);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::pair(held[a].begin, held[a].end) < std::pair(held[b].begin, held[b].end);
  });
  std::uint64_t reached = 0;
  const auto add = [&](std::uint64_t end, int holder, int vector, long begin) {
    while (reached < end) {  // no span lies in two segments
      const std::uint64_t stop = std::min<std::uint64_t>(end, (reached / segment + 1) * segment);
      spans.push_back({reached, static_cast<size_t>(stop - reached), holder, -1, vector, begin});
      begin += static_cast<long>((stop - reached) / 4);
      reached = stop;
    }
  };
  for (const Place& p : places.places) {
    ensure(p.address >= reached && p.address % 4 == 0, "the places of a file overlap, or lie between numbers");
    add(p.address, 0, -1, 0);
    for (const size_t r : order) {
      const long begin = std::max(p.begin, held[r].begin), end = std::min(p.begin + p.count, held[r].end);
      if (begin < end) add(p.address + 4 * static_cast<std::uint64_t>(end - p.begin), static_cast<int>(r), p.vector, begin);
    }
  }
  add(places.bytes, 0, -1, 0);
  for (size_t i = 0, next = 0; i < spans.size(); i = next) {
    std::map<int, size_t> shares;
    for (next = i; next < spans.size() && spans[next].address / segment == spans[i].address / segment; ++next)
      shares[spans[next].holder] += spans[next].bytes;
    const auto most = std::max_element(shares.begin(), shares.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    for (size_t k = i; k < next; ++k) spans[k].writer = most->first;
  }
  return spans;
}

namespace {
/// Where this process, its holder, has the bytes of a span.
const char* memory_of(const Span& s, const FilePlan& plan, const std::vector<Stretch>& vectors) {
  if (s.vector >= 0) {
    const Stretch& v = vectors.at(static_cast<size_t>(s.vector));
    return reinterpret_cast<const char*>(v.data + (s.begin - v.begin));
  }
  const auto after = std::upper_bound(plan.own.begin(), plan.own.end(), s.address, [](std::uint64_t a, const auto& own) { return a < own.first; });
  ensure(after != plan.own.begin(), "a plan without HDF5's own bytes");
  return std::prev(after)->second.data() + (s.address - std::prev(after)->first);
}
}  // namespace

std::vector<std::string> bytes_for_others(const std::vector<Span>& spans, const FilePlan& plan, const std::vector<Stretch>& vectors,
                                          int rank, int ranks) {
  std::vector<std::string> out(static_cast<size_t>(ranks));
  for (const Span& s : spans)
    if (s.holder == rank && s.writer != rank) out[static_cast<size_t>(s.writer)].append(memory_of(s, plan, vectors), s.bytes);
  return out;
}

std::vector<Piece> share_pieces(const std::vector<Span>& spans, const FilePlan& plan, const std::vector<Stretch>& vectors, int rank,
                                const std::vector<std::string>& received) {
  std::vector<Piece> out;
  std::vector<size_t> taken(received.size());
  for (const Span& s : spans) {
    if (s.writer != rank) continue;
    if (s.holder == rank) {
      out.push_back({s.address, memory_of(s, plan, vectors), s.bytes});
      continue;
    }
    const auto from = static_cast<size_t>(s.holder);
    ensure(taken[from] + s.bytes <= received[from].size(), "process ", s.holder, " has sent too little of its share");
    out.push_back({s.address, received[from].data() + taken[from], s.bytes});
    taken[from] += s.bytes;
  }
  return out;
}

std::vector<Segment> write_share(const std::string& part, const std::vector<Piece>& pieces) {
  PartFile file(part);
  auto segments = write_pieces(pieces, [&](std::uint64_t at, const char* data, size_t n) { file.write(at, data, n); });
  file.finish();
  return segments;
}

}  // namespace varion::io
