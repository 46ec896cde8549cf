// cuDNN: convolution, images channels last as ours are, weights brought into [O, kh, kw, C] in scratch. Only
// algorithms that give the same bits every time are taken; where cuDNN has none for a shape, portable convolves.
#include <cudnn.h>

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

#include "backends/cuda/cublas.hpp"
#include "backends/narrow.hpp"
#include "backends/portable/channels_last.hpp"
#include "core/error.hpp"
#include "core/profile.hpp"

namespace varion::backend {

namespace {
void check(cudnnStatus_t status, const char* what) {
  require(status == CUDNN_STATUS_SUCCESS, Exit::environment, "cuDNN: ", what, ": ", cudnnGetErrorString(status));
}

/// Lives as long as the program, as the descriptors below do.
cudnnHandle_t library() {
  static const cudnnHandle_t handle = [] {
    cudnnHandle_t h = nullptr;
    check(cudnnCreate(&h), "a handle");
    return h;
  }();
  return handle;
}
cudnnHandle_t library(const Exec& exec) {
  check(cudnnSetStream(library(), exec.cuda_stream()), "the stream");
  return library();
}

Index piece(Index words) { return (words + 63) / 64 * 64; }  // parts of scratch start at 256 bytes

cudnnTensorDescriptor_t images(Index n, Index h, Index w, Index c) {
  cudnnTensorDescriptor_t d = nullptr;
  check(cudnnCreateTensorDescriptor(&d), "a tensor");
  check(cudnnSetTensor4dDescriptor(d, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, narrow(n), narrow(c), narrow(h), narrow(w)),
        "a tensor's shape");
  return d;
}

/// One direction's algorithm, the fastest by the library's own reckoning that always gives the same bits.
template <class Algorithm>
struct Choice {
  bool found = false;
  Algorithm algorithm{};
  size_t bytes = 0;
  Index words() const { return piece(static_cast<Index>(bytes / sizeof(Real)) + 1); }

  template <class Results, class Workspace>
  void take(const Results& results, int count, const Workspace& workspace) {
    constexpr size_t limit = size_t(1) << 30;
    for (int i = 0; i < count && !found; ++i) {
      const auto& r = results[static_cast<size_t>(i)];
      if (r.status != CUDNN_STATUS_SUCCESS || r.determinism != CUDNN_DETERMINISTIC) continue;
      size_t needed = 0;
      if (workspace(r.algo, &needed) != CUDNN_STATUS_SUCCESS || needed > limit) continue;
      bytes = needed;
      algorithm = r.algo;
      found = true;
    }
  }
};

/// What is fixed by a shape and a precision.
struct Plan {
  bool alike;
  Conv met;  // the shape that cuDNN sees
  cudnnTensorDescriptor_t x, y;
  cudnnFilterDescriptor_t weight = nullptr;
  cudnnConvolutionDescriptor_t conv = nullptr;
  Choice<cudnnConvolutionFwdAlgo_t> forward;
  Choice<cudnnConvolutionBwdDataAlgo_t> data;
  Choice<cudnnConvolutionBwdFilterAlgo_t> filter;

  explicit Plan(const Conv& s)
      : alike(pads_alike(s)),
        met(alike ? s : padded_shape(s)),
        x(images(met.n, met.h, met.w, met.c)),
        y(images(s.n, s.ho, s.wo, s.o)) {
    check(cudnnCreateFilterDescriptor(&weight), "a filter");
    check(cudnnSetFilter4dDescriptor(weight, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NHWC, narrow(s.o), narrow(s.c), narrow(s.kh),
                                     narrow(s.kw)),
          "a filter's shape");
    check(cudnnCreateConvolutionDescriptor(&conv), "a convolution");
    check(cudnnSetConvolution2dDescriptor(conv, narrow(met.pad_top), narrow(met.pad_left), narrow(s.stride), narrow(s.stride), 1,
                                          1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT),
          "a convolution's shape");
    // The default mode allows TF32, which serves bf16 too: no second copy of the images.
    check(cudnnSetConvolutionMathType(conv, precision() == Precision::fp32 ? CUDNN_FMA_MATH : CUDNN_DEFAULT_MATH),
          "a math type");
    choose();
  }

