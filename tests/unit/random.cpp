#include "core/random.hpp"

#include <algorithm>
#include <cstring>
#include <set>
#include <vector>

#include "io/segments.hpp"
#include "support/catch.hpp"
#include "support/tier.hpp"
#include "support/vectors.hpp"

using namespace varion;

TEST_CASE("Philox4x32-10 gives Random123's known answers") {
  const auto same = [](const Words4& a, const Words4& b) {
    for (int i = 0; i < 4; ++i)
      if (a.w[i] != b.w[i]) return false;
    return true;
  };
  const std::uint32_t ones = 0xffffffffu;
  REQUIRE(same(philox4x32({{0, 0, 0, 0}}, 0, 0), {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}));
  REQUIRE(same(philox4x32({{ones, ones, ones, ones}}, ones, ones),
               {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}));
  REQUIRE(same(philox4x32({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0),
               {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}));
}

TEST_CASE("a block of normals equals its single draws, bit for bit") {
  const RandomKey key = RandomKey::make(42, Stream::train_noise, 12345678901ull, 3, 5);
  for (const Index base : {Index(0), Index(kNoiseBlock) * 7, Index(kNoiseBlock) << 30}) {
    Real block[kNoiseBlock];
    normal_block(key, base, block);
    for (Index i = 0; i < kNoiseBlock; i += 4) {
      const Words4 w = key.words((base + i) / 4);
      Real z[4];
      normal_pair(w.w[0], w.w[1], z[0], z[1]);
      normal_pair(w.w[2], w.w[3], z[2], z[3]);
      for (int k = 0; k < 4; ++k) REQUIRE(block[i + k] == z[k]);
    }
  }
}

TEST_CASE("normals have the moments of a normal") {
  const Index n = 1 << 20;
  const Vec v("varion::test::normals", static_cast<size_t>(n));
  fill_normal(Exec(), RandomKey::make(1, Stream::test, 0), v);
  const auto h = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), v);
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0, lag = 0;
  for (Index i = 0; i < n; ++i) {
    const double z = static_cast<double>(h(i));
    m1 += z;
    m2 += z * z;
    m3 += z * z * z;
    m4 += z * z * z * z;
    if (i > 0) lag += z * static_cast<double>(h(i - 1));
  }
  // Five standard errors; the k-th moment's variance is E z^2k - (E z^k)^2.
  const double root = std::sqrt(static_cast<double>(n)), count = static_cast<double>(n);
  CHECK(std::abs(m1 / count) < 5 / root);
  CHECK(std::abs(m2 / count - 1) < 5 * std::sqrt(2.) / root);
  CHECK(std::abs(m3 / count) < 5 * std::sqrt(15.) / root);
  CHECK(std::abs(m4 / count - 3) < 5 * std::sqrt(96.) / root);
  CHECK(std::abs(lag / count) < 5 / root);
}

namespace {
/// Whether a mean of `count` numbers of this variance is within five standard errors: not so once in 1.7 million.
bool within_errors(double mean, double expected, double variance, double count) {
  return std::abs(mean - expected) < 5 * std::sqrt(variance / count);
}
}  // namespace

