// What the Hessian and the posterior look like while a run goes on.
#pragma once

#include <array>
#include <optional>

#include "comm/comm.hpp"
#include "optim/optimizer.hpp"

namespace varion {

struct HessStatistics {
  std::array<double, 3> hess{}, sigma{}, snr{};  // 5 %, 50 % and 95 % points over all parameters; snr = |mean| / sigma
  double unmoved = 0;                            // share of the parameters whose hess is within 0.1 % of where it began
};

/// Of a variational optimizer's state, on the first rank; `start` is the value that hess began with. Two vectors of the host's memory.
/// Waits; collective where ranks keep a part of the state each.
std::optional<HessStatistics> hess_statistics(const Exec& exec, const Optimizer& optimizer, double start, const Comm& comm);

}  // namespace varion
