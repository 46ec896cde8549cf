// One table: every provider, and the kernels portable runs on a GPU, equal a plain host loop.
#include "backends/backend.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <set>

#include "core/error.hpp"
#include "core/random.hpp"
#include "support/catch.hpp"
#include "support/providers.hpp"
#include "support/vectors.hpp"

using namespace varion;

namespace {
void close(const std::vector<double>& a, const std::vector<double>& b, double terms) {
  REQUIRE(a.size() == b.size());
  double worst = 0;  // NaN must fail
  for (size_t i = 0; i < a.size(); ++i) worst = !(std::abs(a[i] - b[i]) <= worst) ? std::abs(a[i] - b[i]) : worst;
  CHECK(worst <= 1e-6 * (4 + terms));
}

/// Every provider's products of this size beside a plain loop. `form`: 1 and 2, a factor is transposed; 4, the product is added. Only every
/// `apart`-th row of the result is looked at, and not the teams' kernels where there are many: a host takes seconds for them.
void check_gemm(Index m, Index n, Index k, Index apart = 1, const std::vector<int>& forms = {0, 1, 2, 3, 4, 5, 6, 7}) {
  for (const int form : forms) {
    const bool ta = form & 1, tb = form & 2, add = form & 4;
    const Vec a = draw(1, m * k), b = draw(2, k * n), start = draw(3, m * n);
    if (!add) Kokkos::deep_copy(start, std::nanf(""));
    const auto ha = host(a), hb = host(b), hs = host(start);
    std::vector<double> expected;
    for (Index i = 0; i < m; i += apart)
      for (Index j = 0; j < n; ++j) {
        double s = add ? hs[static_cast<size_t>(i * n + j)] : 0;
        for (Index q = 0; q < k; ++q)
          s += ha[static_cast<size_t>(ta ? q * m + i : i * k + q)] * hb[static_cast<size_t>(tb ? j * k + q : q * n + j)];
        expected.push_back(s);
      }
    for (const auto* p : all_providers()) {
      if (apart > 1 && p->name() == "portable-teams") continue;
      const Vec c("varion::test::c", static_cast<size_t>(m * n));
      Kokkos::deep_copy(c, start);
      p->gemm(Exec(), ta, tb, m, n, k, a, b, add, c);
      INFO(p->name() << " m " << m << " n " << n << " k " << k << " form " << form);
      const auto all = host(c);
      std::vector<double> rows;
      for (Index i = 0; i < m; i += apart) rows.insert(rows.end(), all.begin() + i * n, all.begin() + (i + 1) * n);
      close(rows, expected, static_cast<double>(k));
    }
  }
}
}  // namespace

TEST_CASE("gemm") {
  for (const Index m : {1, 7, 130, 300})
    for (const Index n : {1, 16, 33, 70})
      for (const Index k : {1, 7, 200, 256}) check_gemm(m, n, k);
}

// Where a provider copies a factor first (onednn.cpp), whose room grows and is used again for smaller ones, or does some of the depth at a time.
TEST_CASE("gemm of many rows") {
  check_gemm(258, 1030, 1025, 17, {0, 4});
  check_gemm(514, 1030, 1025, 37, {1, 5});
  check_gemm(2050, 1030, 1025, 127, {2, 6});
  for (const Index m : {513, 1025, 2050})
    for (const Index k : {257, 521, 257}) {
      check_gemm(m, 33, k);
      check_gemm(m, 7, k);
    }
}

