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

}  // namespace varion::backend
