// The normalisation by teams, which GPUs run, against the one by vectors, which hosts run.
#include "ops/frn.hpp"
#include "support/catch.hpp"
#include "support/vectors.hpp"

using namespace varion;

namespace {
void check_close(const Vec& a, const Vec& b, const char* what) {
  const std::vector<double> x = host(a), y = host(b);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double d = std::abs(x[i] - y[i]) / (1 + std::abs(y[i]));
    worst = d > worst || std::isnan(d) ? d : worst;  // a NaN stays
  }
  INFO(what);
  CHECK(worst < 2e-5);
}
}  // namespace

TEST_CASE("FRN by teams equals FRN by vectors") {
  const Exec exec;
  for (const auto& [n, hw, c] : {std::array<Index, 3>{1, 1, 1}, {3, 35, 19}, {2, 64, 16}, {1, 7, 511}, {2, 5, 513}, {1, 3, 1100}, {2, 1000, 3}})
    for (const bool more : {false, true}) {
      INFO(n << " images of " << hw << " pixels, " << c << " channels" << (more ? ", added to" : ""));
      const Index all = n * hw * c;
      const Vec x = draw(1, all), gamma = draw(2, c), beta = draw(3, c), tau = draw(4, c), residual = more ? draw(5, all) : Vec(), dy = draw(6, all);
      Vec r[2], y[2], partial[2], dx[2];
      for (const int teams : {0, 1}) {
        r[teams] = poisoned(n * c);
        y[teams] = poisoned(all);
        partial[teams] = poisoned(3 * n * c);
        dx[teams] = more ? draw(7, all) : poisoned(all);
        (teams ? frn_forward_teams : frn_forward)(exec, n, hw, c, x, gamma, beta, tau, residual, r[teams], y[teams]);
        (teams ? frn_backward_teams : frn_backward)(exec, n, hw, c, x, gamma, beta, tau, r[teams], dy, GradSlot{dx[teams], more}, partial[teams]);
      }
      check_close(r[1], r[0], "1 / root mean square");
      check_close(y[1], y[0], "y");
      check_close(partial[1], partial[0], "gradients of gamma, beta, tau");
      check_close(dx[1], dx[0], "dx");
      const Vec alone = poisoned(3 * n * c);
      frn_backward_teams(exec, n, hw, c, x, gamma, beta, tau, r[1], dy, GradSlot{}, alone);
      CHECK(host(alone) == host(partial[1]));
    }
}