namespace {
struct Expected {
  std::vector<double> y, dx, dw;
};
/// y, and what dx and dw hold at first plus the gradients, one product at a time.
Expected by_loops(const backend::Conv& s, const Vec& x, const Vec& weight, const Vec& bias, const Vec& dy, const std::vector<double>& dx,
                  const std::vector<double>& dw) {
  const auto hx = host(x), hw = host(weight), hb = host(bias), hd = host(dy);
  Expected e{std::vector<double>(hd.size()), dx, dw};
  for (Index i = 0; i < s.n; ++i)
    for (Index oy = 0; oy < s.ho; ++oy)
      for (Index ox = 0; ox < s.wo; ++ox)
        for (Index oc = 0; oc < s.o; ++oc) {
          const auto at = static_cast<size_t>(((i * s.ho + oy) * s.wo + ox) * s.o + oc);
          e.y[at] = hb.empty() ? 0 : hb[static_cast<size_t>(oc)];
          for (Index p = 0; p < s.kh; ++p)
            for (Index q = 0; q < s.kw; ++q) {
              const Index r = oy * s.stride + p - s.pad_top, t = ox * s.stride + q - s.pad_left;
              if (r < 0 || r >= s.h || t < 0 || t >= s.w) continue;
              for (Index ic = 0; ic < s.c; ++ic) {
                const auto from = static_cast<size_t>(((i * s.h + r) * s.w + t) * s.c + ic);
                const auto wi = static_cast<size_t>(((oc * s.c + ic) * s.kh + p) * s.kw + q);
                e.y[at] += hx[from] * hw[wi];
                e.dx[from] += hd[at] * hw[wi];
                e.dw[wi] += hd[at] * hx[from];
              }
            }
        }
  return e;
}

/// Scratch of so many words before a guard of NaN, which nobody may write to.
struct GuardedScratch {
  static constexpr Index kGuard = 4096;
  Vec words, guard;
  explicit GuardedScratch(Index n) {
    const Vec all = poisoned(n + kGuard);
    words = slice(all, 0, n);
    guard = slice(all, n, kGuard);
  }
  bool is_whole() const {
    const auto numbers = host(guard);
    return std::all_of(numbers.begin(), numbers.end(), [](double v) { return std::isnan(v); });
  }
};

/// All three directions. Without `add`, what the outputs and the scratch held is NaN and must not survive.
void check_convolution(const backend::Conv& s, bool biased, bool add) {
  const Index x_size = s.n * s.h * s.w * s.c, w_size = s.o * s.patch(), y_size = s.n * s.ho * s.wo * s.o;
  const Vec x = draw(1, x_size), weight = draw(2, w_size), bias = draw(3, biased ? s.o : 0), dy = draw(4, y_size);
  const Vec old_x = add ? draw(5, x_size) : poisoned(x_size);
  const Vec old_w = add ? draw(6, w_size) : poisoned(w_size);
  const std::vector<double> no_x(static_cast<size_t>(x_size)), no_w(static_cast<size_t>(w_size));
  const Expected expected = by_loops(s, x, weight, bias, dy, add ? host(old_x) : no_x, add ? host(old_w) : no_w);
  for (const auto* p : all_providers()) {
    INFO(p->name() << " x " << s.n << " " << s.h << " " << s.w << " " << s.c << " o " << s.o << " kernel " << s.kh << " " << s.kw
                   << " stride " << s.stride << " pad " << s.pad_top << " " << s.pad_left << " bias " << biased << " add " << add);
    const GuardedScratch forward(p->conv_scratch(s, false)), backward(p->conv_scratch(s, true));
    const Vec y = poisoned(y_size);
    const Vec dx("varion::test::dx", old_x.extent(0)), dw("varion::test::dw", old_w.extent(0));
    Kokkos::deep_copy(dx, old_x);
    Kokkos::deep_copy(dw, old_w);
    p->conv_forward(Exec(), s, x, weight, bias, y, forward.words);
    p->conv_backward_data(Exec(), s, dy, weight, add, dx, backward.words);
    p->conv_backward_weight(Exec(), s, x, dy, add, dw, backward.words);
    close(host(y), expected.y, static_cast<double>(s.patch()));
    close(host(dx), expected.dx, static_cast<double>(s.kh * s.kw * s.o));
    close(host(dw), expected.dw, static_cast<double>(s.n * s.ho * s.wo));
    CHECK((forward.is_whole() && backward.is_whole()));
  }
}
}  // namespace

TEST_CASE("convolution, its data gradient and its weight gradient: kernels, strides, padding") {
  for (const Index n : {1, 3})
    for (const Index kernel : {1, 2, 3, 5})
      for (const Index stride : {1, 2, 3})
        for (const Index before : {0, 1})
          for (const bool add : {false, true}) {
            const Index h = 7, w = 6;
            check_convolution({n, h, w, 3, 5, kernel, kernel, stride, before, before / 2, (h + before + 1 - kernel) / stride + 1,
                               (w + before + 1 - kernel) / stride + 1},
                              !add, add);
          }
}

