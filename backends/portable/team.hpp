// GEMM and convolution by teams (team_tiles.hpp): what a GPU without a vendor library runs.
#pragma once

#include "backends/portable/window.hpp"

namespace varion::backend {

/// C = op(A) op(B) + (add ? C : 0).
void team_gemm(const Exec&, bool transpose_a, bool transpose_b, Index m, Index n, Index k, ConstVec a, ConstVec b,
               bool add, Vec c);

/// out (+)= the window's sum (+ bias, where not empty).
void team_window(const char* label, const Exec&, const Window&, ConstVec in, ConstVec panels, ConstVec bias, bool add,
                 Vec out);

/// dweight (+)= sum over pixels of dy times patch; of a forward window. `work`: team_weight_words.
void team_weight(const Exec&, const Window&, ConstVec x, ConstVec dy, bool add, Vec dweight, Vec work);
Index team_weight_words(const Window&);

/// A team a tile of queries, and for the gradients of keys and values one a tile of keys. `work`: team_attention_words.
Index team_attention_words(const Attention&, bool backward);
void team_attention_forward(const Exec&, const Attention&, ConstVec qkv, Vec y, Vec log_sum);
void team_attention_backward(const Exec&, const Attention&, ConstVec qkv, ConstVec y, ConstVec dy, ConstVec log_sum, bool add,
                             Vec dqkv, Vec work);

}  // namespace varion::backend
