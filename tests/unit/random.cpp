#include "core/random.hpp"

#include <set>
#include <vector>

#include "support/catch.hpp"

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
