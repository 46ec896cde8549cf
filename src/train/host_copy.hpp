// Device vectors on the host, whole where ranks keep a part each.
#pragma once

#include <vector>

#include "comm/comm.hpp"
#include "optim/optimizer.hpp"

namespace varion {

/// The numbers of a device vector, on the host.
std::vector<float> to_host(const Vec& v);

/// The whole vector of which v is this rank's stretch, on the first rank or on all; v itself where the posterior is not
/// sharded.
std::vector<float> whole(const Vec& v, const Optimizer& optimizer, const Comm& comm, bool everywhere = false);

}  // namespace varion
