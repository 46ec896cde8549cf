// D3: checkpoints damaged as disks, copies and other programs do it are refused.

#include "core/error.hpp"
#include "core/random.hpp"
#include "io/posterior_file.hpp"
#include "support/catch.hpp"
#include "support/tier.hpp"

using namespace varion;

namespace {
std::string encoded(int step) {
  io::PosteriorFile p;
  p.tensors = {{"fc.weight", {40, 50}, 0, 2000}, {"fc.bias", {50}, 2000, 50}};
  for (int i = 0; i < 2050; ++i) p.mean.push_back(static_cast<float>(i % 97) * 0.01f + static_cast<float>(step));
  p.states = {{"hess", std::vector<float>(2050, 0.5f)}, {"momentum", std::vector<float>(2050, static_cast<float>(step))}};
  p.optimizer = "ivon";
  p.step = step;
  return io::encode_posterior(p);
}

/// One damage of kind `kind`; w draws places and bytes.
std::string damaged(const std::string& whole, const std::string& other, int kind, const std::uint32_t* w) {
  std::string s = whole;
  const size_t size = s.size(), at = w[0] % size;
  const auto zero = [&](size_t page) {
    const size_t from = at / page * page;
    s.replace(from, std::min(page, size - from), std::min(page, size - from), '\0');
  };
  switch (kind) {
    case 0:  // 2 to 64 bytes overwritten
      for (size_t i = at; i < std::min(size, at + 2 + w[1] % 63); ++i) s[i] = static_cast<char>(w[2] >> (i % 4 * 8));
      break;
    case 1: {  // two blocks of 512 swapped
      const size_t blocks = size / 512, a = w[1] % blocks, b = w[2] % blocks;
      for (size_t i = 0; i < 512; ++i) std::swap(s[a * 512 + i], s[b * 512 + i]);
      break;
    }
    case 2: zero(512); break;
    case 3: zero(4096); break;
    case 4: {  // a page twice, the one behind it lost
      const size_t page = w[1] % (size / 4096 - 1) * 4096;
      s.replace(page + 4096, std::min<size_t>(4096, size - page - 4096), s.substr(page, std::min<size_t>(4096, size - page - 4096)));
      break;
    }
    case 5: s = whole.substr(0, at) + other.substr(at); break;  // two generations spliced
    case 6: s += std::string(1 + w[1] % 5000, static_cast<char>(w[2])); break;
    case 7: s.erase(at, 1 + w[1] % 100); break;
    case 8: s.insert(at, std::string(1 + w[1] % 100, static_cast<char>(w[2]))); break;
    default: s = whole + other; break;  // one behind the other
  }
  return s;
}
}  // namespace

TEST_CASE("D3: random damage is refused, whatever its kind") {
  const std::string one = encoded(1), two = encoded(2);
  REQUIRE(one.size() == two.size());
  REQUIRE(io::decode_posterior(one, "test").step == 1);
  const long trials = by_tier(10000, 100000, 1000000);
  const auto key = RandomKey::make(17, Stream::test, 0);
  long accepted = 0, tried = 0;
  for (long k = 0; k < trials; ++k) {
    const Words4 w = key.words(k);
    const int kind = static_cast<int>(w.w[3] % 10);
    const std::string s = damaged(one, two, kind, w.w);
    // The same bytes again are no damage; a whole file behind another is one file with other bytes before it.
    if (s == one || s == two) continue;
    ++tried;
    try {
      const io::PosteriorFile p = io::decode_posterior(s, "test");
      INFO("kind " << kind);
      CHECK(p.step == 0);
      ++accepted;
    } catch (const Error& e) {
      if (e.code() != Exit::data) ++accepted;
    }
  }
  CHECK(accepted == 0);
  CHECK(tried > trials * 9 / 10 - 500);
}
