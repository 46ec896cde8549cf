// Batched GEMM of every provider, and of portable as a GPU runs it, equals a plain host loop.
#include <cmath>

#include "support/catch.hpp"
#include "support/providers.hpp"
#include "support/vectors.hpp"

using namespace varion;

TEST_CASE("batched gemm") {
  for (const Index batch : {1, 5, 40})
    for (const Index m : {1, 9})
      for (const Index n : {1, 33})
        for (const Index k : {1, 20})
          for (int form = 0; form < 16; ++form) {
            // Strides: packed, or the second factor shared by all and gaps elsewhere.
            const bool ta = form & 1, tb = form & 2, add = form & 4, packed = form & 8;
            const Index sa = m * k + (packed ? 0 : 3), sb = packed ? k * n : 0, sc = m * n + (packed ? 0 : 5);
            const Vec a = draw(1, batch * sa), b = draw(2, packed ? batch * sb : k * n), start = draw(3, batch * sc);
            const auto ha = host(a), hb = host(b);
            auto expected = host(start);
            for (Index q = 0; q < batch; ++q)
              for (Index i = 0; i < m; ++i)
                for (Index j = 0; j < n; ++j) {
                  double& s = expected[at(q * sc + i * n + j)];
                  s = add ? s : 0;
                  for (Index l = 0; l < k; ++l)
                    s += ha[at(q * sa + (ta ? l * m + i : i * k + l))] * hb[at(q * sb + (tb ? j * k + l : l * n + j))];
                }
            for (const auto* p : all_providers()) {
              const Vec c("varion::test::c", start.extent(0));
              Kokkos::deep_copy(c, start);
              p->gemm_batched(Exec(), ta, tb, batch, m, n, k, a, sa, b, sb, add, c, sc);
              INFO(p->name() << " batch " << batch << " m " << m << " n " << n << " k " << k << " form " << form);
              const auto got = host(c);
              double worst = 0;  // NaN must fail
              for (size_t i = 0; i < got.size(); ++i)
                worst = !(std::abs(got[i] - expected[i]) <= worst) ? std::abs(got[i] - expected[i]) : worst;
              CHECK(worst <= 1e-6 * (4 + static_cast<double>(k)));
            }
          }
}

TEST_CASE("batched gemm without add does not read what it overwrites") {
  const Vec a = draw(1, 2 * 12), b = draw(2, 2 * 12);
  for (const auto* p : all_providers()) {
    INFO(p->name());
    const Vec c("varion::test::c", 2 * 9);
    Kokkos::deep_copy(c, std::nanf(""));
    p->gemm_batched(Exec(), false, false, 2, 3, 3, 4, a, 12, b, 12, false, c, 9);
    for (const double v : host(c)) CHECK(std::isfinite(v));
  }
}
