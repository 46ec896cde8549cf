// Vectors for tests of kernels: drawn, poisoned, brought to the host.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/random.hpp"

namespace varion {

inline size_t at(Index i) { return static_cast<size_t>(i); }
inline Vec draw(std::uint64_t which, Index n) {
  const Vec v("varion::test::draw", static_cast<size_t>(n));
  fill_normal(Exec(), RandomKey::make(5, Stream::test, which), v);
  return v;
}
inline Vec poisoned(Index n) {
  const Vec v("varion::test::poisoned", static_cast<size_t>(n));
  Kokkos::deep_copy(v, std::nanf(""));
  return v;
}
inline std::vector<double> host(const ConstVec& v) {
  const auto h = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), v);
  return {h.data(), h.data() + h.extent(0)};
}
inline std::vector<std::int32_t> host(const IntVec& v) {
  const auto h = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), v);
  return {h.data(), h.data() + h.extent(0)};
}

/// Of |a - b| / (1 + |b|) the largest; infinite where a number is none or missing.
inline double difference(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return HUGE_VAL;
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i])) return HUGE_VAL;
    worst = std::max(worst, std::abs(a[i] - b[i]) / (1 + std::abs(b[i])));
  }
  return worst;
}

}  // namespace varion
