// Every op's forward kernel against a plain loop in double on the host, on awkward sizes.
#include "ops/ops.hpp"

#include <cmath>
#include <functional>

#include "core/random.hpp"
#include "support/catch.hpp"

using namespace varion;

namespace {
using Numbers = std::vector<double>;

/// Inputs and parameters of one recorded op, and what it computed.
struct Trial {
  Layout layout;
  Graph graph{layout};
  std::vector<Numbers> x;
  Numbers w, y;
  Shape shape;

  Trial(const std::vector<Shape>& inputs, const std::function<Node(Graph&, const std::vector<Node>&)>& build,
        int integer = -1, int classes = 1, bool train = false) {
    std::vector<Node> nodes;
    for (size_t i = 0; i < inputs.size(); ++i) nodes.push_back(graph.input(inputs[i], static_cast<int>(i) == integer));
    const Node out = build(graph, nodes);
    graph.output(out);
    graph.finish(false);
    const Exec exec;
    const Vec weights("varion::test::weights", static_cast<size_t>(std::max<Index>(layout.size(), 1)));
    fill_normal(exec, RandomKey::make(1, Stream::test, 50), weights);
    Replay replay(graph, exec);
    replay.weights = weights;
    replay.train = train;
    replay.draw_from(RandomKey::make(1, Stream::dropout, 3));
    for (size_t i = 0; i < nodes.size(); ++i) {
      x.emplace_back();
      if (static_cast<int>(i) == integer) {
        const auto host = Kokkos::create_mirror_view(replay.ints(nodes[i]));
        for (size_t k = 0; k < host.extent(0); ++k) {
          host(k) = static_cast<std::int32_t>((5 * k + 2) % static_cast<size_t>(classes));
          x.back().push_back(host(k));
        }
        Kokkos::deep_copy(replay.ints(nodes[i]), host);
      } else {
        fill_normal(exec, RandomKey::make(1, Stream::test, i), replay.value(nodes[i]));
        x.back() = numbers(replay.value(nodes[i]));
      }
    }
    w = numbers(weights);
    replay.forward();
    y = numbers(replay.value(out));
    shape = graph.shape(out);
  }

  static Numbers numbers(const ConstVec& v) {
    const auto h = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), v);
    return {h.data(), h.data() + v.extent(0)};
  }
  double parameter(const std::string& name, Index i) const {
    return w[static_cast<size_t>(layout[layout.find(name)].offset + i)];
  }
  void equals(const Numbers& expected, double tolerance = 1e-5) const {
    REQUIRE(y.size() == expected.size());
    for (size_t i = 0; i < y.size(); ++i) {
      INFO("at " << i << " of " << shape.text());
      REQUIRE(std::abs(y[i] - expected[i]) <= tolerance * (1 + std::abs(expected[i])));
    }
  }
};

double softplus(double v) { return std::log1p(std::exp(v)); }
}  // namespace

TEST_CASE("linear") {
  for (const auto& [n, in, out] : {std::array<Index, 3>{1, 1, 1}, {3, 7, 5}, {37, 129, 10}}) {
    const Trial t({{n, in}}, [o = out](Graph& g, const auto& x) { return linear(g, x[0], "fc", o); });
    Numbers e;
    for (Index i = 0; i < n; ++i)
      for (Index o = 0; o < out; ++o) {
        double s = t.parameter("fc.bias", o);
        for (Index k = 0; k < in; ++k) s += t.x[0][static_cast<size_t>(i * in + k)] * t.parameter("fc.weight", o * in + k);
        e.push_back(s);
      }
    t.equals(e);
  }
}

TEST_CASE("conv2d with padding, stride and TensorFlow's SAME") {
  struct Case {
    Index n, h, w, c, o, k, stride, pad;
    bool same;
  };
  for (const Case& s : {Case{1, 1, 1, 1, 1, 1, 1, 0, false}, Case{2, 7, 5, 3, 4, 3, 1, 1, false},
                        Case{3, 8, 9, 2, 5, 5, 2, 2, false}, Case{2, 6, 7, 3, 2, 2, 1, 0, true},
                        Case{2, 8, 8, 4, 3, 3, 2, 0, true}, Case{1, 5, 5, 17, 3, 1, 2, 0, true}}) {
    const Trial t({{s.n, s.h, s.w, s.c}}, [&](Graph& g, const auto& x) {
      return conv2d(g, x[0], "conv", s.o, s.k, {s.stride, true, s.pad, s.same});
    });
    // SAME: ceil(h / stride) outputs, the odd pixel of padding below and right.
    const auto outputs = [&](Index v) { return s.same ? (v + s.stride - 1) / s.stride : (v + 2 * s.pad - s.k) / s.stride + 1; };
    const auto before = [&](Index v) { return s.same ? std::max<Index>((outputs(v) - 1) * s.stride + s.k - v, 0) / 2 : s.pad; };
    const Index ho = outputs(s.h), wo = outputs(s.w);
    REQUIRE(t.shape == Shape{s.n, ho, wo, s.o});
    Numbers e;
    for (Index i = 0; i < s.n; ++i)
      for (Index y = 0; y < ho; ++y)
        for (Index x = 0; x < wo; ++x)
          for (Index o = 0; o < s.o; ++o) {
            double sum = t.parameter("conv.bias", o);
            for (Index c = 0; c < s.c; ++c)
              for (Index p = 0; p < s.k; ++p)
                for (Index q = 0; q < s.k; ++q) {
                  const Index a = y * s.stride + p - before(s.h), b = x * s.stride + q - before(s.w);
                  if (a < 0 || a >= s.h || b < 0 || b >= s.w) continue;
                  sum += t.x[0][static_cast<size_t>(((i * s.h + a) * s.w + b) * s.c + c)] *
                         t.parameter("conv.weight", ((o * s.c + c) * s.k + p) * s.k + q);
                }
            e.push_back(sum);
          }
    t.equals(e);
  }
}

