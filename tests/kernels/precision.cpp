// TF32 and bfloat16: the maps of a tensor core's operands, played on the host; GEMM and attention of every provider with rounded
// factors against double, where the build knows them.
#include <algorithm>
#include <array>
#include <cmath>
#include <random>

#include "backends/backend.hpp"
#include "backends/capture.hpp"
#include "backends/cuda/fragments.hpp"
#include "core/error.hpp"
#include "support/attention.hpp"
#include "support/catch.hpp"
#include "support/vectors.hpp"

using namespace varion;
using backend::Precision;

namespace {
using Numbers = std::vector<double>;

// --- a warp on the host ----------------------------------------------------------------------------

struct Matrix {
  int columns;
  Numbers values;
  Matrix(int rows, int columns_) : columns(columns_), values(at(rows * columns_)) {}
  double& operator()(int r, int c) { return values[at(r * columns + c)]; }
  double operator()(int r, int c) const { return values[at(r * columns + c)]; }
};

/// Registers of 32 lanes, two halves each; of one-number registers the first counts.
using Registers = std::array<std::array<std::array<double, 2>, 4>, 32>;
using Product = std::array<std::array<double, 4>, 32>;

/// ldmatrix, from the PTX ISA: lane 8 i + r names row r of matrix i; register i of a lane gets two numbers of row lane / 4, or,
/// transposed, of column lane / 4.
template <class Source>
Registers ldmatrix(const Matrix& m, int row, int column, bool transposed, const Source& source) {
  Registers r{};
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i)
      for (int half = 0; half < 2; ++half) {
        const int pair = 2 * (lane % 4) + half;
        const backend::Place p = source(8 * i + (transposed ? pair : lane / 4));
        r[at(lane)][at(i)][at(half)] = m(row + p.row, column + p.column + (transposed ? lane / 4 : pair));
      }
  return r;
}
template <class Source>
Registers read(const Matrix& m, int row, int column, const Source& source) {
  Registers r{};
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      const backend::Place p = source(lane, i);
      r[at(lane)][at(i)][0] = m(row + p.row, column + p.column);
    }
  return r;
}

struct Bf16Warp : backend::Bf16Map {
  static Registers load_a(const Matrix& m, int row, int column) { return ldmatrix(m, row, column, false, [](int l) { return a_source(l); }); }
  static Registers load_rows(const Matrix& m, int row, int column) { return ldmatrix(m, row, column, false, [](int l) { return rows_source(l); }); }
  static Registers load_columns(const Matrix& m, int row, int column) { return ldmatrix(m, row, column, true, [](int l) { return columns_source(l); }); }
  /// The ISA's words for the element i of A, B of a lane of group g = lane / 4 with t = lane % 4.
  static backend::Place isa_a(int g, int t, int i) { return {i < 2 || (i >= 4 && i < 6) ? g : g + 8, t * 2 + (i & 1) + (i >= 4 ? 8 : 0)}; }
  static backend::Place isa_b(int g, int t, int i) { return {t * 2 + (i & 1) + (i >= 2 ? 8 : 0), g}; }
};
struct Tf32Warp : backend::Tf32Map {
  static Registers load_a(const Matrix& m, int row, int column) { return read(m, row, column, [](int l, int i) { return a_source(l, i); }); }
  static Registers load_rows(const Matrix& m, int row, int column) { return read(m, row, column, [](int l, int i) { return rows_source(l, i); }); }
  static Registers load_columns(const Matrix& m, int row, int column) { return read(m, row, column, [](int l, int i) { return columns_source(l, i); }); }
  static backend::Place isa_a(int g, int t, int i) { return {i == 0 || i == 2 ? g : g + 8, i < 2 ? t : t + 4}; }
  static backend::Place isa_b(int g, int t, int i) { return {i == 0 ? t : t + 4, g}; }
};

