// The gradients of layer normalisation by rows and columns, which GPUs run, against those in one pass, which hosts run.
#include "ops/layer_norm.hpp"
#include "support/catch.hpp"
#include "support/vectors.hpp"

using namespace varion;

TEST_CASE("layer norm's gradients by rows equal those in one pass") {
  const Exec exec;
  for (const auto& [rows, width] : {std::array<Index, 2>{1, 1}, {3, 19}, {64, 33}, {65, 130}, {200, 7}, {5, 1030}, {70, 768}, {3, 4}})
    for (const bool shifts : {false, true})
      for (const bool add : {false, true}) {
        INFO(rows << " rows of " << width << (shifts ? ", shifted" : "") << (add ? ", added" : ""));
        const Vec x = draw(1, rows * width), gamma = draw(2, width), mean = draw(3, rows), r = draw(4, rows), dy = draw(5, rows * width);
        const Index words = layer_norm_chunks(rows) * width;
        Vec dx[2], part[2];
        for (const int by_rows : {0, 1}) {
          dx[by_rows] = add ? draw(6, rows * width) : poisoned(rows * width);
          part[by_rows] = poisoned(2 * words);
          (by_rows ? layer_norm_backward_rows : layer_norm_backward)(exec, rows, width, x, gamma, mean, r, dy, shifts, true,
                                                                     GradSlot{dx[by_rows], add}, part[by_rows]);
        }
        const std::vector<double> a = host(dx[0]), b = host(dx[1]), p = host(part[0]), q = host(part[1]);
        double worst = 0;
        for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::isnan(b[i]) ? 1 : std::abs(a[i] - b[i]) / (1 + std::abs(a[i])));
        CHECK(worst < 1e-5);
        worst = 0;
        for (size_t i = 0; i < static_cast<size_t>(shifts ? 2 * words : words); ++i)
          worst = std::max(worst, std::isnan(q[i]) ? 1 : std::abs(p[i] - q[i]) / (1 + std::abs(p[i])));
        CHECK(worst < 1e-5);
        const Vec alone = poisoned(2 * words);
        layer_norm_backward_rows(exec, rows, width, x, gamma, mean, r, dy, shifts, false, GradSlot{}, alone);
        const std::vector<double> c = host(alone);
        CHECK(std::equal(c.begin(), c.begin() + words, q.begin()));
      }
}
