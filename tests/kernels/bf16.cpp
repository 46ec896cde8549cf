// Activations in bfloat16: rounding, the kernels that read and write it, products and attention of the providers that take it, and whole
// networks beside the same in float32. Hosts have no such products: here plain loops stand in for them, so that all else is tested.
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "backends/backend.hpp"
#include "models/transformer.hpp"
#include "ops/column_sum.hpp"
#include "ops/layer_norm.hpp"
#include "ops/ops.hpp"
#include "support/attention.hpp"
#include "support/catch.hpp"
#include "support/vectors.hpp"

using namespace varion;

namespace {
using Numbers = std::vector<double>;

Numbers host_of(const ConstBf16Vec& v) {
  const auto h = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), v);
  Numbers out(v.extent(0));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<Real>(h(i));
  return out;
}
Bf16Vec rounded(const ConstVec& v) {
  const Bf16Vec out("varion::test::rounded", v.extent(0));
  const auto from = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), v);
  const auto to = Kokkos::create_mirror_view(out);
  for (size_t i = 0; i < v.extent(0); ++i) to(i) = from(i);
  Kokkos::deep_copy(out, to);
  return out;
}
Bf16Vec poisoned_bf16(Index n) { return rounded(poisoned(n)); }
Vec widened(const ConstBf16Vec& v) {
  const Vec out("varion::test::widened", v.extent(0));
  const auto to = Kokkos::create_mirror_view(out);
  const Numbers all = host_of(v);
  for (size_t i = 0; i < all.size(); ++i) to(i) = static_cast<Real>(all[i]);
  Kokkos::deep_copy(out, to);
  return out;
}

/// Plain loops on a host, sums in double.
class PlainBf16 final : public backend::PortableConvolution {
 public:
  std::string name() const override { return "plain_bf16"; }
  std::string description() const override { return "loops of a test"; }
  void gemm(const Exec& exec, bool ta, bool tb, Index m, Index n, Index k, ConstVec a, ConstVec b, bool add, Vec c) const override {
    backend::portable().gemm(exec, ta, tb, m, n, k, a, b, add, c);
  }
  void gemm_batched(const Exec& exec, bool ta, bool tb, Index batch, Index m, Index n, Index k, ConstVec a, Index sa, ConstVec b, Index sb, bool add,
                    Vec c, Index sc) const override {
    backend::portable().gemm_batched(exec, ta, tb, batch, m, n, k, a, sa, b, sb, add, c, sc);
  }
  bool takes_bf16() const override { return true; }
  void gemm_bf16(const Exec&, bool ta, bool tb, Index m, Index n, Index k, const backend::Matrix& a, const backend::Matrix& b, bool add,
                 const backend::Matrix& c) const override {
    const auto get = [](const backend::Matrix& f, Index i) {
      return f.bf16 ? static_cast<Real>(static_cast<const Bfloat16*>(f.data)[i]) : static_cast<const Real*>(f.data)[i];
    };
    const auto factor = [&](const backend::Matrix& f, Index i) { return static_cast<double>(static_cast<Real>(Bfloat16(get(f, i)))); };
    for (Index i = 0; i < m; ++i)
      for (Index j = 0; j < n; ++j) {
        double sum = add ? get(c, i * c.pitch + j) : 0;
        for (Index q = 0; q < k; ++q) sum += factor(a, ta ? q * a.pitch + i : i * a.pitch + q) * factor(b, tb ? j * b.pitch + q : q * b.pitch + j);
        void* const to = const_cast<void*>(c.data);
        if (c.bf16) static_cast<Bfloat16*>(to)[i * c.pitch + j] = static_cast<Real>(sum);
        else static_cast<Real*>(to)[i * c.pitch + j] = static_cast<Real>(sum);
      }
  }
  bool attends_bf16(const backend::Attention& s) const override { return s.width % 4 == 0; }
  void attention_forward_bf16(const Exec& exec, const backend::Attention& s, ConstBf16Vec qkv, Bf16Vec y, Vec log_sum) const override {
    const Vec out("varion::test::y", y.extent(0));
    backend::portable().attention_forward(exec, s, widened(qkv), out, log_sum, scratch(s));
    Kokkos::deep_copy(y, rounded(out));
  }
  void attention_backward_bf16(const Exec& exec, const backend::Attention& s, ConstBf16Vec qkv, ConstBf16Vec y, ConstBf16Vec dy,
                               ConstVec log_sum, bool add, Bf16Vec dqkv, Vec) const override {
    const Vec out = add ? widened(dqkv) : Vec("varion::test::dqkv", dqkv.extent(0));
    backend::portable().attention_backward(exec, s, widened(qkv), widened(y), widened(dy), log_sum, add, out, scratch(s));
    Kokkos::deep_copy(dqkv, rounded(out));
  }

