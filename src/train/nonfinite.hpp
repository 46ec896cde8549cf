// Numbers that are none: which is the first.
#pragma once

#include <string>
#include <vector>

#include "comm/comm.hpp"
#include "io/posterior_plan.hpp"
#include "optim/optimizer.hpp"

namespace varion {

/// ", the first in VECTOR of TENSOR[INDEX]", of the first rank that has one, or nothing. The vectors are own stretches, as
/// Optimizer::state gives them. Copies them to the host. Collective.
std::string first_nonfinite(const std::vector<StateVector>& vectors, const Optimizer& optimizer, const Layout& layout, const Comm& comm);

/// The last word before a file: what was read of the steps cannot have missed a number. "VECTOR of TENSOR[INDEX]", the first one in
/// these stretches, one a vector of the file; empty: all are finite.
std::string nonfinite_entry(const io::PosteriorFile& file, const std::vector<io::Stretch>& vectors);

/// Errors (65): a posterior whose variance is no positive number somewhere. `name` is the file its Hessian is from.
void require_positive(const Optimizer& optimizer, const std::string& name);

}  // namespace varion
