// How much of a campaign runs: VARION_TIER, as in whole_jobs.py.
#pragma once

#include <cstdlib>

namespace varion {

/// With every change (C, without the variable), nightly (N), for a release (R).
template <class T>
T by_tier(T change, T nightly, T release) {
  const char* const tier = std::getenv("VARION_TIER");
  return tier == nullptr || *tier == 'C' ? change : *tier == 'N' ? nightly : release;
}

}  // namespace varion