 private:
  static Vec scratch(const backend::Attention& s) {
    const Index words = std::max({Index(1), backend::portable().attention_scratch(s, false), backend::portable().attention_scratch(s, true)});
    return Vec("varion::test::scratch", static_cast<size_t>(words));
  }
};

/// Until the end of a test: bf16 where the build has it, else the plain loops. False where neither can be.
struct UsingBf16 {
  bool can = kHostExec || (backend::rounds_factors() && backend::provider().takes_bf16());
  std::string before = backend::provider().name();
  UsingBf16() {
    static const PlainBf16 plain;
    if (kHostExec) backend::use_provider(plain);
    else if (can) backend::use_precision("bf16", "test");
  }
  ~UsingBf16() {
    if (kHostExec) backend::use_provider(before);
    else backend::use_precision("fp32", "test");
  }
};

/// The norm of the difference over the norm; what is no number is infinitely far.
double apart(const Numbers& a, const Numbers& b) {
  REQUIRE(a.size() == b.size());
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i])) return INFINITY;
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return size == 0 ? std::sqrt(difference) : std::sqrt(difference / size);
}
Numbers times(Numbers v, double by) {
  for (double& x : v) x *= by;
  return v;
}
Numbers rounded(Numbers v) {
  for (double& x : v) x = static_cast<Real>(Bfloat16(static_cast<Real>(x)));
  return v;
}
}  // namespace

TEST_CASE("bfloat16 rounds to nearest, ties to even") {
  const auto bits_of = [](Real x) { return Bfloat16(x).bits; };
  const auto real = [](std::uint32_t word) {
    Real x;
    std::memcpy(&x, &word, sizeof x);
    return x;
  };
  bool kept = true, nearest = true;
  for (std::uint32_t upper = 0; upper < 0x10000; ++upper) {
    const Real x = real(upper << 16);
    kept = kept && (std::isnan(x) ? std::isnan(static_cast<Real>(Bfloat16(x))) : bits_of(x) == upper);
    if (!std::isfinite(x)) continue;
    // Below half of the last place down, above it up, half to the even one; from the largest up is infinity.
    nearest = nearest && bits_of(real(upper << 16 | 0x7fff)) == upper && bits_of(real(upper << 16 | 0x8001)) == upper + 1 &&
              bits_of(real(upper << 16 | 0x8000)) == upper + (upper & 1);
  }
  CHECK(kept);
  CHECK(nearest);
  CHECK(std::isnan(static_cast<Real>(Bfloat16(real(0x7fffffff)))));
  CHECK(std::isnan(static_cast<Real>(Bfloat16(real(0xff800001)))));
  CHECK(static_cast<Real>(Bfloat16(std::numeric_limits<Real>::max())) == std::numeric_limits<Real>::infinity());
}