  void choose() {
    const cudnnHandle_t h = library();
    int count = 0;
    std::array<cudnnConvolutionFwdAlgoPerf_t, CUDNN_CONVOLUTION_FWD_ALGO_COUNT> f;
    if (cudnnGetConvolutionForwardAlgorithm_v7(h, x, weight, conv, y, narrow(f.size()), &count, f.data()) == CUDNN_STATUS_SUCCESS)
      forward.take(f, count, [&](auto algorithm, size_t* bytes) {
        return cudnnGetConvolutionForwardWorkspaceSize(h, x, weight, conv, y, algorithm, bytes);
      });
    std::array<cudnnConvolutionBwdDataAlgoPerf_t, CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT> d;
    if (cudnnGetConvolutionBackwardDataAlgorithm_v7(h, weight, y, conv, x, narrow(d.size()), &count, d.data()) == CUDNN_STATUS_SUCCESS)
      data.take(d, count, [&](auto algorithm, size_t* bytes) {
        return cudnnGetConvolutionBackwardDataWorkspaceSize(h, weight, y, conv, x, algorithm, bytes);
      });
    std::array<cudnnConvolutionBwdFilterAlgoPerf_t, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT> w;
    if (cudnnGetConvolutionBackwardFilterAlgorithm_v7(h, x, y, conv, weight, narrow(w.size()), &count, w.data()) == CUDNN_STATUS_SUCCESS)
      filter.take(w, count, [&](auto algorithm, size_t* bytes) {
        return cudnnGetConvolutionBackwardFilterWorkspaceSize(h, x, y, conv, weight, algorithm, bytes);
      });
  }

  Index weight_words() const { return piece(met.o * met.patch()); }
  Index image_words() const { return alike ? 0 : piece(met.n * met.h * met.w * met.c); }
};

const Plan& plan(const Conv& s) {
  refuse_empty(s);
  using Key = std::tuple<Precision, Index, Index, Index, Index, Index, Index, Index, Index, Index, Index, Index, Index>;
  static std::map<Key, Plan> all;
  return all.try_emplace(Key(precision(), s.n, s.h, s.w, s.c, s.o, s.kh, s.kw, s.stride, s.pad_top, s.pad_left, s.ho, s.wo), s)
      .first->second;
}

/// Scratch: the weight in cuDNN's order, the padded image where there is one, the library's workspace.
struct Parts {
  Vec weight, image;
  Real* workspace;
  Parts(const Plan& p, const Conv& s, Vec scratch)
      : weight(slice(scratch, 0, s.o * s.patch())),
        image(slice(scratch, p.weight_words(), p.image_words())),
        workspace(scratch.data() + p.weight_words() + p.image_words()) {}
};
}  // namespace

class Cudnn final : public Provider {
 public:
  std::string name() const override { return "cudnn"; }
  std::string description() const override {
    const size_t v = cudnnGetVersion();
    const std::string gemm = cublas().description();
    return text("convolution by cuDNN ", v / 10000, ".", v / 100 % 100, ".", v % 100, ", ", gemm.substr(0, gemm.find(',')));
  }
  void gemm(const Exec& exec, bool ta, bool tb, Index m, Index n, Index k, ConstVec a, ConstVec b, bool add,
            Vec c) const override {
    cublas().gemm(exec, ta, tb, m, n, k, a, b, add, c);
  }
  void gemm_batched(const Exec& exec, bool ta, bool tb, Index batch, Index m, Index n, Index k, ConstVec a,
                    Index stride_a, ConstVec b, Index stride_b, bool add, Vec c, Index stride_c) const override {
    cublas().gemm_batched(exec, ta, tb, batch, m, n, k, a, stride_a, b, stride_b, add, c, stride_c);
  }
  bool takes_bf16() const override { return true; }
  void gemm_bf16(const Exec& exec, bool ta, bool tb, Index m, Index n, Index k, const Matrix& a, const Matrix& b, bool add,
                 const Matrix& c) const override {
    cublas().gemm_bf16(exec, ta, tb, m, n, k, a, b, add, c);
  }
  Index attention_scratch(const Attention& s, bool backward) const override { return cublas().attention_scratch(s, backward); }
  void attention_forward(const Exec& exec, const Attention& s, ConstVec qkv, Vec y, Vec log_sum, Vec scratch) const override {
    cublas().attention_forward(exec, s, qkv, y, log_sum, scratch);
  }
  void attention_backward(const Exec& exec, const Attention& s, ConstVec qkv, ConstVec y, ConstVec dy, ConstVec log_sum, bool add,
                          Vec dqkv, Vec scratch) const override {
    cublas().attention_backward(exec, s, qkv, y, dy, log_sum, add, dqkv, scratch);
  }
  bool attends_bf16(const Attention& s) const override { return cublas().attends_bf16(s); }
  void attention_forward_bf16(const Exec& exec, const Attention& s, ConstBf16Vec qkv, Bf16Vec y, Vec log_sum) const override {
    cublas().attention_forward_bf16(exec, s, qkv, y, log_sum);
  }
  void attention_backward_bf16(const Exec& exec, const Attention& s, ConstBf16Vec qkv, ConstBf16Vec y, ConstBf16Vec dy, ConstVec log_sum,
                               bool add, Bf16Vec dqkv, Vec scratch) const override {
    cublas().attention_backward_bf16(exec, s, qkv, y, dy, log_sum, add, dqkv, scratch);
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
    const Real one = 1, zero = 0;
    weight_to_channels_last(exec, s, weight, parts.weight);
    if (!p.alike) pad_image(exec, s, x, parts.image);
    check(cudnnConvolutionForward(library(exec), &one, p.x, p.alike ? x.data() : parts.image.data(), p.weight,
                                  parts.weight.data(), p.conv, p.forward.algorithm, parts.workspace, p.forward.bytes, &zero, p.y,
                                  y.data()),
          "forward");
    if (bias.extent(0) > 0) add_bias(exec, s.n * s.ho * s.wo, s.o, bias, y);
  }