TEST_CASE("filter response normalisation") {
  const Index n = 3, hw = 35, c = 19;
  const Trial t({{n, 5, 7, c}}, [](Graph& g, const auto& x) { return frn(g, x[0], "norm"); });
  Numbers e(t.y.size());
  for (Index i = 0; i < n; ++i)
    for (Index k = 0; k < c; ++k) {
      double square = 0;
      const auto at = [&](Index p) { return static_cast<size_t>((i * hw + p) * c + k); };
      for (Index p = 0; p < hw; ++p) square += t.x[0][at(p)] * t.x[0][at(p)] / static_cast<double>(hw);
      for (Index p = 0; p < hw; ++p)
        e[at(p)] = std::max(t.parameter("norm.gamma", k) * t.x[0][at(p)] / std::sqrt(square + 1e-6) + t.parameter("norm.beta", k),
                            t.parameter("norm.tau", k));
    }
  t.equals(e);
}

TEST_CASE("activations, add and flatten") {
  const std::pair<Node (*)(Graph&, Node), double (*)(double)> all[] = {
      {relu, [](double v) { return std::max(v, 0.); }},
      {silu, [](double v) { return v / (1 + std::exp(-v)); }},
      {varion::tanh, [](double v) { return std::tanh(v); }},
      {gelu, [](double v) { return 0.5 * v * (1 + std::erf(v / std::sqrt(2.))); }}};
  for (const auto& [op, point] : all)
    for (const Index size : {Index(1), Index(7), Index(597)}) {
      const Trial t({{size, 3}}, [f = op](Graph& g, const auto& x) { return f(g, x[0]); });
      Numbers e;
      for (const double v : t.x[0]) e.push_back(point(v));
      t.equals(e);
    }
  const Trial sum({{5, 3}, {5, 3}}, [](Graph& g, const auto& x) { return add(g, x[0], x[1]); });
  Numbers e;
  for (size_t i = 0; i < 15; ++i) e.push_back(sum.x[0][i] + sum.x[1][i]);
  sum.equals(e);
  const Trial flat({{2, 3, 5, 4}}, [](Graph& g, const auto& x) { return flatten(g, x[0]); });
  e.clear();
  for (size_t i = 0; i < 2; ++i)
    for (size_t c = 0; c < 4; ++c)
      for (size_t p = 0; p < 15; ++p) e.push_back(flat.x[0][(i * 15 + p) * 4 + c]);
  flat.equals(e, 0);
}

TEST_CASE("a number that is none goes through ReLU and pooling, wherever it stands") {
  Layout layout;
  Graph g(layout);
  const Node x = g.input({1, 2, 2, 1}), y = max_pool(g, relu(g, x), 2, 2);
  g.output(y);
  g.finish(false);
  const Exec exec;
  Replay replay(g, exec);
  for (size_t k = 0; k < 4; ++k) {
    std::vector<Real> values(4, 1);
    values[k] = std::nanf("");
    Kokkos::deep_copy(replay.value(x), Kokkos::View<const Real*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(values.data(), 4));
    replay.forward();
    CHECK(std::isnan(Trial::numbers(replay.value(y))[0]));
  }
}