TEST_CASE("products of matrices in bfloat16 and float32") {
  const UsingBf16 now;
  if (!now.can) return;
  const auto& p = backend::provider();
  // `wide`: numbers between rows beyond their own, of those in bfloat16.
  for (const auto& [m, n, k, wide] : {std::array<Index, 4>{1, 1, 1, 0}, {7, 33, 5, 0}, {64, 16, 64, 0}, {130, 70, 200, 0}, {65, 129, 72, 3}, {24, 40, 16, 8}})
    for (int form = 0; form < 8; ++form)
      for (int kinds = 1; kinds < 8; ++kinds) {
        const bool ta = form & 1, tb = form & 2, add = form & 4;
        const std::array<bool, 3> bf16{(kinds & 1) != 0, (kinds & 2) != 0, (kinds & 4) != 0};
        INFO(p.name() << " m " << m << " n " << n << " k " << k << " form " << form << " kinds " << kinds);
        const std::array<Index, 3> rows{ta ? k : m, tb ? n : k, m}, columns{ta ? m : k, tb ? k : n, n};
        std::array<Index, 3> pitch{};
        std::array<Vec, 3> plain;
        std::array<Bf16Vec, 3> small;
        std::array<Numbers, 3> values;
        for (size_t i = 0; i < 3; ++i) {
          pitch[i] = columns[i] + (bf16[i] ? wide : 0);
          plain[i] = i == 2 && !add ? poisoned(rows[i] * pitch[i]) : draw(i + 1, rows[i] * pitch[i]);
          small[i] = rounded(plain[i]);
          values[i] = i < 2 || bf16[i] ? host_of(small[i]) : host(plain[i]);
        }
        const auto matrix = [&](size_t i) { return bf16[i] ? backend::Matrix(small[i], pitch[i]) : backend::Matrix(plain[i], pitch[i]); };
        p.gemm_bf16(Exec(), ta, tb, m, n, k, matrix(0), matrix(1), add, matrix(2));
        Exec().fence();
        const Numbers got = bf16[2] ? host_of(small[2]) : host(plain[2]);
        double worst = 0;
        bool gaps_kept = true;
        for (Index i = 0; i < m; ++i)
          for (Index j = 0; j < pitch[2]; ++j) {
            const size_t to = at(i * pitch[2] + j);
            if (j >= n) {
              gaps_kept = gaps_kept && (got[to] == values[2][to] || (std::isnan(got[to]) && std::isnan(values[2][to])));
              continue;
            }
            double sum = add ? values[2][to] : 0, size = std::abs(sum);
            for (Index q = 0; q < k; ++q) {
              const double t = values[0][at(ta ? q * pitch[0] + i : i * pitch[0] + q)] * values[1][at(tb ? j * pitch[1] + q : q * pitch[1] + j)];
              sum += t;
              size += std::abs(t);
            }
            // Where C is added to, a library may round the product first.
            const double bound = 2e-6 * (1 + size) + (bf16[2] ? (add ? 2 * size : std::abs(sum)) / 250 : 0), error = std::abs(got[to] - sum);
            worst = std::isnan(error) ? INFINITY : std::max(worst, error / bound);
          }
        CHECK(worst <= 1);
        CHECK(gaps_kept);
      }
}

// Tolerance, of the norm: factors are the same on both sides; probabilities (2^-9) and what is written are rounded.
TEST_CASE("attention in bfloat16") {
  const UsingBf16 now;
  if (!now.can) return;
  const auto& p = backend::provider();
  for (const Index length : {1, 17, 63, 64, 65, 130, 200})
    for (const auto& [batch, heads, width] : {std::array<Index, 3>{2, 3, 16}, {1, 2, 32}, {2, 2, 64}, {1, 2, 128}})
      for (const bool causal : {false, true}) {
        const backend::Attention s{batch, length, heads, width, causal};
        INFO(p.name() << ": " << batch << " of " << length << ", " << heads << " heads of " << width << (causal ? ", causal" : ""));
        REQUIRE(p.attends_bf16(s));
        const Bf16Vec qkv = rounded(draw(1, s.rows() * s.pitch())), dy = rounded(draw(2, s.rows() * heads * width));
        const AttentionReference expected(s, host_of(qkv), host_of(dy));
        const Exec exec;
        const Bf16Vec y = poisoned_bf16(s.rows() * heads * width), dqkv = poisoned_bf16(s.rows() * s.pitch());
        const Vec logs = poisoned(s.rows() * heads), scratch = poisoned(std::max<Index>(1, p.attention_scratch(s, true)));
        const auto run = [&](bool add) {
          p.attention_forward_bf16(exec, s, qkv, y, logs);
          p.attention_backward_bf16(exec, s, qkv, y, dy, logs, add, dqkv, scratch);
          exec.fence();
        };
        run(false);
        const Numbers once_y = host_of(y), once = host_of(dqkv);
        CHECK(apart(once_y, expected.y) < 6e-3);
        CHECK(apart(host(logs), expected.log_sum) < 1e-5);
        CHECK(apart(once, expected.dqkv) < 1e-2);
        run(true);
        CHECK(apart(host_of(dqkv), times(once, 2)) < 4e-3);
        run(false);
        CHECK((host_of(dqkv) == once && host_of(y) == once_y));
      }
}

