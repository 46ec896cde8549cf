// oneDNN on the host: GEMM, and convolution with its three primitives. Images stay in our layout
// (channels last), which its AVX kernels take as it is; only the weights, small, are reordered into the
// blocked layout that a primitive asks for, in scratch, so that nobody else sees it.
#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <map>
#include <memory>
#include <tuple>

#include "backends/backend.hpp"
#include "core/error.hpp"
#include "core/profile.hpp"

namespace varion::backend {

namespace {
using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;

dnnl::engine& engine() {
  static dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}
dnnl::stream& stream() {
  static dnnl::stream s(engine());
  return s;
}
Desc describe(const dnnl::memory::dims& dims, Tag tag) { return {dims, dnnl::memory::data_type::f32, tag}; }
Index words(const Desc& d) {
  return (static_cast<Index>(d.get_size() / sizeof(Real)) + 15) / 16 * 16;  // whole cache lines
}
dnnl::memory unbound(const Desc& d) { return {d, engine(), nullptr}; }
Real* changeable(ConstVec v) { return const_cast<Real*>(v.data()); }  // oneDNN's handles are not const

/// The descriptors of one shape and what oneDNN 2 and 3 spell differently.
struct Shapes {
  dnnl::memory::dims x, weight, bias, y, strides, before, after;
  Desc x_md, any_weight, plain_weight, bias_md, y_md;

  explicit Shapes(const Conv& s)
      : x{s.n, s.c, s.h, s.w},
        weight{s.o, s.c, s.kh, s.kw},
        bias{s.o},
        y{s.n, s.o, s.ho, s.wo},
        strides{s.stride, s.stride},
        before{s.pad_top, s.pad_left},
        after{std::max<Index>((s.ho - 1) * s.stride + s.kh - s.h - s.pad_top, 0),
              std::max<Index>((s.wo - 1) * s.stride + s.kw - s.w - s.pad_left, 0)},
        x_md(describe(x, Tag::nhwc)),
        any_weight(describe(weight, Tag::any)),
        plain_weight(describe(weight, Tag::oihw)),
        bias_md(describe(bias, Tag::x)),
        y_md(describe(y, Tag::nhwc)) {}

  static dnnl::primitive_attr own_scratchpad() {
    dnnl::primitive_attr a;
    a.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return a;
  }
#if DNNL_VERSION_MAJOR >= 3
  dnnl::convolution_forward::primitive_desc forward(bool biased) const {
    const auto kind = dnnl::prop_kind::forward_training;
    const auto how = dnnl::algorithm::convolution_direct;
    return biased ? dnnl::convolution_forward::primitive_desc(engine(), kind, how, x_md, any_weight, bias_md, y_md,
                                                              strides, before, after, own_scratchpad())
                  : dnnl::convolution_forward::primitive_desc(engine(), kind, how, x_md, any_weight, y_md, strides,
                                                              before, after, own_scratchpad());
  }
  auto backward_data(const dnnl::convolution_forward::primitive_desc& hint) const {
    return dnnl::convolution_backward_data::primitive_desc(engine(), dnnl::algorithm::convolution_direct, x_md,
                                                           any_weight, y_md, strides, before, after, hint,
                                                           own_scratchpad());
  }
  auto backward_weight(const dnnl::convolution_forward::primitive_desc& hint) const {
    return dnnl::convolution_backward_weights::primitive_desc(engine(), dnnl::algorithm::convolution_direct, x_md,
                                                              any_weight, y_md, strides, before, after, hint,
                                                              own_scratchpad());
  }
#else
  dnnl::convolution_forward::primitive_desc forward(bool biased) const {
    const auto kind = dnnl::prop_kind::forward_training;
    const auto how = dnnl::algorithm::convolution_direct;
    using D = dnnl::convolution_forward::desc;
    return {biased ? D(kind, how, x_md, any_weight, bias_md, y_md, strides, before, after)
                   : D(kind, how, x_md, any_weight, y_md, strides, before, after),
            own_scratchpad(), engine()};
  }
  dnnl::convolution_backward_data::primitive_desc backward_data(
      const dnnl::convolution_forward::primitive_desc& hint) const {
    return {dnnl::convolution_backward_data::desc(dnnl::algorithm::convolution_direct, x_md, any_weight, y_md,
                                                  strides, before, after),
            own_scratchpad(), engine(), hint};
  }
  dnnl::convolution_backward_weights::primitive_desc backward_weight(
      const dnnl::convolution_forward::primitive_desc& hint) const {
    return {dnnl::convolution_backward_weights::desc(dnnl::algorithm::convolution_direct, x_md, any_weight, y_md,
                                                     strides, before, after),
            own_scratchpad(), engine(), hint};
  }
#endif
};

/// One primitive with what it takes, ready to run on other addresses; nothing is created in a step.
struct Ready {
  dnnl::primitive primitive;
  std::unordered_map<int, dnnl::memory> arguments;
  dnnl::memory plain, blocked;  // the weight, or its gradient
  dnnl::reorder reorder;        // plain to blocked, or back
  Index blocked_words = 0, pad_words = 0;