// Each line for a branch: tiles of 4 and 8 rows, one panel of channels and several, full and not; more than one band of
// rows; more images than parts; narrow and wide team tiles.
TEST_CASE("convolution: channels and sizes") {
  struct Shape {
    Index n, h, w, c, o, kh, kw, stride, top, left, ho, wo;
  };
  for (const Shape& f : {Shape{1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1},     // the smallest
                         Shape{2, 9, 11, 1, 17, 3, 3, 1, 1, 1, 9, 11},  // one channel in, a panel and one lane out
                         Shape{2, 8, 8, 3, 16, 3, 3, 1, 1, 1, 8, 8},    // the first layer of a network
                         Shape{1, 13, 7, 17, 40, 3, 3, 1, 1, 1, 13, 7},
                         Shape{3, 8, 8, 32, 64, 3, 3, 2, 0, 0, 4, 4},   // SAME at an even size: nothing before, one after
                         Shape{2, 9, 9, 40, 3, 3, 3, 2, 1, 1, 5, 5},    // SAME at an odd size
                         Shape{2, 7, 5, 64, 32, 1, 1, 1, 0, 0, 7, 5},
                         Shape{2, 8, 7, 16, 32, 1, 1, 2, 0, 0, 4, 4},   // most pixels get no gradient
                         Shape{3, 8, 8, 12, 10, 1, 1, 2, 0, 0, 4, 4},   // fewer channels than a block of oneDNN's
                         Shape{2, 8, 7, 24, 10, 1, 1, 2, 0, 0, 4, 4},   // and one and a half
                         Shape{2, 32, 32, 16, 32, 1, 1, 2, 0, 0, 16, 16},  // one tap: read in place, several bands
                         Shape{2, 32, 32, 64, 16, 1, 1, 1, 0, 0, 32, 32},
                         Shape{1, 9, 12, 16, 16, 1, 1, 1, 0, 0, 9, 12},  // tiles of 8 and 4
                         Shape{1, 28, 28, 1, 6, 5, 5, 1, 2, 2, 28, 28},
                         Shape{2, 12, 13, 6, 16, 5, 5, 2, 1, 2, 5, 7},
                         Shape{2, 6, 9, 4, 20, 1, 3, 1, 0, 1, 6, 9},    // kernels that are no squares
                         Shape{2, 6, 9, 4, 20, 5, 2, 1, 2, 0, 6, 8},
                         Shape{1, 4, 4, 2, 3, 3, 3, 1, 2, 2, 6, 6},     // padding of the whole kernel
                         Shape{2, 3, 2, 5, 6, 3, 3, 4, 1, 1, 1, 1},     // stride above the image
                         Shape{600, 4, 5, 3, 4, 3, 3, 1, 1, 1, 4, 5},   // more images than blocks
                         Shape{1, 70, 90, 16, 3, 3, 3, 1, 1, 1, 70, 90},
                         Shape{17, 4, 4, 64, 64, 3, 3, 1, 1, 1, 4, 4},
                         Shape{3, 7, 9, 32, 48, 3, 3, 1, 1, 1, 7, 9},   // Winograd's algorithm, tiles that are not whole
                         Shape{2, 16, 16, 32, 32, 3, 3, 1, 1, 1, 16, 16}})
    for (const bool add : {false, true})
      check_convolution({f.n, f.h, f.w, f.c, f.o, f.kh, f.kw, f.stride, f.top, f.left, f.ho, f.wo}, add, add);
}

TEST_CASE("the weight gradient of few channels at a stride is the same every time") {
  for (const Index c : {1, 5, 7, 12}) {
    const backend::Conv s{3, 8, 8, c, 10, 1, 1, 2, 0, 0, 4, 4};
    const Vec x = draw(1, s.n * s.h * s.w * c), dy = draw(2, s.n * s.ho * s.wo * s.o);
    for (const auto* p : all_providers()) {
      const GuardedScratch scratch(p->conv_scratch(s, true));
      const Vec dw = poisoned(s.o * c);
      const auto gradient = [&] {
        p->conv_backward_weight(Exec(), s, x, dy, false, dw, scratch.words);
        return host(dw);
      };
      const auto first = gradient();
      long other = 0;
      for (int k = 0; k < 300; ++k) other += gradient() != first;
      INFO(p->name() << " with " << c << " channels");
      CHECK(other == 0);
      CHECK(scratch.is_whole());
    }
  }
}

