// Layer normalisation against plain loops in double; its gradients by rows and columns, which GPUs run, against those in one pass,
// which hosts run.
#include "ops/layer_norm.hpp"

#include <array>

#include "ops/ops.hpp"
#include "support/catch.hpp"
#include "support/vectors.hpp"

using namespace varion;

TEST_CASE("layer norm equals its definition, of an input and of a sum") {
  for (const auto& [rows, width] : {std::array<Index, 2>{1, 1}, {7, 1}, {1, 5}, {7, 5}, {33, 5}, {1, 17}, {33, 17}, {7, 130}, {3, 768}})
    for (const bool bias : {false, true})
      for (const bool sums : {false, true}) {
        INFO(rows << " rows of " << width << (bias ? ", shifted" : "") << (sums ? ", of a sum" : ""));
        Layout layout;
        Graph g(layout);
        std::vector<Node> in;
        for (int k = 0; k < (sums ? 2 : 1); ++k) in.push_back(g.input({rows, width}));
        const Real epsilon = Real(0.01);  // large enough to be seen
        const Node y = layer_norm(g, sums ? add(g, in[0], in[1]) : in[0], "ln", bias, epsilon);
        g.output(y);
        g.finish(false);
        const Vec weights = draw(2, layout.size());
        Replay p(g, Exec());
        p.weights = weights;
        std::vector<double> x(at(rows * width)), expected(x.size());
        for (size_t k = 0; k < in.size(); ++k) {
          const Vec drawn = draw(3 + k, rows * width);
          Kokkos::deep_copy(p.value(in[k]), drawn);
          const std::vector<double> part = host(drawn);
          for (size_t i = 0; i < x.size(); ++i) x[i] += part[i];
        }
        p.forward();
        const std::vector<double> w = host(weights), got = host(p.value(y));
        const auto parameter = [&](const char* name, Index d) { return w[at(layout[layout.find(name)].offset + d)]; };
        for (Index n = 0; n < rows; ++n) {
          double mean = 0, variance = 0;
          for (Index d = 0; d < width; ++d) mean += x[at(n * width + d)] / static_cast<double>(width);
          for (Index d = 0; d < width; ++d) variance += std::pow(x[at(n * width + d)] - mean, 2) / static_cast<double>(width);
          for (Index d = 0; d < width; ++d)
            expected[at(n * width + d)] = parameter("ln.weight", d) * (x[at(n * width + d)] - mean) / std::sqrt(variance + static_cast<double>(epsilon)) +
                                          (bias ? parameter("ln.bias", d) : 0);
        }
        CHECK((layout.find("ln.bias") >= 0) == bias);
        CHECK(difference(got, expected) < 1e-5);
      }
}

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
