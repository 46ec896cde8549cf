// Does a run that is stopped and resumed end with the bits of the unbroken one?
#pragma once

#include "core/options.hpp"

namespace varion {

/// Trains `config` for `steps` steps in a temporary folder, once unbroken and once stopped half way and
/// resumed; returns whether every state vector is equal, bit for bit. Nothing of it is kept.
bool resumes_exactly(Config config, Index steps);

}  // namespace varion
