// Models: functions of op calls, by name.
#pragma once

#include <functional>
#include <string>

#include "core/options.hpp"
#include "ops/ops.hpp"

namespace varion {

struct Model {
  static const char* kind() { return "model"; }
  std::string help;
  Shape example;  // an input it accepts, without the batch, for tests
  /// x [N, D] or [N, H, W, C] -> [N, outputs].
  std::function<Node(Graph&, Node x, const Config&, Index outputs)> build;
};
using Models = Registry<Model>;

}  // namespace varion
