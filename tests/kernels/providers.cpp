// One table: portable equals a plain host loop, and every provider equals portable.
#include "backends/backend.hpp"

#include <cmath>

#include "core/random.hpp"
#include "support/catch.hpp"

using namespace varion;

namespace {
Vec draw(std::uint64_t which, Index n) {
  const Vec v("varion::test::draw", static_cast<size_t>(n));
  fill_normal(Exec(), RandomKey::make(5, Stream::test, which), v);
  return v;
}
std::vector<double> host(const Vec& v) {
  const auto h = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), v);
  return {h.data(), h.data() + h.extent(0)};
}
void close(const std::vector<double>& a, const std::vector<double>& b, double terms) {
  REQUIRE(a.size() == b.size());
  double worst = 0;  // NaN must fail
  for (size_t i = 0; i < a.size(); ++i) worst = !(std::abs(a[i] - b[i]) <= worst) ? std::abs(a[i] - b[i]) : worst;
  CHECK(worst <= 1e-6 * (4 + terms));
}
}  // namespace

TEST_CASE("gemm") {
  for (const Index m : {1, 7, 130})
    for (const Index n : {1, 33})
      for (const Index k : {1, 7, 130})
        for (int form = 0; form < 8; ++form) {
          const bool ta = form & 1, tb = form & 2, add = form & 4;
          const Vec a = draw(1, m * k), b = draw(2, k * n), start = draw(3, m * n);
          if (!add) Kokkos::deep_copy(start, std::nanf(""));
          const auto ha = host(a), hb = host(b), hs = host(start);
          std::vector<double> expected(static_cast<size_t>(m * n));
          for (Index i = 0; i < m; ++i)
            for (Index j = 0; j < n; ++j) {
              double s = add ? hs[static_cast<size_t>(i * n + j)] : 0;
              for (Index q = 0; q < k; ++q)
                s += ha[static_cast<size_t>(ta ? q * m + i : i * k + q)] * hb[static_cast<size_t>(tb ? j * k + q : q * n + j)];
              expected[static_cast<size_t>(i * n + j)] = s;
            }
          for (const auto* p : backend::providers()) {
            const Vec c("varion::test::c", static_cast<size_t>(m * n));
            Kokkos::deep_copy(c, start);
            p->gemm(Exec(), ta, tb, m, n, k, a, b, add, c);
            INFO(p->name() << " m " << m << " n " << n << " k " << k << " form " << form);
            close(host(c), expected, static_cast<double>(k));
          }
        }
}

TEST_CASE("convolution, its data gradient and its weight gradient") {
  for (const Index n : {1, 3})
    for (const Index kernel : {1, 2, 3, 5})
      for (const Index stride : {1, 2})
        for (const Index before : {0, 1})
          for (const bool add : {false, true}) {
            const Index h = 7, w = 6, c = 3, o = 5;
            const backend::Conv s{n, h, w, c, o, kernel, kernel, stride, before, before / 2,
                                  (h + before + 1 - kernel) / stride + 1, (w + before + 1 - kernel) / stride + 1};
            const Vec x = draw(1, n * h * w * c), weight = draw(2, o * s.patch()), bias = draw(3, o);
            const Vec dy = draw(4, n * s.ho * s.wo * o), old_x = draw(5, n * h * w * c), old_w = draw(6, o * s.patch());
            const auto hx = host(x), hw = host(weight), hb = host(bias), hd = host(dy);
            std::vector<double> y(static_cast<size_t>(n * s.ho * s.wo * o)), dx(hx.size()), dw(hw.size());
            if (add) {
              dx = host(old_x);
              dw = host(old_w);
            }
            for (Index i = 0; i < n; ++i)
              for (Index oy = 0; oy < s.ho; ++oy)
                for (Index ox = 0; ox < s.wo; ++ox)
                  for (Index oc = 0; oc < o; ++oc) {
                    const auto at = static_cast<size_t>(((i * s.ho + oy) * s.wo + ox) * o + oc);
                    y[at] = hb[static_cast<size_t>(oc)];
                    for (Index p = 0; p < kernel; ++p)
                      for (Index q = 0; q < kernel; ++q)
                        for (Index ic = 0; ic < c; ++ic) {
                          const Index r = oy * stride + p - s.pad_top, t = ox * stride + q - s.pad_left;
                          if (r < 0 || r >= h || t < 0 || t >= w) continue;
                          const auto from = static_cast<size_t>(((i * h + r) * w + t) * c + ic);
                          const auto wi = static_cast<size_t>(((oc * c + ic) * kernel + p) * kernel + q);
                          y[at] += hx[from] * hw[wi];
                          dx[from] += hd[at] * hw[wi];
                          dw[wi] += hd[at] * hx[from];
                        }
                  }
            for (const auto* p : backend::providers()) {
              INFO(p->name() << " n " << n << " kernel " << kernel << " stride " << stride << " pad " << before << " add " << add);
              const Vec scratch("varion::test::scratch", static_cast<size_t>(std::max(p->conv_scratch(s, false), p->conv_scratch(s, true))));
              const Vec out("varion::test::y", y.size()), gx("varion::test::dx", dx.size()), gw("varion::test::dw", dw.size());
              Kokkos::deep_copy(gx, old_x);
              Kokkos::deep_copy(gw, old_w);
              p->conv_forward(Exec(), s, x, weight, bias, out, scratch);
              p->conv_backward_data(Exec(), s, dy, weight, add, gx, scratch);
              p->conv_backward_weight(Exec(), s, x, dy, add, gw, scratch);
              close(host(out), y, 75);
              close(host(gx), dx, 125);
              close(host(gw), dw, 150);
            }
          }
}