// Bounds by the n draws of all keys together. A mean of n numbers has the error sqrt(variance / n): of z^k the variance is E z^2k - (E z^k)^2, of
// a share p it is p (1 - p). The Kolmogorov-Smirnov distance passes e with probability 2 exp(-2 n e^2) at most (Dvoretzky, Kiefer,
// Wolfowitz; Massart 1990); looked at between cells of equal probability it is no larger.
TEST_CASE("normals of many keys: moments, distribution, tails, no likeness between keys") {
  constexpr int keys = kSanitized ? 20 : 100, cells = 4096;
  constexpr Index draws = Index(1) << 16;
  const Vec v("varion::test::normals", static_cast<size_t>(draws));
  const auto h = Kokkos::create_mirror_view(v);
  std::vector<Index> cell(cells);
  std::vector<Real> last(static_cast<size_t>(draws));
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0, beyond3 = 0, beyond4 = 0, lag = 0, cross = 0, spread = 0;
  for (int k = 0; k < keys; ++k) {
    // Neighbours differ in the seed's two words, and some in step and sample as well.
    fill_normal(Exec(), RandomKey::make((static_cast<std::uint64_t>(k) + 1) * 0x9e3779b97f4a7c15u, Stream::train_noise,
                                        static_cast<std::uint64_t>(k / 4), static_cast<std::uint64_t>(k % 3)), v);
    Kokkos::deep_copy(h, v);
    double sum = 0;
    for (Index i = 0; i < draws; ++i) {
      const double z = static_cast<double>(h(at(i))), square = z * z;
      sum += z;
      m2 += square;
      m3 += square * z;
      m4 += square * square;
      beyond3 += square > 9 ? 1 : 0;
      beyond4 += square > 16 ? 1 : 0;
      if (i > 0) lag += z * static_cast<double>(h(at(i - 1)));
      cross += z * static_cast<double>(last[at(i)]);
      ++cell[static_cast<size_t>(std::min(cells - 1, static_cast<int>(cells * 0.5 * std::erfc(-z * std::sqrt(0.5)))))];
      last[at(i)] = h(at(i));
    }
    m1 += sum;
    spread += sum * sum / static_cast<double>(draws);
  }
  const double n = static_cast<double>(keys * draws);
  const double tail3 = std::erfc(3 * std::sqrt(0.5)), tail4 = std::erfc(4 * std::sqrt(0.5));
  CHECK(within_errors(m1 / n, 0, 1, n));
  CHECK(within_errors(m2 / n, 1, 2, n));
  CHECK(within_errors(m3 / n, 0, 15, n));
  CHECK(within_errors(m4 / n, 3, 96, n));
  CHECK(within_errors(beyond3 / n, tail3, tail3 * (1 - tail3), n));
  CHECK(within_errors(beyond4 / n, tail4, tail4 * (1 - tail4), n));
  CHECK(within_errors(lag / n, 0, 1, n));
  CHECK(within_errors(cross / n, 0, 1, n));         // a key's numbers times those of the one before
  CHECK(within_errors(spread / keys, 1, 2, keys));  // the keys' own means: chi-square
  Index below = 0;
  double distance = 0;
  for (int c = 0; c < cells; ++c) {
    below += cell[static_cast<size_t>(c)];
    distance = std::max(distance, std::abs(static_cast<double>(below) / n - (c + 1.0) / cells));
  }
  CHECK(distance < std::sqrt(std::log(2 / 5.7e-7) / (2 * n)));
}

// What any compiler, optimisation, vector width or device must give: the bits of 10 000 draws, the last block of them not whole. The digest was
// computed apart, from the formulas of random.hpp in NumPy; with another one every run has other numbers.
TEST_CASE("the bits of normals are those of every build") {
  const Vec v("varion::test::normals", 10000);
  fill_normal(Exec(), RandomKey::make(20240226, Stream::train_noise, 5000000000ull, 3, 7), v);
  const auto h = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), v);
  CHECK(io::xxh128(reinterpret_cast<const char*>(h.data()), h.extent(0) * sizeof(Real)) == "ac5442c56c2305705382bc1ef8ef6d1b");
}

/// Number i of a key, alone.
KOKKOS_INLINE_FUNCTION Real normal_alone(const RandomKey& key, Index i) {
  const Words4 w = key.words(i / 4);
  Real z[2];
  if (i % 4 < 2) normal_pair(w.w[0], w.w[1], z[0], z[1]);
  else normal_pair(w.w[2], w.w[3], z[0], z[1]);
  return z[i % 2];
}
KOKKOS_INLINE_FUNCTION bool same_bits(Real a, Real b) {
  std::uint32_t x, y;
  __builtin_memcpy(&x, &a, sizeof x);
  __builtin_memcpy(&y, &b, sizeof y);
  return x == y;
}

/// How many of the draws, each of a key and an index, differ between a draw alone and its block.
Index unlike_their_blocks(Kokkos::View<const RandomKey*, Memory> key, Kokkos::View<const Index*, Memory> index) {
  Index unlike = 0;
  Kokkos::parallel_reduce(
      "varion::test::alone", Range(Exec(), 0, static_cast<Index>(key.extent(0))),
      KOKKOS_LAMBDA(const Index i, Index& sum) {
        Real block[kNoiseBlock];
        const Index base = index(i) / kNoiseBlock * kNoiseBlock;
        normal_block(key(i), base, block);
        if (!same_bits(block[index(i) - base], normal_alone(key(i), index(i)))) ++sum;
      },
      unlike);
  return unlike;
}

