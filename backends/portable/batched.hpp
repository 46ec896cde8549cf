#pragma once

#include "core/types.hpp"

namespace varion::backend {

/// `batch` products of small matrices, as Provider::gemm_batched says. The sum over k is in order.
void batched_gemm(const Exec&, bool transpose_a, bool transpose_b, Index batch, Index m, Index n, Index k, ConstVec a,
                  Index stride_a, ConstVec b, Index stride_b, bool add, Vec c, Index stride_c);

}  // namespace varion::backend
