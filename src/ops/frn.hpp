// Two ways to the same normalisation, for the tests to compare: vectors of channels on a host, teams on a GPU.
#pragma once

#include "core/types.hpp"
#include "graph/graph.hpp"

namespace varion {

/// x, y and residual (or none) [N, HW, C]; gamma, beta, tau [C]; r [N, C] is kept for backward.
void frn_forward(const Exec&, Index n, Index hw, Index c, ConstVec x, ConstVec gamma, ConstVec beta, ConstVec tau, ConstVec residual,
                 Vec r, Vec y);
void frn_forward_teams(const Exec&, Index n, Index hw, Index c, ConstVec x, ConstVec gamma, ConstVec beta, ConstVec tau,
                       ConstVec residual, Vec r, Vec y);
/// dx (none: not wanted) and partial [N, 3, C]: each image's share of the gradients of gamma, beta and tau.
void frn_backward(const Exec&, Index n, Index hw, Index c, ConstVec x, ConstVec gamma, ConstVec beta, ConstVec tau, ConstVec r,
                  ConstVec dy, GradSlot dx, Vec partial);
void frn_backward_teams(const Exec&, Index n, Index hw, Index c, ConstVec x, ConstVec gamma, ConstVec beta, ConstVec tau, ConstVec r,
                        ConstVec dy, GradSlot dx, Vec partial);

}  // namespace varion