TEST_CASE("column sums of bfloat16 are those of the same numbers in float32") {
  for (const auto& [rows, columns] : {std::array<Index, 2>{1, 1}, {63, 17}, {1500, 33}, {513, 16}}) {
    const Bf16Vec dy = rounded(draw(1, rows * columns));
    const Vec scratch = poisoned(std::max<Index>(1, column_sum_words(rows, columns))), sum = poisoned(columns), wide = poisoned(columns);
    any_column_sum(Exec(), rows, columns, dy, {sum, false}, scratch);
    column_sum(Exec(), rows, columns, widened(dy), {wide, false}, scratch);
    Exec().fence();
    CHECK(host(sum) == host(wide));
  }
}

TEST_CASE("layer norm's gradients from one in bfloat16 are those from the same numbers in float32") {
  struct Sizes {
    Index rows, width;
  };
  const Exec exec;
  for (const Sizes& f : {Sizes{70, 33}, Sizes{70, 32}, Sizes{5, 768}}) {
    const Index chunks = layer_norm_chunks(f.rows);
    const Vec x = draw(1, f.rows * f.width), gamma = draw(2, f.width), mean = draw(3, f.rows), r = draw(4, f.rows);
    const Bf16Vec dy = rounded(draw(5, f.rows * f.width));
    for (const bool by_rows : {false, true}) {
      const auto run = [&](const AnyVec& above) {
        const Vec dx = poisoned(f.rows * f.width), part = poisoned(2 * chunks * f.width);
        (by_rows ? layer_norm_backward_rows : layer_norm_backward)(exec, f.rows, f.width, x, gamma, mean, r, above, true, true, {dx, false}, part);
        exec.fence();
        return std::pair(host(dx), host(part));
      };
      CHECK(run(dy) == run(widened(dy)));
    }
  }
}

namespace {
/// What a network ends in.
enum class End { loss, terms, classes };

/// Two blocks over tokens, as the models have them.
struct Net {
  Layout layout;
  Graph graph;
  Node tokens, target, root;
  Net(bool bf16, End end, Index width, Index heads, Index rank) : graph(layout) {
    constexpr Index batch = 3, length = 21, vocabulary = 19;
    graph.keep_bf16(bf16);
    tokens = graph.input({batch, length}, true);
    target = graph.input(end == End::classes ? Shape{batch} : Shape{batch, length}, true);
    BlockOptions o{{"n1", "qkv", "proj", "n2", "fc1", "fc2"}, width, heads, length};
    o.causal = end != End::classes;
    o.by_tanh = end == End::terms;
    o.bias = end != End::terms;
    o.inner = o.added = {o.bias, false, Real(0.3)};
    o.dropped = end == End::loss ? Real(0.1) : Real(0);
    o.rank = rank;
    Node x = embedding(graph, tokens, "t", {vocabulary, length, width, length, Real(0.5)});
    for (const char* block : {"a", "b"}) x = transformer_block(graph, x, block, o);
    x = layer_norm(graph, x, "last", o.bias, o.epsilon, true);
    if (end == End::loss) {
      root = tied_cross_entropy(graph, x, "t.wte.weight", target);
    } else if (end == End::terms) {
      const Node all = tied_log_likelihood(graph, x, "t.wte.weight", target);
      root = mean_squared_error(graph, all, tied_log_likelihood(graph, x, "t.wte.weight", tokens));  // two read x
    } else {
      root = cross_entropy(graph, linear(graph, mean_token(graph, in_float32(graph, x), length), "head", 5), target);
    }
    graph.output(root);
    graph.finish(true);
  }

