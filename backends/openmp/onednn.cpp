// oneDNN on the host: GEMM, and convolution with its three primitives. Images are channels last, which most of its kernels
// take as they are. What a primitive wants otherwise (weights always; images too for Winograd's algorithm) is reordered in
// scratch, so that nobody else sees it; a GEMM's second factor in a room of its own, one product's at a time.
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

/// Whether Winograd's algorithm is worth its reordering: 3 x 3 kernels that keep the image's size. With 32 channels it takes
/// half the time of the direct algorithm, reordering included, with 16 more (two Zen 4 cores, AVX-512). It tiles 4 x 4
/// results, each from 6 x 6 products where there are 144 (Lavin and Gray 2016); its rounding errors are a few times larger.
bool suits_winograd(const Conv& s) {
  return s.kh == 3 && s.kw == 3 && s.stride == 1 && s.pad_top == 1 && s.pad_left == 1 && s.ho == s.h && s.wo == s.w &&
         s.c % 16 == 0 && s.o % 16 == 0 && s.c >= 32 && s.o >= 32;
}

/// Whether oneDNN gets the weight gradient wrong: its 1 x 1 kernels gather the pixels that a stride takes in blocks of 8 or 16 channels, and with
/// fewer they write past their scratch, or into that of another thread (2.6 to 3.x; github.com/uxlfoundation/oneDNN/issues/6035). Parts of a
/// block behind whole ones are left out as well: nobody has looked at them.
bool overruns(const Conv& s) { return s.kh == 1 && s.kw == 1 && s.stride > 1 && s.c % 16 != 0; }

/// The descriptors of one shape and what oneDNN 2 and 3 spell differently.
struct Shapes {
  dnnl::algorithm how;
  dnnl::memory::dims x, weight, bias, y, strides, before, after;
  Desc x_md, weight_md, bias_md, y_md;        // as we hold them
  Desc wanted_x, wanted_weight, wanted_y;     // as the primitive may choose

  Shapes(const Conv& s, bool winograd)
      : how(winograd ? dnnl::algorithm::convolution_winograd : dnnl::algorithm::convolution_direct),
        x{s.n, s.c, s.h, s.w},
        weight{s.o, s.c, s.kh, s.kw},
        bias{s.o},
        y{s.n, s.o, s.ho, s.wo},
        strides{s.stride, s.stride},
        before{s.pad_top, s.pad_left},
        after{std::max<Index>((s.ho - 1) * s.stride + s.kh - s.h - s.pad_top, 0),
              std::max<Index>((s.wo - 1) * s.stride + s.kw - s.w - s.pad_left, 0)},
        x_md(describe(x, Tag::nhwc)),
        weight_md(describe(weight, Tag::oihw)),
        bias_md(describe(bias, Tag::x)),
        y_md(describe(y, Tag::nhwc)),
        wanted_x(winograd ? describe(x, Tag::any) : x_md),
        wanted_weight(describe(weight, Tag::any)),
        wanted_y(winograd ? describe(y, Tag::any) : y_md) {}

  static dnnl::primitive_attr own_scratchpad() {
    dnnl::primitive_attr a;
    a.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return a;
  }
#if DNNL_VERSION_MAJOR >= 3
  dnnl::convolution_forward::primitive_desc forward(bool biased) const {
    const auto kind = dnnl::prop_kind::forward_training;
    return biased ? dnnl::convolution_forward::primitive_desc(engine(), kind, how, wanted_x, wanted_weight, bias_md,
                                                              wanted_y, strides, before, after, own_scratchpad())
                  : dnnl::convolution_forward::primitive_desc(engine(), kind, how, wanted_x, wanted_weight, wanted_y,
                                                              strides, before, after, own_scratchpad());
  }
  dnnl::convolution_backward_data::primitive_desc backward_data() const {
    return {engine(), how, wanted_x, wanted_weight, wanted_y, strides, before, after, forward(false), own_scratchpad()};
  }
  dnnl::convolution_backward_weights::primitive_desc backward_weight() const {
    return {engine(), how, wanted_x, wanted_weight, wanted_y, strides, before, after, forward(false), own_scratchpad()};
  }
#else
  dnnl::convolution_forward::primitive_desc forward(bool biased) const {
    const auto kind = dnnl::prop_kind::forward_training;
    using D = dnnl::convolution_forward::desc;
    return {biased ? D(kind, how, wanted_x, wanted_weight, bias_md, wanted_y, strides, before, after)
                   : D(kind, how, wanted_x, wanted_weight, wanted_y, strides, before, after),
            own_scratchpad(), engine()};
  }
  dnnl::convolution_backward_data::primitive_desc backward_data() const {
    return {{how, wanted_x, wanted_weight, wanted_y, strides, before, after}, own_scratchpad(), engine(), forward(false)};
  }
  dnnl::convolution_backward_weights::primitive_desc backward_weight() const {
    return {{how, wanted_x, wanted_weight, wanted_y, strides, before, after}, own_scratchpad(), engine(), forward(false)};
  }
#endif
};

