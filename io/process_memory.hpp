// What the system says about this process's memory.
#pragma once

namespace varion::io {

/// Largest resident set in bytes since the start or the last reset; 0 where the system does not tell.
double resident_peak();
/// Starts that maximum anew, where the system can (Linux).
void reset_resident_peak();

}  // namespace varion::io
