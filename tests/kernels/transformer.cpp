// The transformer's kernels against plain loops in double on the host, on awkward sizes; both forms of attention and of the
// token table's gradient, which a host and a GPU run.
#include <cmath>

#include "backends/portable/portable.hpp"
#include "core/vector_math.hpp"
#include "ops/embedding.hpp"
#include "ops/ops.hpp"
#include "support/attention.hpp"
#include "support/catch.hpp"
#include "support/vectors.hpp"

using namespace varion;

namespace {
using Numbers = std::vector<double>;

/// Both forms against the definitions, and twice the same bits.
void check_attention(const backend::Attention& s) {
  const Exec exec;
  const Vec qkv = draw(1, s.rows() * s.pitch()), dy = draw(2, s.rows() * s.heads * s.width);
  const AttentionReference expected(s, host(qkv), host(dy));
  for (const backend::Provider* provider : {&backend::portable(), &backend::portable_teams()}) {
    INFO(s.batch << " x " << s.length << ", " << s.heads << " heads of " << s.width << (s.causal ? ", causal, " : ", ")
                 << provider->name());
    const Vec y = poisoned(s.rows() * s.heads * s.width), log_sum = poisoned(s.rows() * s.heads);
    const Vec scratch = poisoned(std::max({Index(1), provider->attention_scratch(s, false), provider->attention_scratch(s, true)}));
    provider->attention_forward(exec, s, qkv, y, log_sum, scratch);
    CHECK(difference(host(y), expected.y) < 3e-6);
    CHECK(difference(host(log_sum), expected.log_sum) < 3e-6);
    const Vec dqkv = poisoned(s.rows() * s.pitch());
    provider->attention_backward(exec, s, qkv, y, dy, log_sum, false, dqkv, scratch);
    CHECK(difference(host(dqkv), expected.dqkv) < 1e-5);
    const Numbers once = host(dqkv);
    provider->attention_backward(exec, s, qkv, y, dy, log_sum, true, dqkv, scratch);
    Numbers twice = host(dqkv);
    for (double& v : twice) v /= 2;
    CHECK(difference(twice, once) < 1e-6);
    const Vec again = poisoned(s.rows() * s.heads * s.width);
    provider->attention_forward(exec, s, qkv, again, log_sum, scratch);
    CHECK(host(again) == host(y));
    provider->attention_backward(exec, s, qkv, y, dy, log_sum, false, dqkv, scratch);
    CHECK(host(dqkv) == once);
  }
}
}  // namespace

TEST_CASE("attention equals its definition, by tiles and by teams") {
  for (const bool causal : {true, false}) {
    for (const auto& [batch, length, heads, width] :
         {std::array<Index, 4>{1, 1, 1, 1}, {2, 7, 3, 5}, {1, 65, 2, 16}, {2, 130, 1, 33}, {3, 16, 2, 64}})
      check_attention({batch, length, heads, width, causal});
    // Enough items that a GPU's teams take their highest tiles.
    if (!kSanitized) check_attention({70, 66, 4, 64, causal});
    check_attention({70, 113, 4, 8, causal});
  }
  const backend::Attention nothing{0, 4, 1, 4, true};
  CHECK_THROWS_AS(backend::portable().attention_scratch(nothing, false), Error);
}

TEST_CASE("attention over the edges of its tiles") {
  using Sizes = std::vector<Index>;
  for (const Index length : kSanitized ? Sizes{1, 17, 33, 64, 81} : Sizes{1, 16, 17, 31, 32, 33, 63, 64, 65, 80, 81, 127, 130, 200})
    for (const Index width : kSanitized ? Sizes{5, 64, 136} : Sizes{5, 16, 24, 64, 80, 128, 136})
      for (const bool causal : {true, false}) check_attention({1, length, 2, width, causal});
}