  void conv_backward_data(const Exec& exec, const Conv& s, ConstVec dy, ConstVec weight, bool add, Vec dx,
                          Vec scratch) const override {
    const Plan& p = plan(s);
    if (!p.data.found) return portable().conv_backward_data(exec, s, dy, weight, add, dx, scratch);
    const Region region("conv2d::backward_data");
    const Parts parts(p, s, scratch);
    const Real one = 1, beta = add && p.alike ? Real(1) : Real(0);
    weight_to_channels_last(exec, s, weight, parts.weight);
    check(cudnnConvolutionBackwardData(library(exec), &one, p.weight, parts.weight.data(), p.y, dy.data(), p.conv,
                                       p.data.algorithm, parts.workspace, p.data.bytes, &beta, p.x,
                                       p.alike ? dx.data() : parts.image.data()),
          "backward data");
    if (!p.alike) unpad_image(exec, s, parts.image, add, dx);
  }

  void conv_backward_weight(const Exec& exec, const Conv& s, ConstVec x, ConstVec dy, bool add, Vec dweight,
                            Vec scratch) const override {
    const Plan& p = plan(s);
    if (!p.filter.found) return portable().conv_backward_weight(exec, s, x, dy, add, dweight, scratch);
    const Region region("conv2d::backward_weight");
    const Parts parts(p, s, scratch);
    const Real one = 1, zero = 0;
    if (!p.alike) pad_image(exec, s, x, parts.image);
    check(cudnnConvolutionBackwardFilter(library(exec), &one, p.x, p.alike ? x.data() : parts.image.data(), p.y, dy.data(),
                                         p.conv, p.filter.algorithm, parts.workspace, p.filter.bytes, &zero, p.weight,
                                         parts.weight.data()),
          "backward weight");
    weight_from_channels_last(exec, s, parts.weight, add, dweight);
  }
};

namespace {
const Cudnn cudnn;
const bool registered_cudnn = add_provider(2, cudnn);
}  // namespace

}  // namespace varion::backend
