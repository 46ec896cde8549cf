// 5 %, 50 % and 95 % points.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

namespace varion {

/// Of `count` > 0 numbers, none of them NaN: those at floor(share (count - 1)) in their order, exactly. Two passes over the
/// numbers, 8 bytes read per number; nothing is copied or changed.
std::array<double, 3> quantiles(const float* v, std::size_t count);
inline std::array<double, 3> quantiles(const std::vector<float>& v) { return quantiles(v.data(), v.size()); }

}  // namespace varion
