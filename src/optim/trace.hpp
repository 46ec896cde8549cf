// Replays an optimizer trace: noise and gradients in, trajectory compared.
#pragma once

#include <map>
#include <string>

namespace varion {

/// Largest error per state vector, relative to that vector's largest entry. The file is JSON,
/// `varion-optimizer-trace-1`. Errors (65, 66): no such file, another format, wrong sizes.
std::map<std::string, double> replay_trace(const std::string& path);

}  // namespace varion
