// Extents as the libraries of vendors take them.
#pragma once

#include "core/error.hpp"
#include "core/types.hpp"

namespace varion::backend {

/// An extent in 32 bits.
inline int narrow(Index v) {
  ensure(v < (Index(1) << 31), "extent ", v, " does not fit 32 bits");
  return static_cast<int>(v);
}

}  // namespace varion::backend
