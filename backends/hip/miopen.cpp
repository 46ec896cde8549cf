// MIOpen: convolution, images channels last as ours are, weights brought into [O, kh, kw, C] in scratch. Immediate
// mode, restricted to kernels that give the same bits every time: nothing is timed, so every run takes the same
// kernel. Where it has none for a shape, portable convolves.
#include <hip/hip_runtime.h>
#include <miopen/miopen.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "backends/hip/rocblas.hpp"
#include "backends/narrow.hpp"
#include "backends/portable/channels_last.hpp"
#include "core/error.hpp"
#include "core/profile.hpp"

namespace varion::backend {

namespace {
void check(miopenStatus_t status, const char* what) {
  require(status == miopenStatusSuccess, Exit::environment, "MIOpen: ", what, ": ", miopenGetErrorString(status));
}

/// Lives as long as the program, as the descriptors below do.
miopenHandle_t library() {
  static const miopenHandle_t handle = [] {
    miopenHandle_t h = nullptr;
    check(miopenCreate(&h), "a handle");
    return h;
  }();
  return handle;
}
miopenHandle_t library(const Exec& exec) {
  check(miopenSetStream(library(), exec.hip_stream()), "the stream");
  return library();
}

Index piece(Index words) { return (words + 63) / 64 * 64; }  // parts of scratch start at 256 bytes

/// Extents in the library's order N, C, H, W, strides of channels last.
miopenTensorDescriptor_t channels_last(Index n, Index c, Index h, Index w) {
  const int extents[] = {narrow(n), narrow(c), narrow(h), narrow(w)};
  const int strides[] = {narrow(h * w * c), 1, narrow(w * c), narrow(c)};
  miopenTensorDescriptor_t d = nullptr;
  check(miopenCreateTensorDescriptor(&d), "a tensor");
  check(miopenSetTensorDescriptor(d, miopenFloat, 4, extents, strides), "a tensor's shape");
  return d;
}

/// One direction's kernel, the fastest by the library's own reckoning.
struct Choice {
  bool found = false;
  miopenConvSolution_t solution{};
  Index words() const { return piece(static_cast<Index>(solution.workspace_size / sizeof(Real)) + 1); }

  /// `ask(most, count, solutions)` lists them, `compile(id)` makes one ready.
  template <class Ask, class Compile>
  void take(const Ask& ask, const Compile& compile) {
    constexpr size_t limit = size_t(1) << 30;
    miopenConvSolution_t all[16];
    size_t count = 0;
    if (ask(size_t(16), &count, all) != miopenStatusSuccess) return;
    for (size_t i = 0; i < count && !found; ++i)
      if (all[i].workspace_size <= limit && compile(all[i].solution_id) == miopenStatusSuccess) {
        solution = all[i];
        found = true;
      }
  }
};

/// What is fixed by a shape.
struct Plan {
  bool alike;
  Conv met;  // the shape that MIOpen sees
  miopenTensorDescriptor_t x, y, weight;
  miopenConvolutionDescriptor_t conv = nullptr;
  Choice forward, data, filter;

  explicit Plan(const Conv& s)
      : alike(pads_alike(s)),
        met(alike ? s : padded_shape(s)),
        x(channels_last(met.n, met.c, met.h, met.w)),
        y(channels_last(s.n, s.o, s.ho, s.wo)),
        weight(channels_last(s.o, s.c, s.kh, s.kw)) {
    check(miopenCreateConvolutionDescriptor(&conv), "a convolution");
    check(miopenInitConvolutionDescriptor(conv, miopenConvolution, narrow(met.pad_top), narrow(met.pad_left),
                                          narrow(s.stride), narrow(s.stride), 1, 1),
          "a convolution's shape");
    check(miopenSetConvolutionAttribute(conv, MIOPEN_CONVOLUTION_ATTRIB_DETERMINISTIC, 1), "determinism");
    const miopenHandle_t h = library();
    forward.take(
        [&](auto... rest) { return miopenConvolutionForwardGetSolution(h, weight, x, conv, y, rest...); },
        [&](auto id) { return miopenConvolutionForwardCompileSolution(h, weight, x, conv, y, id); });
    data.take(
        [&](auto... rest) { return miopenConvolutionBackwardDataGetSolution(h, y, weight, conv, x, rest...); },
        [&](auto id) { return miopenConvolutionBackwardDataCompileSolution(h, y, weight, conv, x, id); });
    filter.take(
        [&](auto... rest) { return miopenConvolutionBackwardWeightsGetSolution(h, y, x, conv, weight, rest...); },
        [&](auto id) { return miopenConvolutionBackwardWeightsCompileSolution(h, y, x, conv, weight, id); });
  }

