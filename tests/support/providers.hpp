// The providers that tests of kernels compare.
#pragma once

#include <vector>

#include "backends/portable/portable.hpp"

namespace varion {

/// Those of the build, and portable as a GPU runs it.
inline std::vector<const backend::Provider*> all_providers() {
  std::vector<const backend::Provider*> all;
  for (const auto* p : backend::providers()) all.push_back(p);
  if (kHostExec) all.push_back(&backend::portable_teams());
  return all;
}

}  // namespace varion