/// c += A B as the ISA says where registers stand; B's are b[first], b[first + 1].
template <class Warp>
void multiply(Product& c, const Registers& a, const Registers& b, int first) {
  Matrix fa(16, Warp::depth), fb(Warp::depth, 8);
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4, halves = Warp::halves;
    for (int i = 0; i < 4 * halves; ++i) {
      const backend::Place p = Warp::isa_a(g, t, i), mapped = Warp::a(lane, i / halves, i % halves);
      REQUIRE((p.row == mapped.row && p.column == mapped.column));
      fa(p.row, p.column) = a[at(lane)][at(i / halves)][at(i % halves)];
    }
    for (int i = 0; i < 2 * halves; ++i) {
      const backend::Place p = Warp::isa_b(g, t, i), mapped = Warp::b(lane, i / halves, i % halves);
      REQUIRE((p.row == mapped.row && p.column == mapped.column));
      fb(p.row, p.column) = b[at(lane)][at(first + i / halves)][at(i % halves)];
    }
  }
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      const int row = i < 2 ? lane / 4 : lane / 4 + 8, column = lane % 4 * 2 + (i & 1);
      for (int k = 0; k < Warp::depth; ++k) c[at(lane)][at(i)] += fa(row, k) * fb(k, column);
    }
}

/// S = Q K^T of 16 queries and 32 keys, then S V, the way the kernels go; whole numbers, so that every sum is exact.
template <class Warp>
void play() {
  constexpr int keys = 32, width = 32;
  Matrix q(16, width), k(keys, width), v(keys, width);
  std::minstd_rand draw_next(1);
  for (Matrix* m : {&q, &k, &v})
    for (double& x : m->values) x = static_cast<int>(draw_next() % 31) - 15;
  std::vector<Product> s(keys / 8, Product{}), y(width / 8, Product{});
  for (int d = 0; d < width; d += Warp::depth)
    for (int key = 0; key < keys; key += 16)
      for (int i = 0; i < 2; ++i) multiply<Warp>(s[at(key / 8 + i)], Warp::load_a(q, 0, d), Warp::load_rows(k, key, d), 2 * i);
  for (int key = 0; key < keys; key += Warp::depth) {
    Registers a{};
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 4; ++i)
        for (int half = 0; half < Warp::halves; ++half)
          a[at(lane)][at(i)][at(half)] = s[at(key / 8 + Warp::tile(i))][at(lane)][at(Warp::from(i, half))];
    for (int d = 0; d < width; d += 16)
      for (int i = 0; i < 2; ++i) multiply<Warp>(y[at(d / 8 + i)], a, Warp::load_columns(v, key, d), 2 * i);
  }
  Matrix scores(16, keys);
  for (int r = 0; r < 16; ++r)
    for (int c = 0; c < keys; ++c)
      for (int d = 0; d < width; ++d) scores(r, c) += q(r, d) * k(c, d);
  bool same = true;
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      const backend::Place p = backend::product_place(lane, i);
      for (int tile = 0; tile < keys / 8; ++tile) same = same && s[at(tile)][at(lane)][at(i)] == scores(p.row, 8 * tile + p.column);
      for (int tile = 0; tile < width / 8; ++tile) {
        double sum = 0;
        for (int c = 0; c < keys; ++c) sum += scores(p.row, c) * v(c, 8 * tile + p.column);
        same = same && y[at(tile)][at(lane)][at(i)] == sum;
      }
    }
  CHECK(same);
}
}  // namespace

TEST_CASE("a warp multiplies what the maps say") {
  play<Bf16Warp>();
  play<Tf32Warp>();
}

// --- the device ------------------------------------------------------------------------------------

namespace {
/// A precision until the end of a test.
struct Using {
  explicit Using(Precision p) { backend::use_precision(p == Precision::bf16 ? "bf16" : "tf32", "test"); }
  ~Using() { backend::use_precision("fp32", "test"); }
};
std::vector<Precision> rounding() {
  return backend::rounds_factors() ? std::vector<Precision>{Precision::tf32, Precision::bf16} : std::vector<Precision>{};
}

/// The largest difference, of the largest magnitude; what is no number is infinitely far.
double of_largest(const Numbers& a, const Numbers& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i])) return INFINITY;
    worst = std::max(worst, std::abs(a[i] - b[i]));
    largest = std::max(largest, std::abs(b[i]));
  }
  return worst / largest;
}
}  // namespace

TEST_CASE("without such arithmetic tf32 and bf16 are refused") {
  if (backend::rounds_factors()) return;
  for (const char* name : {"tf32", "bf16"}) {
    int code = 0;
    try {
      backend::use_precision(name, "test");
    } catch (const Error& e) {
      code = static_cast<int>(e.code());
    }
    CHECK(code == 78);
    CHECK(backend::precision() == Precision::fp32);
  }
}