/// One primitive, ready to run on any addresses; nothing is created in a step.
class Ready {
 public:
  Ready() = default;
  template <class PrimitiveDesc>
  Ready(dnnl::primitive primitive, const PrimitiveDesc& pd)
      : primitive_(std::move(primitive)), pad_words_(varion::backend::words(pd.scratchpad_desc())) {
    arguments_.emplace(DNNL_ARG_SCRATCHPAD, unbound(pd.scratchpad_desc()));
  }
  /// What the primitive reads, ours as `plain`; where it wants it otherwise it gets a reordered copy in scratch.
  void input(int argument, const Desc& plain, const Desc& wanted) { operand(argument, plain, wanted, false); }
  /// What it writes.
  void output(int argument, const Desc& plain, const Desc& wanted) { operand(argument, plain, wanted, true); }
  /// Words of scratch.
  Index words() const { return copy_words_ + pad_words_; }
  /// Runs on the addresses of the operands, in the order in which they were named.
  void run(const std::vector<Real*>& addresses, Vec scratch) {
    ensure(addresses.size() == operands_.size() && static_cast<Index>(scratch.extent(0)) >= words(),
           "a convolution's operands and scratch");
    Real* copy = scratch.data();
    for (size_t i = 0; i < operands_.size(); ++i) {
      Operand& o = operands_[i];
      o.ours.set_data_handle(addresses[i]);
      arguments_.at(o.argument).set_data_handle(o.copy_words > 0 ? copy : addresses[i]);
      if (o.copy_words > 0 && !o.written) reorder(o, o.ours, arguments_.at(o.argument));
      copy += o.copy_words;
    }
    arguments_.at(DNNL_ARG_SCRATCHPAD).set_data_handle(copy);
    primitive_.execute(stream(), arguments_);
    stream().wait();
    for (Operand& o : operands_)
      if (o.copy_words > 0 && o.written) reorder(o, arguments_.at(o.argument), o.ours);
  }

 private:
  struct Operand {
    int argument;
    bool written;
    dnnl::memory ours;
    dnnl::reorder reorder;
    Index copy_words;
  };
  void operand(int argument, const Desc& plain, const Desc& wanted, bool written) {
    arguments_.emplace(argument, unbound(wanted));
    Operand o{argument, written, unbound(plain), {}, 0};
    if (plain != wanted) {
      o.copy_words = varion::backend::words(wanted);
      o.reorder = written ? dnnl::reorder(unbound(wanted), o.ours) : dnnl::reorder(o.ours, unbound(wanted));
    }
    copy_words_ += o.copy_words;
    operands_.push_back(o);
  }
  static void reorder(Operand& o, dnnl::memory& from, dnnl::memory& to) {
    o.reorder.execute(stream(), from, to);
    stream().wait();
  }
  dnnl::primitive primitive_;
  std::vector<Operand> operands_;
  std::unordered_map<int, dnnl::memory> arguments_;
  Index copy_words_ = 0, pad_words_ = 0;
};

/// The primitives of one shape. Operands: x, weight, y, and the bias last.
struct Primitives {
  Ready forward, forward_biased, backward_data, backward_weight;

  explicit Primitives(const Conv& s) : Primitives(Shapes(s, suits_winograd(s) && has_winograd(s))) {}

