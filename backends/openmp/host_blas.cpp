// Host BLAS: GEMM through the C interface, and convolution as one image block a thread with
// single-threaded GEMMs, so that the columns stay in that core's cache.
#include <cblas.h>

#include <algorithm>

#include "backends/backend.hpp"
#include "backends/narrow.hpp"
#include "core/error.hpp"

namespace varion::backend {

namespace {
void sgemm(bool ta, bool tb, Index m, Index n, Index k, const Real* a, const Real* b, Real beta,
           Real* c) {
  cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans,
              narrow(m), narrow(n), narrow(k), Real(1), a, narrow(ta ? m : k), b,
              narrow(tb ? k : n), beta, c, narrow(n));
}
}  // namespace

/// The taps of kernel row p at output column ox are kw C neighbouring numbers of image row i; those from
/// `first` to `last` (counted in numbers) lie inside the image, beginning at image + `at`.
struct TapRow {
  Index first, last, at;
  TapRow(const Conv& s, Index oy, Index ox, Index p) : first(0), last(0), at(0) {
    const Index i = oy * s.stride + p - s.pad_top, j = ox * s.stride - s.pad_left;
    if (i < 0 || i >= s.h) return;
    const Index lo = j < 0 ? -j : 0, hi = j + s.kw > s.w ? s.w - j : s.kw;
    if (hi <= lo) return;
    first = lo * s.c;
    last = hi * s.c;
    at = (i * s.w + j + lo) * s.c;
  }
};

/// Rows [y0, y1) of one image's columns, [ (y1 - y0) Wo, kh kw C ].
void gather_rows(const Conv& s, Index y0, Index y1, const Real* image, Real* columns) {
  const Index taps = s.kw * s.c;
  for (Index oy = y0; oy < y1; ++oy)
    for (Index ox = 0; ox < s.wo; ++ox)
      for (Index p = 0; p < s.kh; ++p, columns += taps) {
        const TapRow t(s, oy, ox, p);
        const Real* from = image + t.at;
        for (Index k = 0; k < t.first; ++k) columns[k] = 0;
        for (Index k = t.first; k < t.last; ++k) columns[k] = from[k - t.first];
        for (Index k = t.last; k < taps; ++k) columns[k] = 0;
      }
}

/// Adds those columns back into the image.
void scatter_rows(const Conv& s, Index y0, Index y1, const Real* columns, Real* image) {
  const Index taps = s.kw * s.c;
  for (Index oy = y0; oy < y1; ++oy)
    for (Index ox = 0; ox < s.wo; ++ox)
      for (Index p = 0; p < s.kh; ++p, columns += taps) {
        const TapRow t(s, oy, ox, p);
        Real* to = image + t.at;
        for (Index k = t.first; k < t.last; ++k) to[k - t.first] += columns[k];
      }
}

/// [O, C, taps] to [O, taps, C], or back.
void reorder_weight(const Conv& s, const Real* from, Real* to, bool back, bool add) {
  const Index taps = s.kh * s.kw;
  for (Index o = 0; o < s.o; ++o)
    for (Index t = 0; t < taps; ++t)
      for (Index c = 0; c < s.c; ++c) {
        const Index torch = (o * s.c + c) * taps + t, ours = (o * taps + t) * s.c + c;
        if (!back)
          to[ours] = from[torch];
        else
          to[torch] = add ? to[torch] + from[ours] : from[ours];
      }
}

class HostBlas final : public Provider {
 public:
  std::string name() const override { return "host-blas"; }
  std::string description() const override {
#ifdef OPENBLAS_VERSION
    const std::string core = openblas_get_corename();
    // Debian 12's OpenBLAS takes CPUs newer than itself for a Prescott: a fifth of the speed.
    return text("OpenBLAS, kernels for ", core, core == "Prescott" ? ": slow; set OPENBLAS_CORETYPE=SkylakeX" : "");
#else
    return "a CBLAS library";
#endif
  }

  void gemm(const Exec& exec, bool ta, bool tb, Index m, Index n, Index k, ConstVec a, ConstVec b,
            bool add, Vec c) const override {
    refuse_empty(1, m, n, k);
    exec.fence();  // the library reads what kernels wrote
    sgemm(ta, tb, m, n, k, a.data(), b.data(), add ? Real(1) : Real(0), c.data());
  }

  // A matrix a thread, by single-threaded GEMMs; few matrices go one by one, each by all threads.
  void gemm_batched(const Exec& exec, bool ta, bool tb, Index batch, Index m, Index n, Index k, ConstVec a,
                    Index stride_a, ConstVec b, Index stride_b, bool add, Vec c, Index stride_c) const override {
    refuse_empty(batch, m, n, k);
    exec.fence();  // the library reads what kernels wrote
    const auto one = [&](Index i) {
      sgemm(ta, tb, m, n, k, a.data() + i * stride_a, b.data() + i * stride_b, add ? Real(1) : Real(0),
            c.data() + i * stride_c);
    };
    if (batch < workers())
      for (Index i = 0; i < batch; ++i) one(i);
    else
      Kokkos::parallel_for("varion::gemm::batched", Range(exec, 0, batch), one);
  }

