// The seam to vendors: the few primitives worth a vendor library. `portable` implements all of them
// with Kokkos; another provider replaces what its library does better and is held
// equal to `portable` by one test table (tests/kernels/providers.cpp).
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/bfloat16.hpp"
#include "core/types.hpp"

namespace varion::backend {

/// A 2-D convolution. x [N, H, W, C], weight [O, C, kh, kw] (PyTorch's order), y [N, Ho, Wo, O].
/// Images are stored channels last: the patch rows of im2col are then runs of C, the bias and FRN run
/// along the fast axis, and it is what tensor cores and the vendors' libraries prefer.
struct Conv {
  Index n, h, w, c, o, kh, kw, stride, pad_top, pad_left, ho, wo;
  Index patch() const { return kh * kw * c; }
};

/// Softmax attention of many heads. qkv [batch length, 3 heads width]: queries, keys, values, head by head; y [batch length,
/// heads width]. With `causal` a position sees none behind it.
struct Attention {
  Index batch, length, heads, width;
  bool causal;
  KOKKOS_INLINE_FUNCTION Index pitch() const { return 3 * heads * width; }
  KOKKOS_INLINE_FUNCTION Index rows() const { return batch * length; }
  /// Queries of (item = sequence heads + head), row 0; keys and values follow heads width words after one another.
  KOKKOS_INLINE_FUNCTION Index query(Index item) const { return item / heads * length * pitch() + item % heads * width; }
  KOKKOS_INLINE_FUNCTION Index output(Index item) const { return (item / heads * length * heads + item % heads) * width; }
};

/// A matrix in the device's memory, row by row, `pitch` numbers from one row to the next.
struct Matrix {
  const void* data;
  bool bf16;  // or float32
  Index pitch, size;
  template <class V>
  Matrix(const V& v, Index pitch_)
      : data(v.data()), bf16(std::is_same_v<typename V::non_const_value_type, Bfloat16>), pitch(pitch_), size(static_cast<Index>(v.extent(0))) {}
  Matrix(const AnyVec& v, Index pitch_) : Matrix(std::visit([=](const auto& all) { return Matrix(all, pitch_); }, v)) {}
};

/// Every provider's first line: an empty batch or matrix is an internal error (exit 70).
void refuse_empty(const Conv&);
void refuse_empty(const Attention&);
void refuse_empty(Index batch, Index m, Index n, Index k);

class Provider {
 public:
  virtual ~Provider() = default;
  virtual std::string name() const = 0;
  virtual std::string description() const = 0;

  /// C = op(A) op(B) + (add ? C : 0); C [m, n], op(A) [m, k], op(B) [k, n], all row-major and packed.
  /// 2 m n k flops. Without `add`, C is never read.
  virtual void gemm(const Exec&, bool transpose_a, bool transpose_b, Index m, Index n, Index k,
                    ConstVec a, ConstVec b, bool add, Vec c) const = 0;

  /// The same `batch` times: matrix number i of each lies i strides, in words, after the first.
  virtual void gemm_batched(const Exec&, bool transpose_a, bool transpose_b, Index batch, Index m, Index n, Index k,
                            ConstVec a, Index stride_a, ConstVec b, Index stride_b, bool add, Vec c,
                            Index stride_c) const = 0;

  /// Whether it has the functions below that end in _bf16, which take numbers kept in bfloat16. Sums are float32's there too.
  virtual bool takes_bf16() const { return false; }
  /// `gemm` of matrices of either kind, factors in float32 rounded to bfloat16 first; C is written.
  virtual void gemm_bf16(const Exec&, bool transpose_a, bool transpose_b, Index m, Index n, Index k, const Matrix& a, const Matrix& b,
                         bool add, const Matrix& c) const;

  /// Words of scratch the forward convolution, or either of the two backward ones, may use.
  virtual Index conv_scratch(const Conv&, bool backward) const = 0;
  /// y = conv(x, weight) + bias (bias may be empty). 2 N Ho Wo O patch flops.
  virtual void conv_forward(const Exec&, const Conv&, ConstVec x, ConstVec weight, ConstVec bias,
                            Vec y, Vec scratch) const = 0;
  /// dx (+)= conv transposed (dy, weight).
  virtual void conv_backward_data(const Exec&, const Conv&, ConstVec dy, ConstVec weight, bool add,
                                  Vec dx, Vec scratch) const = 0;
  /// dweight (+)= sum over positions of dy times patch.
  virtual void conv_backward_weight(const Exec&, const Conv&, ConstVec x, ConstVec dy, bool add,
                                    Vec dweight, Vec scratch) const = 0;