// Each factor is off by u of itself at most (bfloat16: 2^-8; TF32: 2^-10, the library may cut off instead of rounding), so a sum by 2 u
// of the sum of magnitudes, and what float32's sums are off by.
TEST_CASE("GEMM with rounded factors") {
  for (const Precision precision : rounding()) {
    const Using now(precision);
    const double u = precision == Precision::bf16 ? 1.0 / 256 : 1.0 / 1024;
    // `gap`: words between matrices and before the first, which then lies at no 16 bytes; a's stride may be none.
    for (const auto& [m, n, k, batch, gap, shared] :
         {std::array<Index, 6>{1, 1, 1, 1, 0, 0}, {7, 33, 7, 1, 0, 0}, {64, 16, 64, 1, 0, 0}, {130, 70, 200, 1, 0, 0}, {300, 257, 130, 1, 1, 0},
          {33, 1, 256, 1, 3, 0}, {128, 256, 512, 1, 0, 0}, {64, 32, 48, 5, 0, 0}, {30, 21, 50, 3, 7, 0}, {16, 24, 40, 4, 4, 1}})
      for (int form = 0; form < 8; ++form) {
        const bool ta = form & 1, tb = form & 2, add = form & 4;
        const Index sa = shared == 1 ? 0 : m * k + gap, sb = k * n + gap, sc = m * n + gap;
        const Vec all_a = draw(1, gap + batch * (m * k + gap)), all_b = draw(2, gap + batch * sb), start = draw(3, gap + batch * sc);
        const auto ha = host(all_a), hb = host(all_b), hs = host(start);
        const Index before = gap;
        const auto from = [&](const Vec& v) { return slice(v, before, static_cast<Index>(v.extent(0)) - before); };
        for (const auto* p : backend::providers()) {
          INFO(p->name() << " " << backend::precision_name() << " m " << m << " n " << n << " k " << k << " batch " << batch << " form " << form);
          const Vec c("varion::test::c", start.extent(0));
          Kokkos::deep_copy(c, start);
          if (!add) Kokkos::deep_copy(c, std::nanf(""));
          if (batch == 1) p->gemm(Exec(), ta, tb, m, n, k, from(all_a), from(all_b), add, from(c));
          else p->gemm_batched(Exec(), ta, tb, batch, m, n, k, from(all_a), sa, from(all_b), sb, add, from(c), sc);
          const auto hc = host(c);
          double worst = 0, typical = 0;  // error over its bound; error over the sum of magnitudes
          for (Index i = 0; i < batch * m * n; ++i) {
            const Index item = i / (m * n), row = i / n % m, column = i % n, to = gap + item * sc + row * n + column;
            double sum = add ? hs[at(to)] : 0, size = 0;
            for (Index q = 0; q < k; ++q) {
              const double t = ha[at(gap + item * sa + (ta ? q * m + row : row * k + q))] * hb[at(gap + item * sb + (tb ? column * k + q : q * n + column))];
              sum += t;
              size += std::abs(t);
            }
            const double error = std::abs(hc[at(to)] - sum), bound = 2.01 * u * size + 1e-6 * (1 + size);
            worst = error / bound > worst || std::isnan(error) ? (std::isnan(error) ? INFINITY : error / bound) : worst;
            typical = std::max(typical, error / (size + 1));
          }
          CHECK(worst <= 1);
          if (precision == Precision::bf16 && p != &backend::portable() && k >= 40) CHECK(typical > 1e-5);  // they were rounded
        }
      }
  }
}

TEST_CASE("a recorded GEMM keeps its memory when a larger one follows") {
  if (!backend::rounds_factors() || !backend::Capture::supported()) return;
  const Using now(Precision::bf16);
  const Exec exec = backend::separate_exec();
  const auto& p = backend::provider();
  const Index small = 64, large = 512;
  const Vec a = draw(1, small * small), b = draw(2, small * small), c = poisoned(small * small), big = draw(3, large * large), to = poisoned(large * large);
  Kokkos::fence();  // the default stream drew them
  const auto run = [&] { p.gemm(exec, false, true, small, small, small, a, b, false, c); };
  run();
  exec.fence();  // the host reads it
  const auto expected = host(c);
  backend::Capture capture;
  capture.begin(exec);
  run();
  capture.end();
  for (int i = 0; i < 3; ++i) {
    p.gemm(exec, false, false, large, large, large, big, big, false, to);
    Kokkos::deep_copy(exec, c, std::nanf(""));
    capture.launch(exec);
    exec.fence();
    CHECK(host(c) == expected);
  }
}