TEST_CASE("an empty batch is refused by every provider") {
  const backend::Conv s{0, 8, 8, 3, 4, 3, 3, 1, 1, 1, 8, 8};
  const backend::Attention h{0, 4, 2, 8, true};
  const Vec some = draw(1, 4096), none;
  const auto code = [](const auto& call) {
    try {
      call();
    } catch (const Error& e) {
      return static_cast<int>(e.code());
    }
    return 0;
  };
  for (const auto* p : all_providers()) {
    INFO(p->name());
    CHECK(code([&] { p->conv_scratch(s, false); }) == 70);
    CHECK(code([&] { p->conv_scratch(s, true); }) == 70);
    CHECK(code([&] { p->conv_forward(Exec(), s, none, some, none, none, some); }) == 70);
    CHECK(code([&] { p->conv_backward_data(Exec(), s, none, some, false, none, some); }) == 70);
    CHECK(code([&] { p->conv_backward_weight(Exec(), s, none, none, false, some, some); }) == 70);
    CHECK(code([&] { p->gemm(Exec(), false, false, 0, 3, 4, none, some, false, none); }) == 70);
    CHECK(code([&] { p->gemm_batched(Exec(), false, false, 0, 2, 3, 4, none, 8, some, 12, false, none, 6); }) == 70);
    CHECK(code([&] { p->attention_scratch(h, false); }) == 70);
    CHECK(code([&] { p->attention_scratch(h, true); }) == 70);
    CHECK(code([&] { p->attention_forward(Exec(), h, none, none, none, some); }) == 70);
    CHECK(code([&] { p->attention_backward(Exec(), h, none, none, none, none, false, none, some); }) == 70);
  }
}

namespace {
/// One operation on fixed numbers, and how far two providers may be apart in it.
struct Operation {
  std::string name;
  double bound;
  std::function<std::vector<double>(const backend::Provider&)> run;
};
}  // namespace

