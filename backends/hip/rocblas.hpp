#pragma once

#include "backends/backend.hpp"

namespace varion::backend {

/// GEMM by rocBLAS, convolution by portable.
const Provider& rocblas();

}  // namespace varion::backend
