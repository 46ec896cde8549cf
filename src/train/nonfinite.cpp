#include "train/nonfinite.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/error.hpp"
#include "train/host_copy.hpp"

namespace varion {

namespace {
/// The first such index, or -1. Blocks are looked through in vectors.
Index first_in(const float* values, Index count) {
  constexpr Index block = 4096;
  for (Index at = 0; at < count; at += block) {
    const Index end = std::min(count, at + block);
    std::uint32_t bad = 0;
    for (Index i = at; i < end; ++i) {
      std::uint32_t bits;
      std::memcpy(&bits, values + i, sizeof bits);
      bad |= (bits & 0x7F800000u) == 0x7F800000u ? 1u : 0u;
    }
    for (Index i = at; bad != 0; ++i)
      if (!std::isfinite(values[i])) return i;
  }
  return -1;
}

/// "VECTOR of TENSOR[INDEX]" from a place in the flat vector; `Tensors` have name, offset and size.
template <class Tensors, class Size>
std::string entry(const std::string& vector, Index at, const Tensors& tensors, const Size& size) {
  for (const auto& t : tensors)
    if (at >= t.offset && at < t.offset + size(t)) return text(vector, " of ", t.name, "[", at - t.offset, "]");
  return text(vector, "[", at, "]");
}
}  // namespace

std::string first_nonfinite(const std::vector<StateVector>& vectors, const Optimizer& optimizer, const Layout& layout, const Comm& comm) {
  std::string own;
  for (const StateVector& s : vectors) {
    const std::vector<float> host = to_host(s.data);
    const Index at = first_in(host.data(), static_cast<Index>(host.size()));
    if (at < 0) continue;
    own = ", the first in " + entry(s.name, optimizer.own_begin() + at, layout.parameters(), [](const Parameter& p) { return p.size(); });
    break;
  }
  const std::vector<std::string> all = comm.gather(own);
  const auto has = [](const std::string& s) { return !s.empty(); };
  const auto first = std::find_if(all.begin(), all.end(), has);
  if (first == all.end()) return "";
  const bool alike = optimizer.own_size() < optimizer.size() || std::all_of(all.begin(), all.end(), has);
  return *first + (alike ? "" : text(" on rank ", first - all.begin()));
}

std::string nonfinite_entry(const io::PosteriorFile& f, const std::vector<io::Stretch>& vectors) {
  for (size_t k = 0; k < vectors.size(); ++k)
    if (const Index at = first_in(vectors[k].data, vectors[k].count); at >= 0)
      return entry(k == 0 ? "mean" : f.states[k - 1].first, vectors[k].begin + at, f.tensors, [](const io::TensorInfo& t) { return t.size; });
  return "";
}

void require_positive(const Optimizer& optimizer, const std::string& name) {
  const Vec sigma = optimizer.sigma(Exec());
  if (sigma.extent(0) == 0) return;
  const auto host = to_host(sigma);
  for (size_t i = 0; i < host.size(); ++i)
    require(host[i] > 0 && std::isfinite(host[i]), Exit::data, name, ": hess + weight_decay is not positive at index ",
            static_cast<Index>(i) + optimizer.own_begin());
}

}  // namespace varion