  void bind(int argument, Real* address) { arguments.at(argument).set_data_handle(address); }
  /// Scratch: the blocked weight, then the library's own.
  void bind_scratch(int weight, Vec scratch) {
    blocked.set_data_handle(scratch.data());
    arguments.at(weight).set_data_handle(scratch.data());
    bind(DNNL_ARG_SCRATCHPAD, scratch.data() + blocked_words);
  }
  Index words() const { return blocked_words + pad_words; }
  void run() {
    primitive.execute(stream(), arguments);
    stream().wait();
  }
  void run_reorder() {
    reorder.execute(stream(), plain, blocked);
    stream().wait();
  }
  void run_reorder_back() {
    reorder.execute(stream(), blocked, plain);
    stream().wait();
  }
};

template <class Primitive, class PrimitiveDesc>
Ready make(const PrimitiveDesc& pd, const Desc& blocked, const Desc& plain, bool back) {
  Ready r;
  r.primitive = Primitive(pd);
  r.plain = unbound(plain);
  r.blocked = unbound(blocked);
  r.reorder = back ? dnnl::reorder(r.blocked, r.plain) : dnnl::reorder(r.plain, r.blocked);
  r.blocked_words = words(blocked);
  r.pad_words = words(pd.scratchpad_desc());
  r.arguments.emplace(DNNL_ARG_SCRATCHPAD, unbound(pd.scratchpad_desc()));
  return r;
}

/// The primitives of one shape.
struct Primitives {
  Ready forward, forward_biased, backward_data, backward_weight;

  explicit Primitives(const Conv& s) {
    const Shapes d(s);
    for (const bool biased : {false, true}) {
      const auto pd = d.forward(biased);
      Ready& r = biased ? forward_biased : forward;
      r = make<dnnl::convolution_forward>(pd, pd.weights_desc(), d.plain_weight, false);
      r.arguments.emplace(DNNL_ARG_SRC, unbound(d.x_md));
      r.arguments.emplace(DNNL_ARG_WEIGHTS, unbound(pd.weights_desc()));
      r.arguments.emplace(DNNL_ARG_DST, unbound(d.y_md));
      if (biased) r.arguments.emplace(DNNL_ARG_BIAS, unbound(d.bias_md));
    }
    const auto hint = d.forward(false);
    const auto bd = d.backward_data(hint);
    backward_data = make<dnnl::convolution_backward_data>(bd, bd.weights_desc(), d.plain_weight, false);
    backward_data.arguments.emplace(DNNL_ARG_DIFF_DST, unbound(d.y_md));
    backward_data.arguments.emplace(DNNL_ARG_WEIGHTS, unbound(bd.weights_desc()));
    backward_data.arguments.emplace(DNNL_ARG_DIFF_SRC, unbound(d.x_md));
    const auto wd = d.backward_weight(hint);
    backward_weight = make<dnnl::convolution_backward_weights>(wd, wd.diff_weights_desc(), d.plain_weight, true);
    backward_weight.arguments.emplace(DNNL_ARG_SRC, unbound(d.x_md));
    backward_weight.arguments.emplace(DNNL_ARG_DIFF_DST, unbound(d.y_md));
    backward_weight.arguments.emplace(DNNL_ARG_DIFF_WEIGHTS, unbound(wd.diff_weights_desc()));
  }
};

Primitives& primitives(const Conv& s) {
  refuse_empty(s);
  using Key = std::tuple<Index, Index, Index, Index, Index, Index, Index, Index, Index, Index, Index, Index>;
  static std::map<Key, std::unique_ptr<Primitives>> all;
  auto& p = all[Key(s.n, s.h, s.w, s.c, s.o, s.kh, s.kw, s.stride, s.pad_top, s.pad_left, s.ho, s.wo)];
  if (!p) p = std::make_unique<Primitives>(s);
  return *p;
}

void sgemm(bool ta, bool tb, Index m, Index n, Index k, const Real* a, const Real* b, bool add, Real* c) {
  const auto status = dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, Real(1), a, ta ? m : k, b, tb ? k : n,
                                 add ? Real(1) : Real(0), c, n);
  ensure(status == dnnl_success, "oneDNN refused a GEMM of ", m, " x ", n, " x ", k);
}

/// C (+)= op(A) op(B) as a primitive, made once a shape. Its kernels reach 195 to 205 GFLOP/s on the MLP's products
/// where dnnl_sgemm's take 100 to 205 (two Zen 4 cores, FMA peak 233).
struct Product {
  dnnl::matmul primitive;
  std::unordered_map<int, dnnl::memory> arguments;

