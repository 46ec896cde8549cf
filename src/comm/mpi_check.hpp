// MPI's return codes as errors.
#pragma once

#include <mpi.h>

#include "core/error.hpp"

namespace varion {

/// Errors (70): MPI's own text for a failed call.
inline void check_mpi(int status, const char* what) {
  if (status == MPI_SUCCESS) return;
  char why[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(status, why, &length);
  fail(Exit::internal, "MPI: ", what, ": ", why);
}

}  // namespace varion