 private:
  explicit Primitives(const Shapes& d) {
    for (const bool biased : {false, true}) {
      const auto pd = d.forward(biased);
      Ready& r = biased ? forward_biased : forward;
      r = Ready(dnnl::convolution_forward(pd), pd);
      r.input(DNNL_ARG_SRC, d.x_md, pd.src_desc());
      r.input(DNNL_ARG_WEIGHTS, d.weight_md, pd.weights_desc());
      r.output(DNNL_ARG_DST, d.y_md, pd.dst_desc());
      if (biased) r.input(DNNL_ARG_BIAS, d.bias_md, pd.bias_desc());
    }
    const auto data = d.backward_data();
    backward_data = Ready(dnnl::convolution_backward_data(data), data);
    backward_data.output(DNNL_ARG_DIFF_SRC, d.x_md, data.diff_src_desc());
    backward_data.input(DNNL_ARG_WEIGHTS, d.weight_md, data.weights_desc());
    backward_data.input(DNNL_ARG_DIFF_DST, d.y_md, data.diff_dst_desc());
    const auto weight = d.backward_weight();
    backward_weight = Ready(dnnl::convolution_backward_weights(weight), weight);
    backward_weight.input(DNNL_ARG_SRC, d.x_md, weight.src_desc());
    backward_weight.output(DNNL_ARG_DIFF_WEIGHTS, d.weight_md, weight.diff_weights_desc());
    backward_weight.input(DNNL_ARG_DIFF_DST, d.y_md, weight.diff_dst_desc());
  }
  /// Whether the library has the algorithm on this processor, in all directions.
  static bool has_winograd(const Conv& s) {
    try {
      const Shapes d(s, true);
      d.forward(true);
      d.backward_data();
      d.backward_weight();
      return true;
    } catch (const dnnl::error&) {
      return false;
    }
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

/// How much of a product's depth is done at a time with a copy of the second factor in blocks as the library wants it; 0: all of it, as the factors
/// lie. By the shape alone, so that the same product is always done the same way. As they lie, 320 to 470 GFLOP/s of GPT-2's products are reached, the
/// least with rows of 768 words and more one below the other; 420 to 490 with the copy, which pays where many rows use it. MLP's products have 128:
/// 400 to 470 as they lie. (Two Zen 5 cores, FMA peak 520. dnnl_sgemm copies by itself, is no faster over all and takes 13 to 34 MB for it.) Every part
/// passes over all of C, which is why that must be small where there are several.
Index copied_depth(bool ta, bool tb, Index m, Index n, Index k) {
  if (ta ? m < 512 || k < 256 : m < (tb ? 2048 : 256)) return 0;
  constexpr Index small = Index(1) << 22, block = 64;  // words; a host's cache holds them
  const Index room = m * n <= small ? small / 4 : small, parts = (k * n + room - 1) / room;
  if (parts == 1) return k;
  return m * n <= small ? ((k + parts - 1) / parts + block - 1) / block * block : 0;
}

/// C (+)= op(A) op(B) as a primitive, made once a shape. `whole`: the depth of the factors that these are parts of.
struct Product {
  dnnl::matmul primitive;
  dnnl::reorder copy;  // of B, where `copied`
  dnnl::memory factor;
  bool copied;
  std::unordered_map<int, dnnl::memory> arguments;

  Product(bool ta, bool tb, Index m, Index n, Index k, Index whole, bool add, bool copies) {
    using Dims = dnnl::memory::dims;
    const auto real = dnnl::memory::data_type::f32;
    const Desc a(Dims{m, k}, real, ta ? Dims{1, m} : Dims{whole, 1}), b(Dims{k, n}, real, tb ? Dims{1, whole} : Dims{n, 1});
    const Desc c = describe({m, n}, Tag::ab), wanted = copies ? describe({k, n}, Tag::any) : b;
    dnnl::primitive_attr attributes;
    if (add) {
      dnnl::post_ops sum;
      sum.append_sum(1.0f);
      attributes.set_post_ops(sum);
    }
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::matmul::primitive_desc chosen(engine(), a, wanted, c, attributes);
#else
    const dnnl::matmul::primitive_desc chosen(dnnl::matmul::desc(a, wanted, c), attributes, engine());
#endif
    primitive = dnnl::matmul(chosen);
    factor = unbound(b);
    copied = chosen.weights_desc() != b;
    arguments = {{DNNL_ARG_SRC, unbound(a)}, {DNNL_ARG_WEIGHTS, unbound(chosen.weights_desc())}, {DNNL_ARG_DST, unbound(c)}};
    if (!copied) return;
    copy = dnnl::reorder(factor, arguments.at(DNNL_ARG_WEIGHTS));
    if (room().get_desc().get_size() < chosen.weights_desc().get_size()) room() = dnnl::memory(chosen.weights_desc(), engine());
  }
  void run(const Real* a, const Real* b, Real* c) {
    arguments.at(DNNL_ARG_SRC).set_data_handle(const_cast<Real*>(a));  // oneDNN's handles are not const
    arguments.at(DNNL_ARG_DST).set_data_handle(c);
    dnnl::memory& weights = arguments.at(DNNL_ARG_WEIGHTS);
    if (copied) {
      factor.set_data_handle(const_cast<Real*>(b));
      weights.set_data_handle(room().get_data_handle());
      copy.execute(stream(), factor, weights);
    } else {
      weights.set_data_handle(const_cast<Real*>(b));
    }
    primitive.execute(stream(), arguments);
    stream().wait();
  }

 private:
  /// For the copy of one product at a time, as large as the largest.
  static dnnl::memory& room() {
    static dnnl::memory all(describe({1, 1}, Tag::ab), engine());
    return all;
  }
};

Product& product(bool ta, bool tb, Index m, Index n, Index k, Index whole, bool add, bool copies) {
  static std::map<std::tuple<bool, bool, Index, Index, Index, Index, bool>, std::unique_ptr<Product>> all;
  auto& p = all[{ta, tb, m, n, k, whole, add}];
  if (!p) p = std::make_unique<Product>(ta, tb, m, n, k, whole, add, copies);
  return *p;
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
    refuse_empty(1, m, n, k);
    exec.fence();  // the library reads what kernels wrote
    const Index copied = copied_depth(ta, tb, m, n, k), part = copied > 0 ? copied : k;
    for (Index at = 0; at < k; at += part) {
      const Index deep = std::min(part, k - at);
      product(ta, tb, m, n, deep, k, add || at > 0, copied > 0).run(a.data() + (ta ? at * m : at), b.data() + (tb ? at : at * n), c.data());
    }
  }

  // A matrix a thread, by single-threaded GEMMs; few matrices go one by one, each by all threads.
  void gemm_batched(const Exec& exec, bool ta, bool tb, Index batch, Index m, Index n, Index k, ConstVec a,
                    Index stride_a, ConstVec b, Index stride_b, bool add, Vec c, Index stride_c) const override {
    refuse_empty(batch, m, n, k);
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
    return std::max(std::max(p.backward_data.words(), p.backward_weight.words()) + sum, overruns(s) ? portable().conv_scratch(s, true) : 0);
  }

  void conv_forward(const Exec& exec, const Conv& s, ConstVec x, ConstVec weight, ConstVec bias, Vec y,
                    Vec scratch) const override {
    const Region region("conv2d::forward");
    exec.fence();  // the library reads what kernels wrote
    const bool biased = bias.extent(0) > 0;
    std::vector<Real*> operands{changeable(x), changeable(weight), y.data()};
    if (biased) operands.push_back(changeable(bias));
    (biased ? primitives(s).forward_biased : primitives(s).forward).run(operands, scratch);
  }

  void conv_backward_data(const Exec& exec, const Conv& s, ConstVec dy, ConstVec weight, bool add, Vec dx,
                          Vec scratch) const override {
    const Region region("conv2d::backward_data");
    exec.fence();  // the library reads what kernels wrote
    Ready& r = primitives(s).backward_data;
    Real* to = add ? scratch.data() + r.words() : dx.data();
    r.run({to, changeable(weight), changeable(dy)}, scratch);
    if (add) add_to(exec, s.n * s.h * s.w * s.c, to, dx.data());
  }

  // The library splits the sum over images by its threads: the bits depend on their number, on nothing else.
  void conv_backward_weight(const Exec& exec, const Conv& s, ConstVec x, ConstVec dy, bool add, Vec dweight,
                            Vec scratch) const override {
    const Region region("conv2d::backward_weight");
    if (overruns(s)) return portable().conv_backward_weight(exec, s, x, dy, add, dweight, scratch);
    exec.fence();  // the library reads what kernels wrote
    Ready& r = primitives(s).backward_weight;
    Real* to = add ? scratch.data() + r.words() : dweight.data();
    r.run({changeable(x), to, changeable(dy)}, scratch);
    if (add) add_to(exec, s.o * s.patch(), to, dweight.data());
  }
};

namespace {
const OneDnn onednn;
const bool registered_onednn = add_provider(2, onednn);
}  // namespace

}  // namespace varion::backend