TEST_CASE("pooling") {
  for (const auto& [h, w, k, stride] : {std::array<Index, 4>{4, 4, 2, 2}, {7, 5, 3, 2}, {5, 6, 2, 1}, {3, 3, 3, 3}}) {
    for (const bool largest : {true, false}) {
      const Trial t({{2, h, w, 3}}, [&, k = k, stride = stride](Graph& g, const auto& x) {
        return largest ? max_pool(g, x[0], k, stride) : avg_pool(g, x[0], k, stride);
      });
      Numbers e;
      for (Index i = 0; i < 2; ++i)
        for (Index y = 0; y + k <= h; y += stride)
          for (Index x = 0; x + k <= w; x += stride)
            for (Index c = 0; c < 3; ++c) {
              double sum = 0, best = -1e300;
              for (Index p = 0; p < k; ++p)
                for (Index q = 0; q < k; ++q) {
                  const double v = t.x[0][static_cast<size_t>(((i * h + y + p) * w + x + q) * 3 + c)];
                  sum += v / static_cast<double>(k * k);
                  best = std::max(best, v);
                }
              e.push_back(largest ? best : sum);
            }
      t.equals(e);
    }
  }
  const Trial t({{3, 5, 7, 11}}, [](Graph& g, const auto& x) { return global_avg_pool(g, x[0]); });
  Numbers e;
  for (size_t i = 0; i < 3; ++i)
    for (size_t c = 0; c < 11; ++c) {
      double sum = 0;
      for (size_t p = 0; p < 35; ++p) sum += t.x[0][(i * 35 + p) * 11 + c] / 35;
      e.push_back(sum);
    }
  t.equals(e);
}

TEST_CASE("dropout keeps the share it should, scales it, and is off in evaluation") {
  const auto build = [](Graph& g, const std::vector<Node>& x) { return dropout(g, x[0], Real(0.3)); };
  const Trial off({{50, 401}}, build), on({{50, 401}}, build, -1, 1, true), again({{50, 401}}, build, -1, 1, true);
  off.equals(off.x[0], 0);
  const auto keeps = [](Index node, size_t i) {
    const auto at = static_cast<Index>(i);
    return unit_interval(RandomKey::make(1, Stream::dropout, 3).words((node << 32) + at / 4).w[at % 4]) >= Real(0.3);
  };
  double kept = 0;
  long other = 0;
  for (size_t i = 0; i < on.y.size(); ++i) {
    kept += on.y[i] != 0;
    other += (on.y[i] != 0) != keeps(0, i);
    CHECK((on.y[i] == 0 || std::abs(on.y[i] - on.x[0][i] / 0.7) < 1e-5 * (1 + std::abs(on.y[i]))));
  }
  CHECK(kept / static_cast<double>(on.y.size()) == Approx(0.7).margin(0.02));  // six standard deviations
  CHECK(on.y == again.y);
  // A node behind another has a mask of its own.
  const Trial two({{50, 401}}, [&](Graph& g, const auto& x) { return dropout(g, build(g, x), Real(0.3)); }, -1, 1, true);
  for (size_t i = 0; i < two.y.size(); ++i) other += (two.y[i] != 0) != (keeps(0, i) && keeps(1, i));
  CHECK(other == 0);
}

TEST_CASE("losses") {
  for (const auto& [n, c] : {std::array<Index, 2>{1, 1}, {3, 2}, {37, 10}, {5, 1003}}) {
    const Trial t({{n, c}, {n}}, [](Graph& g, const auto& x) { return cross_entropy(g, x[0], x[1]); }, 1, static_cast<int>(c));
    double loss = 0;
    for (Index i = 0; i < n; ++i) {
      double sum = 0;
      for (Index k = 0; k < c; ++k) sum += std::exp(t.x[0][static_cast<size_t>(i * c + k)]);
      loss += (std::log(sum) - t.x[0][static_cast<size_t>(i * c) + static_cast<size_t>(t.x[1][static_cast<size_t>(i)])]) / static_cast<double>(n);
    }
    t.equals({loss});
  }
  const Trial squares({{7, 3}, {7, 3}}, [](Graph& g, const auto& x) { return mean_squared_error(g, x[0], x[1]); });
  double mse = 0;
  for (size_t i = 0; i < 21; ++i) mse += std::pow(squares.x[0][i] - squares.x[1][i], 2) / 21;
  squares.equals({mse});
  const double tau = 6.283185307179586;
  const Trial fixed({{9, 1}, {9, 1}}, [](Graph& g, const auto& x) { return gaussian_nll_fixed(g, x[0], x[1], Real(0.7)); });
  double nll = 0;
  for (size_t i = 0; i < 9; ++i)
    nll += (0.5 * std::pow((fixed.x[0][i] - fixed.x[1][i]) / 0.7, 2) + std::log(0.7) + 0.5 * std::log(tau)) / 9;
  fixed.equals({nll});
  const Trial free({{9, 2}, {9, 1}}, [](Graph& g, const auto& x) { return gaussian_nll(g, x[0], x[1]); });
  nll = 0;
  for (size_t i = 0; i < 9; ++i) {
    const double sigma = softplus(free.x[0][2 * i + 1]) + 1e-6;
    nll += (0.5 * std::pow((free.x[0][2 * i] - free.x[1][i]) / sigma, 2) + std::log(sigma) + 0.5 * std::log(tau)) / 9;
  }
  free.equals({nll});
}
