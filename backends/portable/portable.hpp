#pragma once

#include "backends/backend.hpp"

namespace varion::backend {

/// `portable` as a GPU runs it, on any execution space: on a host it is slow, and there for the tests.
const Provider& portable_teams();

}  // namespace varion::backend