  Product(bool ta, bool tb, Index m, Index n, Index k, bool add) {
    const Desc a = describe({m, k}, ta ? Tag::ba : Tag::ab), b = describe({k, n}, tb ? Tag::ba : Tag::ab);
    const Desc c = describe({m, n}, Tag::ab);
    arguments = {{DNNL_ARG_SRC, unbound(a)}, {DNNL_ARG_WEIGHTS, unbound(b)}, {DNNL_ARG_DST, unbound(c)}};
    dnnl::primitive_attr attributes;
    if (add) {
      dnnl::post_ops sum;
      sum.append_sum(1.0f);
      attributes.set_post_ops(sum);
    }
#if DNNL_VERSION_MAJOR >= 3
    primitive = dnnl::matmul({engine(), a, b, c, attributes});
#else
    primitive = dnnl::matmul({dnnl::matmul::desc(a, b, c), attributes, engine()});
#endif
  }
  void run(ConstVec a, ConstVec b, Vec c) {
    arguments.at(DNNL_ARG_SRC).set_data_handle(changeable(a));
    arguments.at(DNNL_ARG_WEIGHTS).set_data_handle(changeable(b));
    arguments.at(DNNL_ARG_DST).set_data_handle(c.data());
    primitive.execute(stream(), arguments);
    stream().wait();
  }
};

Product& product(bool ta, bool tb, Index m, Index n, Index k, bool add) {
  static std::map<std::tuple<bool, bool, Index, Index, Index, bool>, std::unique_ptr<Product>> all;
  auto& p = all[{ta, tb, m, n, k, add}];
  if (!p) p = std::make_unique<Product>(ta, tb, m, n, k, add);
  return *p;
}

/// to [k, n] = from [n, k] transposed, in tiles. 8 bytes per element.
void transpose(const Exec& exec, Index n, Index k, const Real* from, Real* to) {
  constexpr Index side = 32;
  const Index rows = (n + side - 1) / side, columns = (k + side - 1) / side;
  Kokkos::parallel_for(
      "varion::gemm::transpose", Range(exec, 0, rows * columns), KOKKOS_LAMBDA(const Index tile) {
        const Index i0 = tile % rows * side, j0 = tile / rows * side;
        const Index height = n - i0 < side ? n - i0 : side, width = k - j0 < side ? k - j0 : side;
        Real block[side][side + 1];
        for (Index i = 0; i < height; ++i)
          for (Index j = 0; j < width; ++j) block[j][i] = from[(i0 + i) * k + j0 + j];
        for (Index j = 0; j < width; ++j)
          for (Index i = 0; i < height; ++i) to[(j0 + j) * n + i0 + i] = block[j][i];
      });
  exec.fence();  // the library reads it next
}

/// to += from. 12 bytes per element.
void add_to(const Exec& exec, Index n, const Real* from, Real* to) {
  Kokkos::parallel_for(
      "varion::conv2d::add", Range(exec, 0, n), KOKKOS_LAMBDA(const Index i) { to[i] += from[i]; });
  exec.fence();  // the library reads it next
}
}  // namespace

class OneDnn final : public Provider {
 public:
  std::string name() const override { return "onednn"; }
  std::string description() const override {
    const auto* v = dnnl::version();
    const auto isa = dnnl::get_effective_cpu_isa();
    const char* kernels = isa >= dnnl::cpu_isa::avx512_core ? "AVX-512" : isa >= dnnl::cpu_isa::avx2 ? "AVX2" : "SSE4.1";
    return text("oneDNN ", v->major, ".", v->minor, ".", v->patch, ", kernels for ", kernels);
  }

