#include "train/quantiles.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace varion {

namespace {
constexpr std::array<double, 3> kShares{0.05, 0.5, 0.95};
constexpr size_t kFew = 1 << 14;  // numbers below which sorting a copy is cheaper than counting
constexpr size_t kBins = 1 << 16;

/// Whole numbers in the order of the floats.
std::uint32_t key_of(float v) {
  std::uint32_t bits;
  std::memcpy(&bits, &v, sizeof bits);
  return bits ^ ((bits >> 31) != 0 ? 0xFFFFFFFFu : 0x80000000u);
}

float value_of(std::uint32_t key) {
  const std::uint32_t bits = key ^ ((key >> 31) != 0 ? 0x80000000u : 0xFFFFFFFFu);
  float v;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}

/// The bin that holds number `rank`, which becomes its number within the bin.
std::uint32_t bin_of(const std::vector<std::uint64_t>& counts, std::uint64_t& rank) {
  std::uint32_t bin = 0;
  while (rank >= counts[bin]) rank -= counts[bin++];
  return bin;
}
}  // namespace

std::array<double, 3> quantiles(const float* v, size_t count) {
  std::array<double, 3> out{};
  std::array<std::uint64_t, 3> rank{};
  for (size_t k = 0; k < 3; ++k) rank[k] = static_cast<std::uint64_t>(kShares[k] * static_cast<double>(count - 1));
  if (count < kFew) {
    std::vector<std::uint32_t> sorted;
    for (size_t i = 0; i < count; ++i) sorted.push_back(key_of(v[i]));
    std::sort(sorted.begin(), sorted.end());
    for (size_t k = 0; k < 3; ++k) out[k] = static_cast<double>(value_of(sorted[rank[k]]));
    return out;
  }
  // First the upper half of the key, then the lower one of the numbers that share the upper half of a quantile.
  std::vector<std::uint64_t> upper(kBins);
  for (size_t i = 0; i < count; ++i) ++upper[key_of(v[i]) >> 16];
  std::array<std::uint32_t, 3> high{};
  std::array<std::vector<std::uint64_t>, 3> lower;
  for (size_t k = 0; k < 3; ++k) {
    high[k] = bin_of(upper, rank[k]);
    lower[k].resize(kBins);
  }
  for (size_t i = 0; i < count; ++i) {
    const std::uint32_t key = key_of(v[i]);
    for (size_t k = 0; k < 3; ++k)
      if (key >> 16 == high[k]) ++lower[k][key & 0xFFFF];
  }
  for (size_t k = 0; k < 3; ++k) out[k] = static_cast<double>(value_of(high[k] << 16 | bin_of(lower[k], rank[k])));
  return out;
}

}  // namespace varion
