// GEMM and convolution on a host, from one micro-kernel (tile.hpp). Words of scratch are the caller's.
#pragma once

#include "backends/portable/window.hpp"

namespace varion::backend {

/// C = op(A) op(B) + (add ? C : 0). The sum over k is in order, in blocks of a fixed length: the same bits
/// for any number of threads.
void host_gemm(bool transpose_a, bool transpose_b, Index m, Index n, Index k, const Real* a, const Real* b, bool add,
               Real* c);

/// out (+)= the window's sum (+ bias, where not null). `work`: host_window_words.
void host_window(const char* label, const Window&, const Real* in, const Real* panels, const Real* bias, bool add,
                 Real* out, Real* work);
Index host_window_words(const Window&);

/// dweight (+)= sum over pixels of dy times patch; of a forward window. `work`: host_weight_words.
void host_weight(const Window&, const Real* x, const Real* dy, bool add, Real* dweight, Real* work);
Index host_weight_words(const Window&);

/// One head of one sequence after another, in blocks of queries; only their rows of the T x T matrix exist. `work`:
/// host_attention_words.
Index host_attention_words(const Attention&, bool backward);
void host_attention_forward(const Attention&, const Real* qkv, Real* y, Real* log_sum, Real* work);
void host_attention_backward(const Attention&, const Real* qkv, const Real* y, const Real* dy, const Real* log_sum, bool add,
                             Real* dqkv, Real* work);

}  // namespace varion::backend
