#pragma once

#include "backends/backend.hpp"

namespace varion::backend {

/// GEMM by cuBLAS, convolution by portable.
const Provider& cublas();

}  // namespace varion::backend
