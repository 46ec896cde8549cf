// Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as
// easy as 1, 2, 3") and a normal transform of our own that vectorises.
//
// There is no generator object with state. A number is a function of
//   key     = the run's seed (64 bits)
//   counter = (stream, step, slot, sample, index)
// so that it is the same on every back end, launch shape, thread and rank count, and so that a
// resumed run needs no saved generator. Only + * fma sqrt and integer operations are used, each
// exactly rounded: with -ffp-contract=off the bits do not depend on compiler or vector width.
#pragma once

#include <cmath>

#include "core/error.hpp"
#include "core/types.hpp"

// IVDEP: the passes of this loop do not depend on one another. LANES: the same for a short loop over the lanes of one
// vector, which GCC would unroll first, to vectorise the loop around it, strided. UNROLL: unrolled whole.
#if defined(__clang__)
#define VARION_IVDEP _Pragma("clang loop vectorize(assume_safety)")
#define VARION_LANES VARION_IVDEP
#define VARION_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define VARION_IVDEP _Pragma("GCC ivdep")
#define VARION_LANES _Pragma("GCC ivdep") _Pragma("GCC unroll 1")
#define VARION_UNROLL _Pragma("GCC unroll 16")
#else
#define VARION_IVDEP
#define VARION_LANES
#define VARION_UNROLL _Pragma("unroll")
#endif