  /// Words of scratch that attention may use.
  virtual Index attention_scratch(const Attention&, bool backward) const;
  /// y = softmax(q k^T / sqrt(width)) v; log_sum [batch heads, length] is what backward needs of the softmax. 4 length^2 width
  /// flops a head, half of them where causal.
  virtual void attention_forward(const Exec&, const Attention&, ConstVec qkv, Vec y, Vec log_sum, Vec scratch) const;
  /// dqkv (+)= the gradient.
  virtual void attention_backward(const Exec&, const Attention&, ConstVec qkv, ConstVec y, ConstVec dy, ConstVec log_sum, bool add,
                                  Vec dqkv, Vec scratch) const;
  /// Whether it takes this one in bfloat16.
  virtual bool attends_bf16(const Attention&) const { return false; }
  virtual void attention_forward_bf16(const Exec&, const Attention&, ConstBf16Vec qkv, Bf16Vec y, Vec log_sum) const;
  virtual void attention_backward_bf16(const Exec&, const Attention&, ConstBf16Vec qkv, ConstBf16Vec y, ConstBf16Vec dy, ConstVec log_sum,
                                       bool add, Bf16Vec dqkv, Vec scratch) const;
};

/// The provider of every build.
const Provider& portable();

/// What a library of GEMM alone derives from.
class PortableConvolution : public Provider {
 public:
  Index conv_scratch(const Conv& s, bool backward) const override { return portable().conv_scratch(s, backward); }
  void conv_forward(const Exec& exec, const Conv& s, ConstVec x, ConstVec weight, ConstVec bias, Vec y,
                    Vec scratch) const override {
    portable().conv_forward(exec, s, x, weight, bias, y, scratch);
  }
  void conv_backward_data(const Exec& exec, const Conv& s, ConstVec dy, ConstVec weight, bool add, Vec dx,
                          Vec scratch) const override {
    portable().conv_backward_data(exec, s, dy, weight, add, dx, scratch);
  }
  void conv_backward_weight(const Exec& exec, const Conv& s, ConstVec x, ConstVec dy, bool add, Vec dweight,
                            Vec scratch) const override {
    portable().conv_backward_weight(exec, s, x, dy, add, dweight, scratch);
  }
};

/// Makes another one known; its file calls this at namespace scope. The highest `rank` is preferred.
bool add_provider(int rank, const Provider& provider);

/// All providers of this build, `portable` first, the preferred one last.
std::vector<const Provider*> providers();

/// The provider in use: the preferred one, or the one named by VARION_PROVIDER.
const Provider& provider();

/// C = op(A) op(B) + (add ? C : 0) by the provider in use: its gemm (matrices without gaps), or gemm_bf16 where one is kept in bfloat16.
void multiply(const Exec&, bool transpose_a, bool transpose_b, Index m, Index n, Index k, const Matrix& a, const Matrix& b, bool add,
              const Matrix& c);

/// Chooses by name. Errors: unknown name (exit 78).
void use_provider(const std::string& name);
void use_provider(const Provider&);  // one that no build lists

/// How GEMMs, convolutions and attention multiply: float32 throughout, or factors rounded to 10 bits of mantissa (TF32) or
/// to 7 (bfloat16) and summed in float32. Everything else computes in float32 always.
enum class Precision { fp32, tf32, bf16 };
Precision precision();
std::string precision_name();
/// Whether what is between products, attention and sums is kept in bfloat16 too: at bf16, where the provider takes it.
bool keeps_bf16();
/// Whether MPI is given device memory: `choice` is on, off, or auto, which asks the MPI library (Cray's: by its environment).
bool mpi_takes_device_memory(const std::string& choice);

/// "fp32", "tf32" or "bf16". Errors (78): this build's back end has no such arithmetic; `where` says who asked.
void use_precision(const std::string& name, const std::string& where);

// --- one file a vendor: backends/{openmp,cuda,hip}/device.cpp -------------------------------------

/// Whether tf32 and bf16 are known: GPUs that have one have both.
bool rounds_factors();

/// Whether the MPI library says that it can be given memory of this vendor's devices. False on hosts.
bool mpi_knows_device_memory();

/// Why kernels cannot run here, in one line, or nothing. Callable before Kokkos is started.
std::string missing_device();

/// One line a device: name, and how it differs from its neighbours. Callable before Kokkos is started.
std::vector<std::string> devices();

/// Memory of the host, not initialised, into which the device can copy while it computes.
std::shared_ptr<float> host_words(size_t words);

/// A place in the queue of an execution space. On a host, whose work is done when a call returns, there is nothing to wait for.
class Mark {
 public:
  /// Behind what has been queued on `exec`.
  void set(const Exec& exec);
  /// Until the work before it is done; at once where it was never set.
  void wait() const;

 private:
  std::shared_ptr<void> event_;
};

/// What a table of measurements must say about the device in use: name, driver, clocks, threads.
std::vector<std::pair<std::string, std::string>> device_facts();

}  // namespace varion::backend
