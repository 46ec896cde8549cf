// Finite differences for every registered op.
#pragma once

#include <string>
#include <vector>

#include "ops/ops.hpp"

namespace varion {

struct GradientResult {
  std::string name, label;  // op, and "case: what was varied"
  double error, tolerance;
  bool ok;
};

/// Directional derivatives of sum(c y), c random, by central differences in float32, for every case of
/// every registered op, by each float input and by the parameters. `spoil` scales the analytic gradient:
/// anything but 1 must be found wrong.
std::vector<GradientResult> check_op_gradients(double spoil = 1);

/// For a whole network at its initial weights, tensor by tensor: the derivative along the tensor's own
/// analytic gradient must be that gradient's norm. The error is relative.
std::vector<GradientResult> check_tensor_gradients(const std::string& name, const OpCase& c, double spoil = 1);

}  // namespace varion