  Index weight_words() const { return piece(met.o * met.patch()); }
  Index image_words() const { return piece(met.n * met.h * met.w * met.c); }
};

const Plan& plan(const Conv& s) {
  refuse_empty(s);
  using Key = std::tuple<Index, Index, Index, Index, Index, Index, Index, Index, Index, Index, Index, Index>;
  static std::map<Key, Plan> all;
  return all.try_emplace(Key(s.n, s.h, s.w, s.c, s.o, s.kh, s.kw, s.stride, s.pad_top, s.pad_left, s.ho, s.wo), s)
      .first->second;
}

/// Scratch: the weight in MIOpen's order, an image (padded, or a gradient before it is added), the workspace.
struct Parts {
  Vec weight, image;
  Real* workspace;
  Parts(const Plan& p, const Conv& s, Vec scratch)
      : weight(slice(scratch, 0, s.o * s.patch())),
        image(slice(scratch, p.weight_words(), p.image_words())),
        workspace(scratch.data() + p.weight_words() + p.image_words()) {}
};
}  // namespace

class Miopen final : public Provider {
 public:
  std::string name() const override { return "miopen"; }
  std::string description() const override {
    size_t major = 0, minor = 0, patch = 0;
    miopenGetVersion(&major, &minor, &patch);
    const std::string gemm = rocblas().description();
    return text("convolution by MIOpen ", major, ".", minor, ".", patch, ", ", gemm.substr(0, gemm.find(',')));
  }
  void gemm(const Exec& exec, bool ta, bool tb, Index m, Index n, Index k, ConstVec a, ConstVec b, bool add,
            Vec c) const override {
    rocblas().gemm(exec, ta, tb, m, n, k, a, b, add, c);
  }
  void gemm_batched(const Exec& exec, bool ta, bool tb, Index batch, Index m, Index n, Index k, ConstVec a,
                    Index stride_a, ConstVec b, Index stride_b, bool add, Vec c, Index stride_c) const override {
    rocblas().gemm_batched(exec, ta, tb, batch, m, n, k, a, stride_a, b, stride_b, add, c, stride_c);
  }

  Index conv_scratch(const Conv& s, bool backward) const override {
    const Plan& p = plan(s);
    const bool all = backward ? p.data.found && p.filter.found : p.forward.found;
    const Index own = backward ? std::max(p.data.words(), p.filter.words()) : p.forward.words();
    return std::max(p.weight_words() + p.image_words() + own, all ? 0 : portable().conv_scratch(s, backward));
  }

  void conv_forward(const Exec& exec, const Conv& s, ConstVec x, ConstVec weight, ConstVec bias, Vec y,
                    Vec scratch) const override {
    const Plan& p = plan(s);
    if (!p.forward.found) return portable().conv_forward(exec, s, x, weight, bias, y, scratch);
    const Region region("conv2d::forward");
    const Parts parts(p, s, scratch);
    weight_to_channels_last(exec, s, weight, parts.weight);
    if (!p.alike) pad_image(exec, s, x, parts.image);
    check(miopenConvolutionForwardImmediate(library(exec), p.weight, parts.weight.data(), p.x,
                                            p.alike ? x.data() : parts.image.data(), p.conv, p.y, y.data(),
                                            parts.workspace, p.forward.solution.workspace_size,
                                            p.forward.solution.solution_id),
          "forward");
    if (bias.extent(0) > 0) add_bias(exec, s.n * s.ho * s.wo, s.o, bias, y);
  }

  void conv_backward_data(const Exec& exec, const Conv& s, ConstVec dy, ConstVec weight, bool add, Vec dx,
                          Vec scratch) const override {
    const Plan& p = plan(s);
    if (!p.data.found) return portable().conv_backward_data(exec, s, dy, weight, add, dx, scratch);
    const Region region("conv2d::backward_data");
    const Parts parts(p, s, scratch);
    const bool direct = p.alike && !add;  // it only overwrites
    weight_to_channels_last(exec, s, weight, parts.weight);
    check(miopenConvolutionBackwardDataImmediate(library(exec), p.y, dy.data(), p.weight, parts.weight.data(), p.conv,
                                                 p.x, direct ? dx.data() : parts.image.data(), parts.workspace,
                                                 p.data.solution.workspace_size, p.data.solution.solution_id),
          "backward data");
    if (!p.alike) unpad_image(exec, s, parts.image, add, dx);
    else if (add) add_image(exec, s, parts.image, dx);
  }

  void conv_backward_weight(const Exec& exec, const Conv& s, ConstVec x, ConstVec dy, bool add, Vec dweight,
                            Vec scratch) const override {
    const Plan& p = plan(s);
    if (!p.filter.found) return portable().conv_backward_weight(exec, s, x, dy, add, dweight, scratch);
    const Region region("conv2d::backward_weight");
    const Parts parts(p, s, scratch);
    if (!p.alike) pad_image(exec, s, x, parts.image);
    check(miopenConvolutionBackwardWeightsImmediate(library(exec), p.y, dy.data(), p.x,
                                                    p.alike ? x.data() : parts.image.data(), p.conv, p.weight,
                                                    parts.weight.data(), parts.workspace,
                                                    p.filter.solution.workspace_size, p.filter.solution.solution_id),
          "backward weight");
    weight_from_channels_last(exec, s, parts.weight, add, dweight);
  }
};

namespace {
const Miopen miopen;
const bool registered_miopen = add_provider(2, miopen);
}  // namespace

}  // namespace varion::backend