  Index conv_scratch(const Conv& s, bool) const override {
    refuse_empty(s);
    return s.o * s.patch() + workers() * per_worker(s);
  }

  void conv_forward(const Exec& exec, const Conv& s, ConstVec x, ConstVec weight, ConstVec bias,
                    Vec y, Vec scratch) const override {
    reorder_weight(s, weight.data(), scratch.data(), false, false);
    each_block(exec, "varion::conv2d::forward", s, scratch,
               [&](Index image, Index y0, Index y1, Real* columns, Real*) {
                 gather_rows(s, y0, y1, x.data() + image * s.h * s.w * s.c, columns);
                 Real* out = y.data() + (image * s.ho + y0) * s.wo * s.o;
                 const Index rows = (y1 - y0) * s.wo;
                 const bool biased = bias.extent(0) > 0;
                 if (biased)
                   for (Index r = 0; r < rows; ++r)
                     std::copy(bias.data(), bias.data() + s.o, out + r * s.o);
                 sgemm(false, true, rows, s.o, s.patch(), columns, scratch.data(),
                       biased ? Real(1) : Real(0), out);
               });
  }

  void conv_backward_data(const Exec& exec, const Conv& s, ConstVec dy, ConstVec weight, bool add,
                          Vec dx, Vec scratch) const override {
    reorder_weight(s, weight.data(), scratch.data(), false, false);
    each_block(exec, "varion::conv2d::backward_data", s, scratch,
               [&](Index image, Index y0, Index y1, Real* columns, Real*) {
                 Real* to = dx.data() + image * s.h * s.w * s.c;
                 if (y0 == 0 && !add) std::fill(to, to + s.h * s.w * s.c, Real(0));
                 sgemm(false, false, (y1 - y0) * s.wo, s.patch(), s.o,
                       dy.data() + (image * s.ho + y0) * s.wo * s.o, scratch.data(), Real(0),
                       columns);
                 scatter_rows(s, y0, y1, columns, to);
               });
  }

  // Each worker sums its own images in order, then the workers' sums are added in order: the bits
  // depend on the number of threads, and on nothing else.
  void conv_backward_weight(const Exec& exec, const Conv& s, ConstVec x, ConstVec dy, bool add,
                            Vec dweight, Vec scratch) const override {
    const Index size = s.o * s.patch();
    for (Index w = 0; w < workers(); ++w) {
      Real* sum = scratch.data() + size + w * per_worker(s);
      std::fill(sum, sum + size, Real(0));
    }
    each_block(exec, "varion::conv2d::backward_weight", s, scratch,
               [&](Index image, Index y0, Index y1, Real* columns, Real* sum) {
                 gather_rows(s, y0, y1, x.data() + image * s.h * s.w * s.c, columns);
                 sgemm(true, false, s.o, s.patch(), (y1 - y0) * s.wo,
                       dy.data() + (image * s.ho + y0) * s.wo * s.o, columns, Real(1), sum);
               });
    Real* total = scratch.data() + size;
    for (Index w = 1; w < workers(); ++w) {
      const Real* sum = scratch.data() + size + w * per_worker(s);
      for (Index i = 0; i < size; ++i) total[i] += sum[i];
    }
    reorder_weight(s, total, dweight.data(), true, add);
  }

 private:
  static Index workers() { return Exec().concurrency(); }
  // Output rows a block: about 64 K words of columns, half an L2.
  static Index block_rows(const Conv& s) {
    return std::clamp<Index>((Index(1) << 16) / (s.wo * s.patch()), 1, s.ho);
  }
  static Index per_worker(const Conv& s) {
    return (s.o * s.patch() + block_rows(s) * s.wo * s.patch() + 15) / 16 * 16;
  }

  template <class Body>
  static void each_block(const Exec& exec, const char* label, const Conv& s, Vec scratch,
                         const Body& body) {
    refuse_empty(s);
    const Index count = workers(), rows = block_rows(s), stride = per_worker(s);
    const Index size = s.o * s.patch();
    Real* base = scratch.data() + size;
    exec.fence();  // the host reads what kernels wrote
    // One item a worker, with a fixed share of the images.
    Kokkos::parallel_for(label, Range(exec, 0, count, Kokkos::ChunkSize(1)), [=, &body](Index w) {
      Real* sum = base + w * stride;
      Real* columns = sum + size;
      for (Index image = w * s.n / count; image < (w + 1) * s.n / count; ++image)
        for (Index y0 = 0; y0 < s.ho; y0 += rows)
          body(image, y0, std::min(y0 + rows, s.ho), columns, sum);
    });
  }
};

namespace {
const HostBlas host_blas;
const bool registered_host_blas = add_provider(1, host_blas);
}  // namespace

}  // namespace varion::backend