  void gemm(const Exec& exec, bool ta, bool tb, Index m, Index n, Index k, ConstVec a, ConstVec b, bool add,
            Vec c) const override {
    ensure(m > 0 && n > 0 && k > 0, "GEMM of an empty matrix");
    exec.fence();  // the library reads what kernels wrote
    // A B^T with long rows that all begin on the same cache sets: the library's own packing of B is slow then
    // (128 x 1024 x 1024: 2.6 ms, A B 1.35; with a transpose in tiles before it 1.8).
    if (tb && n >= 64 && k % 256 == 0) {
      static std::map<Index, Vec> transposed;  // one a size: nothing is allocated after the first step
      Vec& t = transposed[n * k];
      if (t.extent(0) == 0) {
        t = Vec("varion::gemm::transposed", static_cast<size_t>(n * k));
        Kokkos::push_finalize_hook([&t] { t = Vec(); });
      }
      transpose(exec, n, k, b.data(), t.data());
      return product(ta, false, m, n, k, add).run(a, t, c);
    }
    product(ta, tb, m, n, k, add).run(a, b, c);
  }

  // A matrix a thread, by single-threaded GEMMs; few matrices go one by one, each by all threads.
  void gemm_batched(const Exec& exec, bool ta, bool tb, Index batch, Index m, Index n, Index k, ConstVec a,
                    Index stride_a, ConstVec b, Index stride_b, bool add, Vec c, Index stride_c) const override {
    ensure(m > 0 && n > 0 && k > 0, "GEMM of an empty matrix");
    exec.fence();  // the library reads what kernels wrote
    const auto one = [&](Index i) {
      sgemm(ta, tb, m, n, k, a.data() + i * stride_a, b.data() + i * stride_b, add, c.data() + i * stride_c);
    };
    if (batch < exec.concurrency())
      for (Index i = 0; i < batch; ++i) one(i);
    else
      Kokkos::parallel_for("varion::gemm::batched", Range(exec, 0, batch), one);
  }

  Index conv_scratch(const Conv& s, bool backward) const override {
    const Primitives& p = primitives(s);
    const Index forward = std::max(p.forward.words(), p.forward_biased.words());
    if (!backward) return forward;
    // What is added to something is computed here first.
    const Index sum = std::max(s.n * s.h * s.w * s.c, s.o * s.patch());
    return std::max(p.backward_data.words(), p.backward_weight.words()) + sum;
  }

  void conv_forward(const Exec& exec, const Conv& s, ConstVec x, ConstVec weight, ConstVec bias, Vec y,
                    Vec scratch) const override {
    const Region region("conv2d::forward");
    exec.fence();  // the library reads what kernels wrote
    const bool biased = bias.extent(0) > 0;
    Ready& r = biased ? primitives(s).forward_biased : primitives(s).forward;
    r.bind_scratch(DNNL_ARG_WEIGHTS, scratch);
    r.plain.set_data_handle(changeable(weight));
    r.run_reorder();
    r.bind(DNNL_ARG_SRC, changeable(x));
    r.bind(DNNL_ARG_DST, y.data());
    if (biased) r.bind(DNNL_ARG_BIAS, changeable(bias));
    r.run();
  }

  void conv_backward_data(const Exec& exec, const Conv& s, ConstVec dy, ConstVec weight, bool add, Vec dx,
                          Vec scratch) const override {
    const Region region("conv2d::backward_data");
    exec.fence();  // the library reads what kernels wrote
    Ready& r = primitives(s).backward_data;
    r.bind_scratch(DNNL_ARG_WEIGHTS, scratch);
    r.plain.set_data_handle(changeable(weight));
    r.run_reorder();
    Real* to = add ? scratch.data() + r.words() : dx.data();
    r.bind(DNNL_ARG_DIFF_DST, changeable(dy));
    r.bind(DNNL_ARG_DIFF_SRC, to);
    r.run();
    if (add) add_to(exec, s.n * s.h * s.w * s.c, to, dx.data());
  }

  // The library splits the sum over images by its threads: the bits depend on their number, on nothing else.
  void conv_backward_weight(const Exec& exec, const Conv& s, ConstVec x, ConstVec dy, bool add, Vec dweight,
                            Vec scratch) const override {
    const Region region("conv2d::backward_weight");
    exec.fence();  // the library reads what kernels wrote
    Ready& r = primitives(s).backward_weight;
    r.bind_scratch(DNNL_ARG_DIFF_WEIGHTS, scratch);
    r.bind(DNNL_ARG_SRC, changeable(x));
    r.bind(DNNL_ARG_DIFF_DST, changeable(dy));
    r.run();
    Real* to = add ? scratch.data() + r.words() : dweight.data();
    r.plain.set_data_handle(to);
    r.run_reorder_back();
    if (add) add_to(exec, s.o * s.patch(), to, dweight.data());
  }
};

namespace {
const OneDnn instance;
const bool registered = add_provider(2, instance);
}  // namespace

}  // namespace varion::backend
