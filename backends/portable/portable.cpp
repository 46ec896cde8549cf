// The provider every machine has: Kokkos and Kokkos Kernels. Convolution is im2col and GEMM over
// chunks of images, so that its scratch stays bounded.
#include <KokkosBlas3_gemm.hpp>
#include <algorithm>

#include "backends/backend.hpp"
#include "backends/portable/batched.hpp"
#include "core/error.hpp"

namespace varion::backend {

using Mat = Kokkos::View<Real**, Kokkos::LayoutRight, Memory, Kokkos::MemoryUnmanaged>;
using ConstMat = Kokkos::View<const Real**, Kokkos::LayoutRight, Memory, Kokkos::MemoryUnmanaged>;

/// columns [images Ho Wo, kh kw C] of x from image `first`. 4 bytes read and written per element.
void im2col(const Exec& exec, const Conv& s, Index first, Index images, ConstVec x, Vec columns) {
  const Index rows = images * s.ho * s.wo, taps = s.kh * s.kw;
  const Conv v = s;
  Kokkos::parallel_for(
      "varion::conv2d::im2col", Range(exec, 0, rows * taps), KOKKOS_LAMBDA(const Index t) {
        const Index row = t / (v.kh * v.kw), tap = t % (v.kh * v.kw);
        const Index image = first + row / (v.ho * v.wo), at = row % (v.ho * v.wo);
        const Index i = at / v.wo * v.stride + tap / v.kw - v.pad_top;
        const Index j = at % v.wo * v.stride + tap % v.kw - v.pad_left;
        const bool inside = i >= 0 && i < v.h && j >= 0 && j < v.w;
        const Index from = ((image * v.h + i) * v.w + j) * v.c, to = t * v.c;
        for (Index c = 0; c < v.c; ++c) columns(to + c) = inside ? x(from + c) : Real(0);
      });
}

/// dx (+)= the sum of the columns that each input element went to; a gather, hence no atomics.
void col2im(const Exec& exec, const Conv& s, Index first, Index images, ConstVec columns, bool add,
            Vec dx) {
  const Conv v = s;
  Kokkos::parallel_for(
      "varion::conv2d::col2im", Range(exec, 0, images * v.h * v.w), KOKKOS_LAMBDA(const Index t) {
        const Index image = t / (v.h * v.w), i = t % (v.h * v.w) / v.w, j = t % v.w;
        const Index to = ((first + image) * v.h * v.w + i * v.w + j) * v.c;
        if (!add)
          for (Index c = 0; c < v.c; ++c) dx(to + c) = 0;
        for (Index p = 0; p < v.kh; ++p)
          for (Index q = 0; q < v.kw; ++q) {
            const Index y = i + v.pad_top - p, x = j + v.pad_left - q;
            if (y < 0 || x < 0 || y % v.stride != 0 || x % v.stride != 0) continue;
            const Index oy = y / v.stride, ox = x / v.stride;
            if (oy >= v.ho || ox >= v.wo) continue;
            const Index from =
                (((image * v.ho + oy) * v.wo + ox) * v.kh * v.kw + p * v.kw + q) * v.c;
            for (Index c = 0; c < v.c; ++c) dx(to + c) += columns(from + c);
          }
      });
}

/// [O, C, kh kw] to [O, kh kw, C]: the order of the columns.
void weight_to_columns(const Exec& exec, const Conv& s, ConstVec weight, Vec ordered) {
  const Index c = s.c, taps = s.kh * s.kw;
  Kokkos::parallel_for(
      "varion::conv2d::weight_order", Range(exec, 0, s.o * c * taps), KOKKOS_LAMBDA(const Index t) {
        const Index o = t / (c * taps), tap = t % (c * taps) / c, k = t % c;
        ordered(t) = weight((o * c + k) * taps + tap);
      });
}

/// The inverse order, for a gradient.
void weight_from_columns(const Exec& exec, const Conv& s, ConstVec ordered, bool add, Vec weight) {
  const Index c = s.c, taps = s.kh * s.kw;
  Kokkos::parallel_for(
      "varion::conv2d::weight_restore", Range(exec, 0, s.o * c * taps),
      KOKKOS_LAMBDA(const Index t) {
        const Index o = t / (c * taps), k = t % (c * taps) / taps, tap = t % taps;
        const Real g = ordered((o * taps + tap) * c + k);
        weight(t) = add ? weight(t) + g : g;
      });
}

class Portable final : public Provider {
 public:
  std::string name() const override { return "portable"; }
  std::string description() const override { return "Kokkos and Kokkos Kernels"; }