// Each may be as far from the exact result as the tests of the operation allow, so two of them twice as far from each other. "same bits":
// portable's own function, or one that sums as it does.
TEST_CASE("the table of equivalence: every provider and operation beside portable") {
  const Index m = 130, n = 33, k = 200, batch = 5;
  const Vec a = draw(1, m * k), b = draw(2, n * k), many = draw(3, batch * m * k), others = draw(4, batch * n * k);
  const backend::Conv s{3, 9, 10, 16, 40, 3, 3, 2, 1, 1, 5, 5};
  const Index x_size = s.n * s.h * s.w * s.c, w_size = s.o * s.patch(), y_size = s.n * s.ho * s.wo * s.o;
  const Vec x = draw(5, x_size), weight = draw(6, w_size), bias = draw(7, s.o), dy = draw(8, y_size);
  const backend::Attention h{2, 70, 3, 16, true};
  const Vec qkv = draw(9, h.rows() * h.pitch()), above = draw(10, h.rows() * h.heads * h.width);
  const auto attend = [&](const backend::Provider& p, bool backward) {
    const GuardedScratch scratch(std::max(p.attention_scratch(h, false), p.attention_scratch(h, true)));
    const Vec y = poisoned(static_cast<Index>(above.extent(0))), log_sum = poisoned(h.rows() * h.heads);
    const Vec dqkv = poisoned(static_cast<Index>(qkv.extent(0)));
    p.attention_forward(Exec(), h, qkv, y, log_sum, scratch.words);
    if (backward) p.attention_backward(Exec(), h, qkv, y, above, log_sum, false, dqkv, scratch.words);
    CHECK(scratch.is_whole());
    return host(backward ? dqkv : y);
  };
  const auto convolve = [&](const backend::Provider& p, Index size, const std::function<void(const Vec& out, const Vec& scratch)>& call) {
    const GuardedScratch scratch(std::max(p.conv_scratch(s, false), p.conv_scratch(s, true)));
    const Vec out = poisoned(size);
    call(out, scratch.words);
    CHECK(scratch.is_whole());
    return host(out);
  };
  const auto sums = [](Index terms) { return 2e-6 * (4 + static_cast<double>(terms)); };
  const std::vector<Operation> operations{
      {"gemm", sums(k),
       [&](const auto& p) {
         const Vec c = poisoned(m * n);
         p.gemm(Exec(), false, true, m, n, k, a, b, false, c);
         return host(c);
       }},
      {"batched gemm", sums(k),
       [&](const auto& p) {
         const Vec c = poisoned(batch * m * n);
         p.gemm_batched(Exec(), true, false, batch, m, n, k, many, m * k, others, k * n, false, c, m * n);
         return host(c);
       }},
      {"conv forward", sums(s.patch()),
       [&](const auto& p) {
         return convolve(p, y_size, [&](const Vec& y, const Vec& scratch) { p.conv_forward(Exec(), s, x, weight, bias, y, scratch); });
       }},
      {"conv weight", sums(s.n * s.ho * s.wo),
       [&](const auto& p) {
         return convolve(p, w_size, [&](const Vec& dw, const Vec& scratch) { p.conv_backward_weight(Exec(), s, x, dy, false, dw, scratch); });
       }},
      {"conv input", sums(s.kh * s.kw * s.o),
       [&](const auto& p) {
         return convolve(p, x_size, [&](const Vec& dx, const Vec& scratch) { p.conv_backward_data(Exec(), s, dy, weight, false, dx, scratch); });
       }},
      {"attention", 6e-6, [&](const auto& p) { return attend(p, false); }},
      {"attn. backward", 2e-5, [&](const auto& p) { return attend(p, true); }},
  };
  char cell[64];
  const auto column = [&](const std::string& word) {
    std::snprintf(cell, sizeof cell, "%-16s", word.c_str());
    return std::string(cell);
  };
  std::string table = column("provider");
  std::vector<std::vector<double>> expected;
  for (const Operation& o : operations) {
    table += column(o.name);
    expected.push_back(o.run(backend::portable()));
  }
  table += "\n" + column("may differ by");
  for (const Operation& o : operations) {
    std::snprintf(cell, sizeof cell, "%.1e", o.bound);
    table += column(cell);
  }
  std::set<std::string> compared;
  for (const auto* p : all_providers()) {
    table += "\n" + column(p->name());
    for (size_t i = 0; i < operations.size(); ++i) {
      INFO(p->name() << ": " << operations[i].name);
      const double apart = difference(operations[i].run(*p), expected[i]);
      CHECK(apart <= operations[i].bound);
      std::snprintf(cell, sizeof cell, "%.1e", apart);
      table += column(apart == 0 ? "same bits" : cell);
    }
    CHECK(compared.insert(p->name()).second);  // a name is one provider's
  }
  std::printf("%s\n", table.c_str());
  // What `varion info` lists and VARION_PROVIDER takes.
  for (const auto* p : backend::providers()) {
    INFO(p->name() << " is registered, and nothing compares it");
    CHECK(compared.count(p->name()) == 1);
  }
}

// tests/kernels/threads.py compares this line between numbers of threads.
TEST_CASE("portable's bits", "[bits]") {
  std::uint64_t digest = 14695981039346656037ull;
  const auto mix = [&](const Vec& v) {
    for (const double d : host(v)) {
      const auto f = static_cast<float>(d);
      std::uint32_t word;
      std::memcpy(&word, &f, sizeof word);
      digest = (digest ^ word) * 1099511628211ull;
    }
  };
  for (const auto* p : {&backend::portable(), &backend::portable_teams()}) {
    const backend::Conv s{37, 9, 10, 16, 40, 3, 3, 1, 1, 1, 9, 10};
    const Vec x = draw(1, 37 * 90 * 16), w = draw(2, s.o * s.patch()), dy = draw(3, 37 * 90 * 40), c = poisoned(150 * 90);
    const Vec y = poisoned(static_cast<Index>(dy.extent(0))), dx = poisoned(static_cast<Index>(x.extent(0))),
              dw = poisoned(static_cast<Index>(w.extent(0)));
    const Vec scratch = poisoned(std::max(p->conv_scratch(s, false), p->conv_scratch(s, true)));
    p->conv_forward(Exec(), s, x, w, Vec(), y, scratch);
    p->conv_backward_data(Exec(), s, dy, w, false, dx, scratch);
    p->conv_backward_weight(Exec(), s, x, dy, false, dw, scratch);
    p->gemm(Exec(), false, true, 150, 90, 300, x, dy, false, c);
    mix(y);
    mix(dx);
    mix(dw);
    mix(c);
  }
  std::printf("bits %016llx\n", static_cast<unsigned long long>(digest));
}
