#include "train/state_hash.hpp"

#include <cstdio>

#include "core/error.hpp"
#include "core/random.hpp"  // VARION_IVDEP

namespace varion {

/// A bijection of 64-bit words: shifts and odd factors, twice.
KOKKOS_INLINE_FUNCTION std::uint64_t mix(std::uint64_t x) {
  x = (x ^ x >> 32) * 0xD2511F53CD9E8D57u;
  x = (x ^ x >> 29) * 0x9E3779B9BB67AE85u;
  return x ^ x >> 32;
}

/// Place and bits of a word together are one 64-bit number, so that no two pairs are the same one.
KOKKOS_INLINE_FUNCTION std::uint64_t mix_words(std::uint64_t which, Index first, const Real* x, Index begin, Index end) {
  std::uint64_t sum = 0;
  VARION_IVDEP
  for (Index i = begin; i < end; ++i) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, x + i, sizeof bits);
    sum += mix(mix(which << 56 ^ static_cast<std::uint64_t>(first + i)) + bits);
  }
  return sum;
}

std::uint64_t hash_words(std::uint64_t which, Index first, const Real* words, Index count) {
  return mix_words(which, first, words, 0, count);
}

std::uint64_t hash_of(const Exec& exec, std::uint64_t which, Index first, ConstVec v) {
  constexpr Index block = kHostExec ? 1024 : 1;
  const Index n = static_cast<Index>(v.extent(0));
  const Real* const x = v.data();
  std::uint64_t sum = 0;
  Kokkos::parallel_reduce(
      "varion::state_hash::sum", Range(exec, 0, (n + block - 1) / block),
      KOKKOS_LAMBDA(const Index b, std::uint64_t& total) {
        total += mix_words(which, first, x, b * block, n < (b + 1) * block ? n : (b + 1) * block);
      },
      sum);
  return sum;
}

std::uint64_t state_sum(const Exec& exec, const Optimizer& optimizer) {
  std::uint64_t sum = 0, which = 0;
  for (const StateVector& s : optimizer.state()) sum += hash_of(exec, ++which, optimizer.own_begin(), s.data);
  return sum;
}

std::string state_hash(std::uint64_t sum, const Optimizer& optimizer, std::uint64_t step, std::uint64_t samples, std::uint64_t skipped,
                       const Comm& comm) {
  if (optimizer.own_size() < optimizer.size()) {  // ranks keep a part each
    const std::vector<std::string> parts = comm.gather(std::to_string(sum));
    sum = 0;
    for (const std::string& part : parts) sum += std::stoull(part);
  }
  std::uint64_t which = optimizer.state().size();
  for (const std::uint64_t count : {step, samples, skipped}) sum = mix(sum + mix(++which << 56 ^ count));
  char digits[24];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(sum));
  return digits;
}

std::string state_hash(const Exec& exec, const Optimizer& optimizer, std::uint64_t step, std::uint64_t samples, std::uint64_t skipped,
                       const Comm& comm) {
  return state_hash(state_sum(exec, optimizer), optimizer, step, samples, skipped, comm);
}

void require_same_state(const std::string& hash, std::uint64_t step, const Comm& comm) {
  const std::vector<std::string> all = comm.gather(hash);
  for (size_t r = 1; r < all.size(); ++r)
    require(all[r] == all[0], Exit::internal, "step ", step, ": the state on rank ", r, " is not that on rank 0 (hashes ", all[r],
            " and ", all[0], "): memory or a processor has failed; the last checkpoint stands");
}

}  // namespace varion