TEST_CASE("scores far from zero leave attention exact") {
  const backend::Attention s{1, 150, 1, 16, true};
  const Vec qkv = draw(4, s.rows() * s.pitch());
  const Exec exec;
  // Scores grow along the keys, by 1.25 a key to 186: every tile has a new greatest one.
  const auto mirror = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), qkv);
  for (size_t i = 0; i < mirror.extent(0); ++i) {
    if (i % 48 / 16 == 0) mirror(i) = 10;
    if (i % 48 / 16 == 1) mirror(i) = static_cast<Real>(i / 48) / 32;
  }
  Kokkos::deep_copy(qkv, mirror);
  const AttentionReference expected(s, host(qkv), Numbers(150 * 16, 0));
  for (const backend::Provider* provider : {&backend::portable(), &backend::portable_teams()}) {
    INFO(provider->name());
    const Vec y = poisoned(150 * 16), log_sum = poisoned(150);
    const Vec scratch = poisoned(std::max<Index>(1, provider->attention_scratch(s, false)));
    provider->attention_forward(exec, s, qkv, y, log_sum, scratch);
    CHECK(difference(host(y), expected.y) < 3e-6);
    CHECK(difference(host(log_sum), expected.log_sum) < 3e-6);
  }
}

TEST_CASE("a position sees nothing behind it") {
  const backend::Attention s{1, 70, 2, 8, true};
  const Exec exec;
  const auto size = [](Index n) { return static_cast<size_t>(n); };
  for (const backend::Provider* provider : {&backend::portable(), &backend::portable_teams()})
    for (const Index cut : {20, 64}) {
      INFO(provider->name() << " at " << cut);
      const Vec qkv = draw(3, s.rows() * s.pitch()), y = poisoned(s.rows() * 16), again = poisoned(s.rows() * 16), l = poisoned(s.rows() * 2);
      const Vec scratch("varion::test::scratch", size(provider->attention_scratch(s, false)));
      provider->attention_forward(exec, s, qkv, y, l, scratch);
      const auto mirror = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), qkv);
      for (Index i = cut * s.pitch(); i < s.rows() * s.pitch(); ++i) mirror(size(i)) = 9;
      Kokkos::deep_copy(qkv, mirror);
      provider->attention_forward(exec, s, qkv, again, l, scratch);
      const Numbers a = host(y), b = host(again);
      CHECK(Numbers(a.begin(), a.begin() + cut * 16) == Numbers(b.begin(), b.begin() + cut * 16));
      CHECK(a != b);
    }
}

TEST_CASE("the gradient of a token table is added in the tokens' order, by columns and by sorted runs") {
  for (const auto& [rows, width, words] : {std::array<Index, 3>{1, 1, 1}, {50, 67, 7}, {129, 130, 1000}}) {
    const IntVec token("varion::test::token", static_cast<size_t>(rows));
    const auto mirror = Kokkos::create_mirror_view(token);
    for (Index n = 0; n < rows; ++n) mirror(static_cast<size_t>(n)) = static_cast<std::int32_t>((n * 5 + n * n) % words);
    Kokkos::deep_copy(token, mirror);
    const Vec dy = draw(4, rows * width), start = draw(5, words * width);
    std::vector<float> expected(start.extent(0));
    const auto from = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), dy);
    const auto first = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), start);
    std::copy(first.data(), first.data() + first.extent(0), expected.begin());
    for (Index n = 0; n < rows; ++n)
      for (Index d = 0; d < width; ++d)
        expected[static_cast<size_t>(mirror(static_cast<size_t>(n)) * width + d)] += from(static_cast<size_t>(n * width + d));
    for (const bool sorted : {false, true}) {
      const Vec table("varion::test::table", start.extent(0));
      Kokkos::deep_copy(table, start);
      if (sorted) token_gradient_sorted(Exec(), rows, width, token, dy, table, poisoned(token_gradient_words(rows)));
      else token_gradient_columns(Exec(), rows, width, token, dy, table);
      const auto got = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), table);
      CHECK(std::equal(expected.begin(), expected.end(), got.data()));
    }
  }
}

