#include "train/state_hash.hpp"

#include <cstdio>

#include "core/random.hpp"  // VARION_IVDEP

namespace varion {

/// A bijection of 64-bit words: shifts and odd factors, twice.
KOKKOS_INLINE_FUNCTION std::uint64_t mix(std::uint64_t x) {
  x = (x ^ x >> 32) * 0xD2511F53CD9E8D57u;
  x = (x ^ x >> 29) * 0x9E3779B9BB67AE85u;
  return x ^ x >> 32;
}

/// Place and bits of a word together are one 64-bit number, so that no two pairs are the same one.
std::uint64_t hash_of(const Exec& exec, std::uint64_t which, Index first, ConstVec v) {
  constexpr Index block = kHostExec ? 1024 : 1;
  const Index n = static_cast<Index>(v.extent(0));
  const Real* const x = v.data();
  std::uint64_t sum = 0;
  Kokkos::parallel_reduce(
      "varion::state_hash::sum", Range(exec, 0, (n + block - 1) / block),
      KOKKOS_LAMBDA(const Index b, std::uint64_t& total) {
        const Index end = n < (b + 1) * block ? n : (b + 1) * block;
        std::uint64_t part = 0;
        VARION_IVDEP
        for (Index i = b * block; i < end; ++i) {
          std::uint32_t bits;
          __builtin_memcpy(&bits, x + i, sizeof bits);
          part += mix(mix(which << 56 ^ static_cast<std::uint64_t>(first + i)) + bits);
        }
        total += part;
      },
      sum);
  return sum;
}

std::string state_hash(const Exec& exec, const Optimizer& optimizer, std::uint64_t step, std::uint64_t samples, std::uint64_t skipped,
                       const Comm& comm) {
  std::uint64_t sum = 0, which = 0;
  for (const StateVector& s : optimizer.state()) sum += hash_of(exec, ++which, optimizer.own_begin(), s.data);
  if (optimizer.own_size() < optimizer.size()) {  // ranks keep a part each
    const std::vector<std::string> parts = comm.gather(std::to_string(sum));
    sum = 0;
    for (const std::string& part : parts) sum += std::stoull(part);
  }
  for (const std::uint64_t count : {step, samples, skipped}) sum = mix(sum + mix(++which << 56 ^ count));
  char digits[24];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(sum));
  return digits;
}

}  // namespace varion