  struct Result {
    double loss;
    Numbers gradient;
  };
  Result run(int passes) {
    const Exec exec;
    Replay p(graph, exec);
    const Vec weights = draw(9, layout.size());
    const auto mirror = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), weights);
    for (const Parameter& q : layout.parameters()) {
      const bool gain = q.shape.rank == 1 && q.name.find(".weight") != std::string::npos;
      for (Index i = q.offset; i < q.offset + q.size(); ++i) mirror(at(i)) = gain ? 1 + mirror(at(i)) / 4 : mirror(at(i)) / 3;
    }
    Kokkos::deep_copy(weights, mirror);
    p.weights = weights;
    p.gradient = poisoned(layout.size());
    p.train = true;
    p.draw_from(RandomKey::make(3, Stream::dropout, 0));
    for (const Node n : {tokens, target}) {
      const IntVec to = p.ints(n);
      const auto h = Kokkos::create_mirror_view(to);
      for (size_t i = 0; i < to.extent(0); ++i) h(i) = static_cast<std::int32_t>((i * 7 + 3 + static_cast<size_t>(n.id)) % (n.id == target.id && to.extent(0) < 10 ? 5 : 19));
      if (n.id == target.id && to.extent(0) > 10) h(4) = h(10) = -1;
      Kokkos::deep_copy(to, h);
    }
    for (int i = 0; i < passes; ++i) {
      p.accumulate = i > 0;
      p.forward();
      p.backward(root);
    }
    exec.fence();
    return {host(p.value(root))[0], host(p.gradient)};
  }
};
}  // namespace

// A number is rounded at some ten places on its way, by 2^-9 of itself at most: gradients are off by a hundredth or a few, a term left
// out by more than a tenth.
TEST_CASE("networks with activations in bfloat16 are those in float32, rounded") {
  const UsingBf16 now;
  if (!now.can) return;
  for (const End end : {End::loss, End::terms, End::classes})
    for (const auto& [width, heads, rank] : {std::array<Index, 3>{32, 2, 0}, {15, 3, 0}, {32, 2, 3}}) {
      INFO("end " << static_cast<int>(end) << " width " << width << " rank " << rank);
      Net plain(false, end, width, heads, rank), small(true, end, width, heads, rank);
      const auto expected = plain.run(1), got = small.run(1), again = small.run(1), twice = small.run(2);
      CHECK(std::abs(got.loss - expected.loss) < 0.02 * std::abs(expected.loss));
      if (rank == 0) CHECK(got.loss != expected.loss);  // with adapters the factors of products are all that is rounded
      CHECK((again.loss == got.loss && again.gradient == got.gradient));
      CHECK(apart(twice.gradient, times(got.gradient, 2)) < 1e-3);
      if (rank == 0) CHECK(small.graph.arena_words() < plain.graph.arena_words());
      for (const Parameter& q : plain.layout.parameters()) {
        INFO(q.name);
        const auto part = [&](const Numbers& v) { return Numbers(v.begin() + q.offset, v.begin() + q.offset + q.size()); };
        CHECK(apart(part(got.gradient), part(expected.gradient)) < 0.08);
      }
    }
}

namespace {
/// Forward and backward with drawn weights and input.
void run_on(Replay& p, const Graph& g, Node x, Node root) {
  const Index parameters = g.layout().size();
  p.weights = draw(2, parameters);
  p.gradient = poisoned(parameters);
  Kokkos::deep_copy(p.value(x), draw(1, g.shape(x).size()));
  p.train = true;
  p.forward();
  p.backward(root);
  Exec().fence();
}
}  // namespace