TEST_CASE("vectors of exp and of the normal distribution are as good as they say") {
  double worst = 0, below = 0, density = 0;
  for (double x = -87; x < 88; x += 0.0037) {
    const float v = static_cast<float>(x);
    worst = std::max(worst, std::abs(static_cast<double>(exp_lane(v)) / std::exp(static_cast<double>(v)) - 1));
  }
  CHECK(worst < 1.3e-7);
  for (double x = -12; x < 12; x += 0.0013) {
    const float v = static_cast<float>(x);
    float d = 0, b = 0;
    normal_lane(v, d, b);
    const double exact = 0.5 * std::erfc(-static_cast<double>(v) / std::sqrt(2.0));
    below = std::max(below, std::abs(static_cast<double>(b) / exact - 1));
    density = std::max(density, std::abs(static_cast<double>(d) / (0.3989422804014327 * std::exp(-0.5 * static_cast<double>(v) * static_cast<double>(v))) - 1));
  }
  double near = 0, near_density = 0;
  for (double x = -5.5; x < 12; x += 0.0013) {
    const float v = static_cast<float>(x);
    float d = 0, b = 0;
    normal_near(v, d, b);
    near = std::max(near, std::abs(static_cast<double>(b) / (0.5 * std::erfc(-static_cast<double>(v) / std::sqrt(2.0))) - 1));
    near_density = std::max(near_density, std::abs(static_cast<double>(d) / (0.3989422804014327 * std::exp(-0.5 * static_cast<double>(v) * static_cast<double>(v))) - 1));
  }
  CHECK(near < 2.5e-4);
  CHECK(near_density < 6e-6);
  float d = 0, b = 0;
  normal_near(-20, d, b);
  CHECK((b >= 0 && b < 2e-8));
  normal_near(std::nanf(""), d, b);
  CHECK(std::isnan(b));
  CHECK(below < 6e-6);  // the square in the exponent loses bits in the tail
  CHECK(density < 6e-6);
  CHECK(exp_lane(-1e30f) == 0);
  CHECK(exp_lane(-std::numeric_limits<float>::infinity()) == 0);
  CHECK(std::isfinite(exp_lane(1e30f)));
  CHECK(std::isnan(exp_lane(std::nanf(""))));
}

TEST_CASE("GELU by tanh and its slope equal their formulas") {
  for (const Index size : {1, 7, 33, 597}) {
    Layout layout;
    Graph g(layout);
    const Node x = g.input({size, 1}, false, true), y = gelu_tanh(g, x), target = g.input({size, 1});
    const Node loss = mean_squared_error(g, y, target);
    for (const Node n : {y, loss}) g.output(n);
    g.finish(true);
    Replay p(g, Exec());
    p.loss_scale = Real(0.5) * static_cast<Real>(size);  // dy = y - target
    const Vec points = draw(7, size), targets = draw(8, size);
    const auto mirror = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), points);
    for (size_t i = 0; i < mirror.extent(0); ++i) mirror(i) *= 4;  // into both tails
    Kokkos::deep_copy(points, mirror);
    Kokkos::deep_copy(p.value(x), points);
    Kokkos::deep_copy(p.value(target), targets);
    p.forward();
    const Numbers got = host(p.value(y)), at_x = host(points), t = host(targets);
    p.backward(loss);
    Numbers expected, slope;
    for (size_t i = 0; i < at_x.size(); ++i) {
      const double v = at_x[i], share = 0.7978845608028654, h = std::tanh(share * (v + 0.044715 * v * v * v));
      expected.push_back(0.5 * v * (1 + h));
      const double dy = expected[i] - t[i];
      slope.push_back(dy * (0.5 * (1 + h) + 0.5 * v * (1 - h * h) * share * (1 + 3 * 0.044715 * v * v)));
    }
    CHECK(difference(got, expected) < 3e-6);
    CHECK(difference(host(p.grad_of(x)), slope) < 1e-5);
  }
}