TEST_CASE("U2: 1e5 draws of random keys (1e7 and 1e8 in campaigns) are the same alone, in a block, and filled") {
  const Index count = by_tier<Index>(100000, 10000000, 100000000), piece = 100000;
  const RandomKey source = RandomKey::make(2, Stream::test, 0);
  Index next = 0, packed_wrong = 0, unlike = 0, filled = 0, filled_wrong = 0, outside = 0;
  // Seed, stream, step, sample and slot, each over all it can be.
  const auto any_key = [&] {
    const Words4 a = source.words(next++), b = source.words(next++);
    const std::uint64_t seed = static_cast<std::uint64_t>(a.w[0]) << 32 | a.w[1], step = static_cast<std::uint64_t>(a.w[2]) << 16 | b.w[0] >> 16;
    const std::uint64_t sample = b.w[1] >> 16, slot = b.w[2] >> 20;
    const auto stream = static_cast<Stream>(b.w[3] >> 28);
    const RandomKey key = RandomKey::make(seed, stream, step, sample, slot);
    // The fields can be read back: no two tuples have one key.
    const bool same = (static_cast<std::uint64_t>(key.k1) << 32 | key.k0) == seed && (static_cast<std::uint64_t>(key.c2 >> 16) << 32 | key.c0) == step &&
                      key.c3 == sample && (key.c2 & 0xfff) == slot && (key.c2 >> 12 & 0xf) == static_cast<std::uint32_t>(stream);
    packed_wrong += same ? 0 : 1;
    return key;
  };
  const Kokkos::View<RandomKey*, Memory> keys("varion::test::keys", at(piece));
  const Kokkos::View<Index*, Memory> indices("varion::test::indices", at(piece));
  const auto key_host = Kokkos::create_mirror_view(keys);
  const auto index_host = Kokkos::create_mirror_view(indices);
  for (Index done = 0; done < count; done += piece) {
    for (Index i = 0; i < piece; ++i) {
      key_host(at(i)) = any_key();
      const Words4 w = source.words(next++);
      // Of any size: block numbers have 48 bits.
      index_host(at(i)) = static_cast<Index>((static_cast<std::uint64_t>(w.w[0]) << 18 | w.w[1] >> 14) >> (w.w[2] % 50));
    }
    Kokkos::deep_copy(keys, key_host);
    Kokkos::deep_copy(indices, index_host);
    unlike += unlike_their_blocks(keys, indices);
  }
  // From any word of a vector on, any number of them, shared out over threads; what lies beside is left alone.
  const Index room = 10000;
  const Vec v("varion::test::filled", at(room));
  const auto h = Kokkos::create_mirror_view(v);
  while (filled < count) {
    const RandomKey key = any_key();
    const Words4 w = source.words(next++);
    const Index begin = below(w.w[0], 1000), size = below(w.w[1], 8001);
    Kokkos::deep_copy(v, Real(7));  // none is as large
    fill_normal(Exec(), key, slice(v, begin, size));
    Kokkos::deep_copy(h, v);
    for (Index i = 0; i < room; ++i)
      if (i >= begin && i < begin + size) filled_wrong += same_bits(h(at(i)), normal_alone(key, i - begin)) ? 0 : 1;
      else outside += h(at(i)) == 7 ? 0 : 1;
    filled += size;
  }
  std::printf("U2: %ld keys, %ld draws in blocks, %ld filled\n", static_cast<long>(count), static_cast<long>(count), static_cast<long>(filled));
  CHECK(packed_wrong == 0);
  CHECK(unlike == 0);
  CHECK(filled_wrong == 0);
  CHECK(outside == 0);
}

TEST_CASE("the keyed bijection is a permutation, another one for another key") {
  for (const std::uint32_t n : {1u, 2u, 3u, 7u, 100u, 1000u}) {
    std::set<std::uint32_t> seen;
    std::vector<std::uint32_t> a, b;
    for (std::uint32_t i = 0; i < n; ++i) {
      a.push_back(keyed_bijection(RandomKey::make(1, Stream::order, 0), n, i));
      b.push_back(keyed_bijection(RandomKey::make(1, Stream::order, 1), n, i));
      REQUIRE(a.back() < n);
      seen.insert(a.back());
    }
    REQUIRE(seen.size() == n);
    if (n >= 100) REQUIRE(a != b);
  }
}

TEST_CASE("fields of a counter do not overlap, and what does not fit is refused") {
  std::set<std::array<std::uint32_t, 3>> seen;
  int count = 0;
  for (const std::uint64_t step : {0ull, 1ull, (1ull << 32) - 1, 1ull << 32, (1ull << 48) - 1})
    for (const std::uint64_t sample : {0ull, 1ull, 65535ull})
      for (const std::uint64_t slot : {0ull, 1ull, 4095ull})
        for (const Stream s : {Stream::init, Stream::order, Stream::test}) {
          const RandomKey k = RandomKey::make(9, s, step, sample, slot);
          seen.insert({k.c0, k.c2, k.c3});
          ++count;
        }
  REQUIRE(static_cast<int>(seen.size()) == count);
  REQUIRE_THROWS_AS(RandomKey::make(0, Stream::test, 1ull << 48), Error);
  REQUIRE_THROWS_AS(RandomKey::make(0, Stream::test, 0, 65536), Error);
  REQUIRE_THROWS_AS(RandomKey::make(0, Stream::test, 0, 0, 4096), Error);
}
