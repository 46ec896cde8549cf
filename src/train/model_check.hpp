// Finite differences for every registered model.
#pragma once

#include "ops/gradient_check.hpp"

namespace varion {

/// Every registered model with its default options, or those of its small size, on a batch of two of its example input.
std::vector<GradientResult> check_model_gradients(double spoil = 1);

}  // namespace varion