TEST_CASE("the tied head's loss and its gradients equal their definitions, whichever rows have a target") {
  for (const Index rows : {1, 7, 33})
    for (const Index width : {1, 5, 17})
      for (const Index classes : {3, 65})
        for (const bool masked : {false, true}) {
          INFO(rows << " rows of " << width << ", " << classes << " classes" << (masked ? ", every third row masked" : ""));
          Layout layout;
          Graph g(layout);
          g.parameter("table", {classes, width}, {});
          const Node x = g.input({rows, width}, false, true), target = g.input({rows}, true);
          const Node loss = tied_cross_entropy(g, x, "table", target);
          g.output(loss);
          g.finish(true);
          const Vec weights = draw(9, layout.size()), gradient = poisoned(layout.size()), points = draw(10, rows * width);
          Replay p(g, Exec());
          p.weights = weights;
          p.gradient = gradient;
          p.loss_scale = 3;
          const auto targets = Kokkos::create_mirror_view(p.ints(target));
          for (Index n = 0; n < rows; ++n) targets(at(n)) = masked && n % 3 == 1 ? -1 : static_cast<std::int32_t>((5 * n + 2) % classes);
          Kokkos::deep_copy(p.ints(target), targets);
          Kokkos::deep_copy(p.value(x), points);
          p.forward();
          const double got = host(p.value(loss))[0];
          p.backward(loss);

          const Numbers a = host(points), w = host(weights);
          double count = 0, sum = 0;
          for (Index n = 0; n < rows; ++n) count += masked && n % 3 == 1 ? 0 : 1;
          Numbers dx(a.size()), dw(w.size());
          for (Index n = 0; n < rows; ++n) {
            if (masked && n % 3 == 1) continue;
            const Index wanted = (5 * n + 2) % classes;
            Numbers power(at(classes));
            double all = 0;
            for (Index c = 0; c < classes; ++c) {
              double logit = 0;
              for (Index k = 0; k < width; ++k) logit += a[at(n * width + k)] * w[at(c * width + k)];
              all += power[at(c)] = std::exp(logit);
            }
            sum -= std::log(power[at(wanted)] / all);
            for (Index c = 0; c < classes; ++c) {
              const double slope = 3 / count * (power[at(c)] / all - (c == wanted ? 1 : 0));
              for (Index k = 0; k < width; ++k) {
                dx[at(n * width + k)] += slope * w[at(c * width + k)];
                dw[at(c * width + k)] += slope * a[at(n * width + k)];
              }
            }
          }
          CHECK(got == Approx(sum / count).epsilon(1e-5));
          CHECK(difference(host(p.grad_of(x)), dx) < 1e-5);
          CHECK(difference(host(gradient), dw) < 1e-5);
        }
}

TEST_CASE("rows without a target count for nothing") {
  Layout layout;
  Graph g(layout);
  const Node tokens = g.input({4}, true), target = g.input({4}, true), x = g.input({4, 3}, false, true);
  const Node loss = tied_cross_entropy(g, add(g, embedding(g, tokens, "t", {5, 4, 3, 4, 1}), x), "t.wte.weight", target);
  g.output(loss);
  g.finish(true);
  const Vec weights = draw(6, layout.size()), gradient("varion::test::gradient", static_cast<size_t>(layout.size()));
  Replay p(g, Exec());
  p.weights = weights;
  p.gradient = gradient;
  const auto run = [&](const std::array<int, 4>& targets) {
    const auto mirror = Kokkos::create_mirror_view(p.ints(target));
    for (size_t i = 0; i < 4; ++i) mirror(i) = targets[i];
    Kokkos::deep_copy(p.ints(target), mirror);
    Kokkos::deep_copy(p.ints(tokens), 2);
    Kokkos::deep_copy(p.value(x), Real(0.25));
    p.forward();
    p.backward(loss);
    return std::pair(host(p.value(loss))[0], host(p.grad_of(x)));
  };
  const auto [half, slope] = run({1, -1, 3, -1});
  CHECK(Numbers(slope.begin() + 3, slope.begin() + 6) == Numbers(3));
  CHECK(Numbers(slope.begin() + 9, slope.end()) == Numbers(3));
  const double one = run({1, -1, -1, -1}).first, three = run({-1, -1, 3, -1}).first;
  CHECK(half == Approx((one + three) / 2));
  CHECK(run({-1, -1, -1, -1}).first == 0);
}