namespace {
struct Attended {
  Numbers y, log_sum, once, twice;
  /// Everything that is written holds no number before; a second backward adds the same again.
  Attended(const backend::Provider& p, const backend::Attention& s, const ConstVec& qkv, const ConstVec& dy) {
    const Exec exec;
    const Vec out = poisoned(s.rows() * s.heads * s.width), logs = poisoned(s.rows() * s.heads), dqkv = poisoned(s.rows() * s.pitch());
    const Vec scratch = poisoned(std::max<Index>(1, std::max(p.attention_scratch(s, false), p.attention_scratch(s, true))));
    p.attention_forward(exec, s, qkv, out, logs, scratch);
    p.attention_backward(exec, s, qkv, out, dy, logs, false, dqkv, scratch);
    once = host(dqkv);
    p.attention_backward(exec, s, qkv, out, dy, logs, true, dqkv, scratch);
    twice = host(dqkv);
    y = host(out);
    log_sum = host(logs);
  }
};
}  // namespace

// Tolerances, of the largest number: with factors rounded on a host and sums in double bfloat16 was off by up to 8e-3, and TF32, which
// keeps three bits more, by 1.4e-3.
TEST_CASE("attention with rounded factors") {
  if (!backend::rounds_factors()) return;
  for (const Index length : {1, 63, 64, 65, 130, 200})
    for (const auto& [batch, heads, width] : {std::array<Index, 3>{2, 3, 16}, {1, 2, 32}, {2, 2, 64}, {1, 2, 128}, {1, 2, 48}})
      for (const bool causal : {false, true}) {
        const backend::Attention s{batch, length, heads, width, causal};
        const Vec qkv = draw(1, s.rows() * s.pitch()), dy = draw(2, s.rows() * heads * width);
        const AttentionReference expected(s, host(qkv), host(dy));
        for (const Precision precision : rounding())
          for (const auto* p : backend::providers()) {
            const Using now(precision);
            const double tolerance = precision == Precision::bf16 ? 2e-2 : 2.5e-3;
            INFO(p->name() << " " << backend::precision_name() << ": " << batch << " of " << length << ", " << heads << " heads of " << width
                           << (causal ? ", causal" : ""));
            const Attended got(*p, s, qkv, dy);
            const double y = of_largest(got.y, expected.y);
            CHECK(y < tolerance);
            CHECK(of_largest(got.log_sum, expected.log_sum) < tolerance);
            CHECK(of_largest(got.once, expected.dqkv) < tolerance);
            Numbers doubled = got.once;
            for (double& v : doubled) v *= 2;
            CHECK(of_largest(got.twice, doubled) < 1e-6);
            if (p != &backend::portable() && width != 48) CHECK(y > 1e-5);  // they were rounded
            const Attended again(*p, s, qkv, dy);
            CHECK((again.y == got.y && again.log_sum == got.log_sum && again.once == got.once));
          }
      }
}

TEST_CASE("attention with rounded factors: scores far apart, vectors at odd places") {
  const backend::Attention s{1, 150, 2, 64, true};
  const Vec qkv = draw(1, s.rows() * s.pitch()), dy = draw(2, s.rows() * s.heads * s.width);
  const auto mirror = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), qkv);
  for (size_t i = 0; i < mirror.extent(0); ++i) mirror(i) = std::round(4 * mirror(i));  // rounded to themselves
  Kokkos::deep_copy(qkv, mirror);
  const Vec longer("varion::test::longer", qkv.extent(0) + 1), odd = slice(longer, 1, static_cast<Index>(qkv.extent(0)));
  Kokkos::deep_copy(odd, qkv);
  const AttentionReference expected(s, host(qkv), host(dy));
  for (const Precision precision : rounding())
    for (const auto* p : backend::providers()) {
      const Using now(precision);
      INFO(p->name() << " " << backend::precision_name());
      const Attended got(*p, s, qkv, dy), portably(*p, s, odd, dy);
      CHECK(of_largest(got.log_sum, expected.log_sum) < 1e-5);
      CHECK(of_largest(got.y, expected.y) < 1e-2);
      CHECK(of_largest(got.once, expected.dqkv) < 5e-2);
      CHECK(of_largest(portably.y, expected.y) < 1e-4);
    }
}
