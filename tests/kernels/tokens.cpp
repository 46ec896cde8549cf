// Tables of tokens and positions, class token and pooling over tokens against plain loops, forward and backward, widths past a
// stretch of columns.
#include <cmath>

#include "ops/ops.hpp"
#include "support/catch.hpp"
#include "support/vectors.hpp"

using namespace varion;

namespace {
using Numbers = std::vector<double>;

/// An op's output, and the gradients of half the mean of its squares: dy = y / size.
struct Passes {
  Layout layout;
  Graph graph{layout};
  Numbers x, w, y, dx, dw;
  Shape shape;
  /// `words`: the input is tokens, so many of them.
  Passes(const Shape& input, const std::function<Node(Graph&, Node)>& build, Index words = 0) {
    const Node in = graph.input(input, words > 0, words == 0);
    const Node out = build(graph, in);
    const Node target = graph.input(graph.shape(out));
    const Node loss = mean_squared_error(graph, out, target);
    for (const Node n : {out, loss}) graph.output(n);
    graph.finish(true);
    const Vec weights = draw(2, std::max<Index>(layout.size(), 1)), gradient = poisoned(std::max<Index>(layout.size(), 1));
    Replay p(graph, Exec());
    p.weights = weights;
    p.gradient = gradient;
    p.loss_scale = Real(0.5);
    if (words > 0) {
      const auto tokens = Kokkos::create_mirror_view(p.ints(in));
      for (Index n = 0; n < input.size(); ++n) tokens(static_cast<size_t>(n)) = static_cast<std::int32_t>((5 * n + n * n) % words);
      Kokkos::deep_copy(p.ints(in), tokens);
    } else {
      Kokkos::deep_copy(p.value(in), draw(1, input.size()));
    }
    Kokkos::deep_copy(p.value(target), Real(0));
    p.forward();
    y = host(p.value(out));
    p.backward(loss);
    w = host(weights);
    if (words > 0) {
      const auto tokens = host(p.ints(in));
      x.assign(tokens.begin(), tokens.end());
    } else {
      x = host(p.value(in));
      dx = host(p.grad_of(in));
    }
    if (layout.size() > 0) dw = host(gradient);
    shape = graph.shape(out);
  }
  size_t at(const char* name) const { return static_cast<size_t>(layout[layout.find(name)].offset); }
};

bool equal(const Numbers& a, const Numbers& b) {
  REQUIRE(a.size() == b.size());
  bool same = true;
  for (size_t i = 0; i < a.size(); ++i) same = same && std::abs(a[i] - b[i]) <= 2e-6 * (1 + std::abs(b[i]));
  return same;
}
}  // namespace

TEST_CASE("tokens and positions take the rows of their tables, and leave their gradients there") {
  for (const auto& [n, length, d, words] :
       {std::array<Index, 4>{1, 1, 1, 3}, {1, 7, 5, 65}, {1, 33, 17, 3}, {7, 1, 5, 3}, {3, 11, 1, 65}, {2, 7, 300, 3}}) {
    const Index positions = length + 2;  // the last two are never used
    INFO(n << " sequences of " << length << " of " << words << " tokens, width " << d);
    const EmbeddingOptions options{words, positions, d, length, Real(1)};
    const Passes t({n, length}, [&](Graph& g, Node x) { return embedding(g, x, "e", options); }, words);
    CHECK((t.shape == Shape{n * length, d}));
    Numbers y, dw(t.w.size());
    for (Index row = 0; row < n * length; ++row)
      for (Index k = 0; k < d; ++k) {
        const size_t token = t.at("e.wte.weight") + static_cast<size_t>(static_cast<Index>(t.x[static_cast<size_t>(row)]) * d + k);
        const size_t position = t.at("e.wpe.weight") + static_cast<size_t>(row % length * d + k);
        y.push_back(t.w[token] + t.w[position]);
        const double dy = t.y[y.size() - 1] / static_cast<double>(t.y.size());
        dw[token] += dy;
        dw[position] += dy;
      }
    CHECK(equal(t.y, y));
    CHECK(equal(t.dw, dw));
  }
}

TEST_CASE("patches get a class token and positions") {
  for (const auto& [n, h, w, d] : {std::array<Index, 4>{1, 1, 1, 1}, {3, 2, 3, 7}, {2, 4, 4, 300}})
    for (const bool cls : {true, false}) {
      const Index c = cls ? 1 : 0, patches = h * w, length = patches + c;
      INFO(n << " images of " << patches << " patches of " << d << (cls ? " behind a class token" : ""));
      const Passes t({n, h, w, d}, [&](Graph& g, Node x) { return patch_tokens(g, x, "", cls); });
      CHECK((t.shape == Shape{n * length, d}));
      CHECK(t.layout[t.layout.find("pos_embed")].shape == Shape({1, length, d}));
      CHECK((t.layout.find("cls_token") >= 0) == cls);
      Numbers y, dx(t.x.size()), dw(t.w.size());
      for (Index i = 0; i < n; ++i)
        for (Index r = 0; r < length; ++r)
          for (Index k = 0; k < d; ++k) {
            const size_t position = t.at("pos_embed") + static_cast<size_t>(r * d + k), from = static_cast<size_t>((i * patches + r - c) * d + k);
            const size_t token = cls && r == 0 ? t.at("cls_token") + static_cast<size_t>(k) : 0;
            y.push_back((r < c ? t.w[token] : t.x[from]) + t.w[position]);
            const double dy = t.y[y.size() - 1] / static_cast<double>(t.y.size());
            dw[position] += dy;
            (r < c ? dw[token] : dx[from]) += dy;
          }
      CHECK(equal(t.y, y));
      CHECK(equal(t.dx, dx));
      CHECK(equal(t.dw, dw));
    }
}

TEST_CASE("the first row of a sequence, and the mean over its rows") {
  for (const auto& [n, length, d] : {std::array<Index, 3>{1, 1, 1}, {3, 5, 7}, {2, 65, 300}}) {
    INFO(n << " sequences of " << length << " rows of " << d);
    const Passes first({n * length, d}, [l = length](Graph& g, Node x) { return first_token(g, x, l); });
    const Passes mean({n * length, d}, [l = length](Graph& g, Node x) { return mean_token(g, x, l); });
    Numbers y0, y1(static_cast<size_t>(n * d)), dx0(first.x.size()), dx1(first.x.size());
    for (Index i = 0; i < n; ++i)
      for (Index r = 0; r < length; ++r)
        for (Index k = 0; k < d; ++k) {
          const auto from = static_cast<size_t>((i * length + r) * d + k), to = static_cast<size_t>(i * d + k);
          if (r == 0) y0.push_back(first.x[from]);
          if (r == 0) dx0[from] = first.y[to] / static_cast<double>(n * d);
          y1[to] += mean.x[from] / static_cast<double>(length);
          dx1[from] = mean.y[to] / static_cast<double>(n * d * length);
        }
    CHECK((first.shape == Shape{n, d}));
    CHECK((mean.shape == Shape{n, d}));
    CHECK(equal(first.y, y0));
    CHECK(equal(first.dx, dx0));
    CHECK(equal(mean.y, y1));
    CHECK(equal(mean.dx, dx1));
  }
  Layout layout;
  Graph g(layout);
  CHECK_THROWS_AS(first_token(g, g.input({7, 2}), 3), Error);
  CHECK_THROWS_AS(mean_token(g, g.input({7, 2}), 3), Error);
  CHECK_THROWS_AS(patch_tokens(g, g.input({7, 2}), "", true), Error);
}