TEST_CASE("activations and dropout in bfloat16 are the rounded ones of float32") {
  const auto dropped = [](Graph& g, Node x) { return dropout(g, x, Real(0.3)); };
  for (Node (*const f)(Graph&, Node) : {gelu, gelu_tanh, silu, relu, tanh, +dropped})
    for (const Index width : {Index(8), Index(33)}) {
      // f of a norm's output, in float32 and in bfloat16, twice, so that the second adds its gradient to the first's.
      std::array<Numbers, 2> y, gradient;
      for (const bool bf16 : {false, true}) {
        Layout layout;
        Graph g(layout);
        g.keep_bf16(true);
        const Node x = g.input({9, width}, false, true), n = layer_norm(g, x, "n", true, Real(1e-5), true);
        const Node from = bf16 ? n : in_float32(g, n), once = in_float32(g, f(g, from)), twice = in_float32(g, f(g, from));
        const Node root = mean_squared_error(g, add(g, once, twice), g.input({9, width}));
        g.output(once);
        g.output(root);
        g.finish(true);
        Replay p(g, Exec());
        run_on(p, g, x, root);
        y[bf16] = host(p.value(once));
        gradient[bf16] = host(p.gradient);
      }
      if (f == gelu) CHECK(apart(y[1], rounded(y[0])) < 1e-3);  // 2.5e-4 off before it is rounded
      else CHECK(y[1] == rounded(y[0]));
      CHECK(apart(gradient[1], gradient[0]) < 1e-2);
    }
}

TEST_CASE("sums of bfloat16 and float32") {
  // y = x + n, n + x, n + n with n in bfloat16, alone and in the pass of a layer norm behind; gradients go to both.
  for (const Index width : {Index(8), Index(33)})
    for (int form = 0; form < 3; ++form) {
      std::array<Numbers, 3> value, gradient;
      for (const int way : {0, 1, 2}) {  // float32 copies, a sum alone, a sum within the norm
        Layout layout;
        Graph g(layout);
        g.keep_bf16(true);
        const Node x = g.input({9, width}, false, true), n = layer_norm(g, x, "n", true, Real(1e-5), true);
        const Node m = way == 0 ? in_float32(g, n) : n, sum = form == 0 ? add(g, x, m) : form == 1 ? add(g, m, x) : add(g, m, m);
        if (way == 1) g.output(sum);
        const Node y = layer_norm(g, sum, "last", true);
        const Node root = mean_squared_error(g, add(g, y, sum), g.input({9, width}));
        g.output(sum);
        g.output(root);
        g.finish(true);
        Replay p(g, Exec());
        run_on(p, g, x, root);
        value[at(way)] = host(p.value(sum));
        gradient[at(way)] = host(p.gradient);
        const Numbers dx = host(p.grad_of(x));
        gradient[at(way)].insert(gradient[at(way)].end(), dx.begin(), dx.end());
      }
      INFO("width " << width << " form " << form);
      CHECK((value[1] == value[0] && value[2] == value[0]));
      CHECK(apart(gradient[1], gradient[0]) < 1e-2);
      CHECK(gradient[2] == gradient[1]);
    }
}

TEST_CASE("ops that know no bfloat16 refuse it") {
  Layout layout;
  Graph g(layout);
  g.keep_bf16(true);
  const Node n = layer_norm(g, g.input({4, 8}), "n", true, Real(1e-5), true);
  REQUIRE(g.bf16(n));
  CHECK_THROWS_AS(mean_token(g, n, 2), Error);
  CHECK_THROWS_AS(g.output(n), Error);
  CHECK_NOTHROW(mean_token(g, in_float32(g, n), 2));
  if (kHostExec) CHECK_THROWS_AS(backend::portable().gemm_bf16(Exec(), false, false, 1, 1, 1, {Vec(), 1}, {Vec(), 1}, false, {Vec(), 1}), Error);
}