  void gemm(const Exec& exec, bool ta, bool tb, Index m, Index n, Index k, ConstVec a, ConstVec b,
            bool add, Vec c) const override {
    const ConstMat am(a.data(), static_cast<size_t>(ta ? k : m), static_cast<size_t>(ta ? m : k));
    const ConstMat bm(b.data(), static_cast<size_t>(tb ? n : k), static_cast<size_t>(tb ? k : n));
    const Mat cm(c.data(), static_cast<size_t>(m), static_cast<size_t>(n));
    if (!add) Kokkos::deep_copy(exec, cm, Real(0));  // so that a NaN left in C cannot survive
    exec.fence();  // Kokkos Kernels 3.4 runs on the default instance
    KokkosBlas::gemm(ta ? "T" : "N", tb ? "T" : "N", Real(1), am, bm, Real(1), cm);
  }

  void gemm_batched(const Exec& exec, bool ta, bool tb, Index batch, Index m, Index n, Index k, ConstVec a,
                    Index stride_a, ConstVec b, Index stride_b, bool add, Vec c, Index stride_c) const override {
    batched_gemm(exec, ta, tb, batch, m, n, k, a, stride_a, b, stride_b, add, c, stride_c);
  }

  Index conv_scratch(const Conv& s, bool) const override {
    return images(s) * s.ho * s.wo * s.patch() + 2 * s.o * s.patch();
  }

  void conv_forward(const Exec& exec, const Conv& s, ConstVec x, ConstVec weight, ConstVec bias,
                    Vec y, Vec scratch) const override {
    const Vec ordered = slice(scratch, 0, s.o * s.patch());
    weight_to_columns(exec, s, weight, ordered);
    for (Index first = 0; first < s.n; first += images(s)) {
      const Index count = std::min(images(s), s.n - first), rows = count * s.ho * s.wo;
      const Vec columns = slice(scratch, 2 * s.o * s.patch(), rows * s.patch());
      im2col(exec, s, first, count, x, columns);
      gemm(exec, false, true, rows, s.o, s.patch(), columns, ordered, false,
           slice(y, first * s.ho * s.wo * s.o, rows * s.o));
    }
    if (bias.extent(0) == 0) return;
    const Index o = s.o;
    Kokkos::parallel_for(
        "varion::conv2d::bias", Range(exec, 0, s.n * s.ho * s.wo), KOKKOS_LAMBDA(const Index r) {
          for (Index j = 0; j < o; ++j) y(r * o + j) += bias(j);
        });
  }

  void conv_backward_data(const Exec& exec, const Conv& s, ConstVec dy, ConstVec weight, bool add,
                          Vec dx, Vec scratch) const override {
    const Vec ordered = slice(scratch, 0, s.o * s.patch());
    weight_to_columns(exec, s, weight, ordered);
    for (Index first = 0; first < s.n; first += images(s)) {
      const Index count = std::min(images(s), s.n - first), rows = count * s.ho * s.wo;
      const Vec columns = slice(scratch, 2 * s.o * s.patch(), rows * s.patch());
      gemm(exec, false, false, rows, s.patch(), s.o, slice(dy, first * s.ho * s.wo * s.o, rows * s.o),
           ordered, false, columns);
      col2im(exec, s, first, count, columns, add, dx);
    }
  }

  void conv_backward_weight(const Exec& exec, const Conv& s, ConstVec x, ConstVec dy, bool add,
                            Vec dweight, Vec scratch) const override {
    const Vec ordered = slice(scratch, 0, s.o * s.patch());
    for (Index first = 0; first < s.n; first += images(s)) {
      const Index count = std::min(images(s), s.n - first), rows = count * s.ho * s.wo;
      const Vec columns = slice(scratch, 2 * s.o * s.patch(), rows * s.patch());
      im2col(exec, s, first, count, x, columns);
      gemm(exec, true, false, s.o, s.patch(), rows, slice(dy, first * s.ho * s.wo * s.o, rows * s.o),
           columns, first > 0, ordered);
    }
    weight_from_columns(exec, s, ordered, add, dweight);
  }

 private:
  // Images a chunk: about 4 M words of columns.
  static Index images(const Conv& s) {
    const Index words = s.ho * s.wo * s.patch();
    return std::clamp<Index>((Index(1) << 22) / words, 1, s.n);
  }
};

const Provider& portable() {
  static const Portable instance;
  return instance;
}

}  // namespace varion::backend
