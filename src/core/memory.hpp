// Long vectors of the device.
#pragma once

#include "core/types.hpp"

namespace varion {

/// A zeroed vector. On a Linux host a long one asks for huge pages before it is touched: a training step walks through
/// all of it, and with pages of 4 kB address translation costs it some 5 % (resnet20, batch 128).
Vec long_vector(const std::string& label, Index words);

/// v = value. 4 bytes per element.
void fill(const Exec& exec, const Vec& v, Real value);

}  // namespace varion
