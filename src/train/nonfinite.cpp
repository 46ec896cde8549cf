#include "train/nonfinite.hpp"

#include <algorithm>
#include <cmath>

#include "core/error.hpp"
#include "train/checkpoint.hpp"

namespace varion {

namespace {
/// The first such index, or -1.
Index first_in(const std::vector<float>& values) {
  const auto bad = std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
  return bad == values.end() ? -1 : bad - values.begin();
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
  for (const StateVector& s : vectors)
    if (const Index at = first_in(to_host(s.data)); at >= 0) {
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

void require_finite(const io::PosteriorFile& f) {
  const auto look = [&](const std::string& name, const std::vector<float>& values) {
    const Index at = first_in(values);
    require(at < 0, Exit::diverged, "step ", f.step, ": not finite: ",
            at < 0 ? "" : entry(name, at, f.tensors, [](const io::TensorInfo& t) { return t.size; }), "; nothing was saved");
  };
  look("mean", f.mean);
  for (const auto& [name, flat] : f.states) look(name, flat);
}

}  // namespace varion
