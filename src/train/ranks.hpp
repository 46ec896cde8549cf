// What the ranks of a run must have in common, and where they are.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "comm/comm.hpp"

namespace varion {

/// The name of the machine this process runs on.
std::string host_name();

/// Compares named texts over ranks. Collective. Errors (78): the first field in which a rank differs from rank 0.
void require_alike(const Comm& comm, const std::vector<std::pair<std::string, std::string>>& fields);

/// One line a rank: host, device, processors it may use; then notes where ranks share processors. Collective. Errors (69):
/// two ranks on one GPU, unless `may_share`.
std::vector<std::string> rank_map(const Comm& comm, bool may_share);

}  // namespace varion