namespace varion {

/// What a random number is for. Evaluating never touches a training stream.
enum class Stream : std::uint32_t {
  init = 0,
  order = 1,
  augment = 2,
  dropout = 3,
  train_noise = 4,
  eval_noise = 5,
  data = 6,
  text = 7,
  masks = 8,
  test = 15,
};

struct Words4 {
  std::uint32_t w[4];
};

/// One application of Philox4x32-10 to a counter and a key.
KOKKOS_INLINE_FUNCTION Words4 philox4x32(Words4 c, std::uint32_t k0, std::uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t(c.w[0]) * 0xD2511F53u;
    const std::uint64_t p1 = std::uint64_t(c.w[2]) * 0xCD9E8D57u;
    c = Words4{{std::uint32_t(p1 >> 32) ^ c.w[1] ^ k0, std::uint32_t(p1),
                std::uint32_t(p0 >> 32) ^ c.w[3] ^ k1, std::uint32_t(p0)}};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

/// Everything of the counter but the index: (stream, step, slot, sample) packed without overlap.
///   word 0: step, low 32 bits          word 2: step, high 16 | stream 4 | slot 12
///   word 1: index / 4, low 32 bits     word 3: index / 4, high 16 | sample 16
/// The index stands in word 1 because Philox multiplies words 0 and 2 first: those two products
/// are then the same for all lanes of a vector.
struct RandomKey {
  std::uint32_t k0 = 0, k1 = 0;          // seed
  std::uint32_t c0 = 0, c2 = 0, c3 = 0;  // counter words without the index

  /// Errors: step >= 2^48, slot >= 2^12 or sample >= 2^16 would wrap into another counter.
  static RandomKey make(std::uint64_t seed, Stream stream, std::uint64_t step,
                        std::uint64_t sample = 0, std::uint64_t slot = 0) {
    require(step < (1ull << 48) && slot < (1ull << 12) && sample < (1ull << 16), Exit::config,
            "random counter overflow: step ", step, " (< 2^48), slot ", slot, " (< 4096), sample ",
            sample, " (< 65536)");
    RandomKey key;
    key.k0 = static_cast<std::uint32_t>(seed);
    key.k1 = static_cast<std::uint32_t>(seed >> 32);
    key.c0 = static_cast<std::uint32_t>(step);
    key.c2 = static_cast<std::uint32_t>(step >> 32) << 16 |
             static_cast<std::uint32_t>(stream) << 12 | static_cast<std::uint32_t>(slot);
    key.c3 = static_cast<std::uint32_t>(sample);
    return key;
  }

  /// The four words of block `block` (indices 4 block .. 4 block + 3), block < 2^48.
  KOKKOS_INLINE_FUNCTION Words4 words(Index block) const {
    const auto b = static_cast<std::uint64_t>(block);
    return philox4x32(
        Words4{{c0, std::uint32_t(b), c2, std::uint32_t(b >> 32) << 16 | c3}}, k0, k1);
  }
};

/// A uniform number in (0, 1) with 24 bits.
KOKKOS_INLINE_FUNCTION Real unit_interval(std::uint32_t word) {
  return (static_cast<Real>(static_cast<std::int32_t>(word >> 9)) + Real(0.5)) * Real(0x1p-23);
}

/// An integer in [0, n) from 32 random bits (Lemire's multiply-shift; bias below n / 2^32).
KOKKOS_INLINE_FUNCTION std::uint32_t below(std::uint32_t word, std::uint32_t n) {
  return static_cast<std::uint32_t>((std::uint64_t(word) * n) >> 32);
}

/// -ln(u) for u in (0, 1]: exponent split, then log(1+f) = f P(f) on [sqrt(1/2)-1, sqrt(2)-1].
/// The polynomial is our own least-maximum fit: relative error 2.6e-8 before rounding.
KOKKOS_INLINE_FUNCTION Real minus_log(Real u) {
  std::int32_t bits;
  __builtin_memcpy(&bits, &u, sizeof bits);
  const std::int32_t e = (bits - 0x3f3504f3) >> 23;
  const std::int32_t mantissa = bits - e * (1 << 23);
  Real m;
  __builtin_memcpy(&m, &mantissa, sizeof m);
  const Real f = m - Real(1);
  Real p = Real(0.08959803730249405);
  p = std::fma(p, f, Real(-0.14482136070728302));
  p = std::fma(p, f, Real(0.14917394518852234));
  p = std::fma(p, f, Real(-0.1654374599456787));
  p = std::fma(p, f, Real(0.19958415627479553));
  p = std::fma(p, f, Real(-0.25002944469451904));
  p = std::fma(p, f, Real(0.3333415985107422));
  p = std::fma(p, f, Real(-0.4999997913837433));
  p = std::fma(p, f, Real(1));
  return -std::fma(static_cast<Real>(e), Real(0.693147180559945), f * p);
}

/// Box-Muller on two words: two independent standard normals. The radius takes 32 bits of `a`
/// (largest 6.66); `b` gives 30 bits of an angle z within a quadrant and two signs, so that
/// sqrt(2) cos and sqrt(2) sin of the angle are cos z - sin z and cos z + sin z and no argument
/// reduction is needed.
KOKKOS_INLINE_FUNCTION void normal_pair(std::uint32_t a, std::uint32_t b, Real& z0, Real& z1) {
  const Real u = std::fma(static_cast<Real>(static_cast<std::int32_t>(a >> 1)), Real(0x1p-31),
                          Real(0x1p-32));
  const Real radius = std::sqrt(minus_log(u));
  const std::int32_t centred = static_cast<std::int32_t>(b & 0x3fffffffu) - 0x20000000;
  const Real z = static_cast<Real>(centred) * Real(0.7853981633974483 * 0x1p-29);
  const Real q = z * z;
  Real s = Real(-0.00019504022202454507);
  s = std::fma(s, q, Real(0.008332036435604095));
  s = std::fma(s, q, Real(-0.16666650772094727));
  s = std::fma(s, q, Real(1)) * z;
  Real c = Real(-0.0013585909036919475);
  c = std::fma(c, q, Real(0.041655026376247406));
  c = std::fma(c, q, Real(-0.4999985694885254));
  c = std::fma(c, q, Real(1));
  const Real x = radius * (c - s), y = radius * (c + s);
  std::uint32_t bx, by;
  __builtin_memcpy(&bx, &x, sizeof bx);
  __builtin_memcpy(&by, &y, sizeof by);
  bx ^= b & 0x80000000u;
  by ^= (b << 1) & 0x80000000u;
  __builtin_memcpy(&z0, &bx, sizeof z0);
  __builtin_memcpy(&z1, &by, sizeof z1);
}

/// Parameters one work item handles: a few vectors' worth on a host, one counter on a GPU.
inline constexpr int kNoiseBlock = kHostExec ? 128 : 4;

/// The words of indices [base, base + kNoiseBlock), base a multiple of kNoiseBlock: index base + 4 j + k has w[k][j], word k of its
/// counter's four.
KOKKOS_INLINE_FUNCTION void word_block(const RandomKey& key, Index base, std::uint32_t (&w)[4][kNoiseBlock / 4]) {
  if constexpr (kHostExec) {
    // 64-bit lanes, two counters interleaved per lane and the rounds innermost: the form that
    // compilers turn into full vectors.
    constexpr int lanes = kNoiseBlock < 8 ? 1 : kNoiseBlock / 8;  // discarded code is compiled, too
    const auto first = static_cast<std::uint64_t>(base) / 4;
    const std::uint64_t low = first & 0xffffffffu;
    const std::uint64_t high = (first >> 32) << 16 | key.c3;
    VARION_IVDEP
    for (int j = 0; j < lanes; ++j) {
      std::uint64_t c0[2], c1[2], c2[2], c3[2];
      VARION_UNROLL
      for (int i = 0; i < 2; ++i) {
        c0[i] = key.c0;
        c1[i] = low + static_cast<std::uint64_t>(j + i * lanes);
        c2[i] = key.c2;
        c3[i] = high;
      }
      std::uint64_t k0 = key.k0, k1 = key.k1;
      VARION_UNROLL
      for (int round = 0; round < 10; ++round) {
        VARION_UNROLL
        for (int i = 0; i < 2; ++i) {
          const std::uint64_t p0 = (c0[i] & 0xffffffffu) * 0xD2511F53u;
          const std::uint64_t p1 = (c2[i] & 0xffffffffu) * 0xCD9E8D57u;
          c0[i] = (p1 >> 32) ^ c1[i] ^ k0;
          c1[i] = p1 & 0xffffffffu;
          c2[i] = (p0 >> 32) ^ c3[i] ^ k1;
          c3[i] = p0 & 0xffffffffu;
        }
        k0 = (k0 + 0x9E3779B9u) & 0xffffffffu;
        k1 = (k1 + 0xBB67AE85u) & 0xffffffffu;
      }
      VARION_UNROLL
      for (int i = 0; i < 2; ++i) {
        w[0][j + i * lanes] = static_cast<std::uint32_t>(c0[i]);
        w[1][j + i * lanes] = static_cast<std::uint32_t>(c1[i]);
        w[2][j + i * lanes] = static_cast<std::uint32_t>(c2[i]);
        w[3][j + i * lanes] = static_cast<std::uint32_t>(c3[i]);
      }
    }
  } else {
    const Words4 four = key.words(base / 4);
    for (int k = 0; k < 4; ++k) w[k][0] = four.w[k];
  }
}

/// Standard normals for indices [base, base + kNoiseBlock); base is a multiple of kNoiseBlock.
/// Normal i is number i % 4 of block i / 4. Compute only: no memory but `out` (in cache).
KOKKOS_INLINE_FUNCTION void normal_block(const RandomKey& key, Index base, Real* out) {
  std::uint32_t w[4][kNoiseBlock / 4];
  word_block(key, base, w);
  VARION_IVDEP
  for (int j = 0; j < kNoiseBlock / 4; ++j) {
    normal_pair(w[0][j], w[1][j], out[4 * j], out[4 * j + 1]);
    normal_pair(w[2][j], w[3][j], out[4 * j + 2], out[4 * j + 3]);
  }
}

/// A bijection of [0, n): a four-round Feistel network on the smallest even number of bits that
/// holds n, walked until it lands inside (Black and Rogaway 2002). The order of an epoch is
/// `shuffle(key, n, position)`: nothing is stored, any position can be resumed from.
KOKKOS_INLINE_FUNCTION std::uint32_t keyed_bijection(const RandomKey& key, std::uint32_t n,
                                                     std::uint32_t position) {
  int half = 1;
  while ((std::uint64_t(1) << (2 * half)) < n) ++half;
  const std::uint32_t mask = (1u << half) - 1;
  std::uint32_t x = position;
  do {
    std::uint32_t left = x >> half, right = x & mask;
    for (std::uint32_t round = 0; round < 4; ++round) {
      const std::uint32_t mixed = key.words(Index(round) << 32 | right).w[0] & mask;
      const std::uint32_t swapped = left ^ mixed;
      left = right;
      right = swapped;
    }
    x = left << half | right;
  } while (x >= n);
  return x;
}

/// out[i] = standard normal number i of `key`. 4 bytes written per number.
void fill_normal(const Exec& exec, const RandomKey& key, Vec out);

/// out[i] = uniform on [-bound, bound). 4 bytes written per number.
void fill_uniform(const Exec& exec, const RandomKey& key, Real bound, Vec out);

}  // namespace varion
