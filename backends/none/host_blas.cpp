// Stands in for backends/openmp where the build found no host BLAS.
#include "backends/backend.hpp"

namespace varion::backend {
const Provider* host_blas() { return nullptr; }
}  // namespace varion::backend
