// Quantiles by counting against a sorted copy.
#include "train/quantiles.hpp"

#include <algorithm>
#include <limits>

#include "support/catch.hpp"
#include "support/vectors.hpp"

using namespace varion;

TEST_CASE("quantiles are those of the sorted numbers") {
  for (const Index n : {1, 2, 21, 16383, 16384, 70001})
    for (const int kind : {0, 1, 2, 3}) {
      std::vector<float> v;
      for (const double x : host(draw(static_cast<std::uint64_t>(n + kind), n)))
        v.push_back(kind == 0   ? static_cast<float>(x)                     // both signs
                    : kind == 1 ? static_cast<float>(x * x * 1e-38)         // some denormal
                    : kind == 2 ? static_cast<float>(static_cast<int>(x))   // few values, two zeros
                                : static_cast<float>(1 + 1e-6 * x));        // one upper half
      if (n > 2) v[0] = std::numeric_limits<float>::infinity(), v[1] = -v[0], v[2] = -0.0f;
      std::vector<float> sorted = v;
      std::sort(sorted.begin(), sorted.end());
      const auto q = quantiles(v);
      for (const auto& [k, share] : {std::pair{size_t(0), 0.05}, {size_t(1), 0.5}, {size_t(2), 0.95}})
        CHECK(q[k] == static_cast<double>(sorted[static_cast<size_t>(share * static_cast<double>(n - 1))]));
    }
}
