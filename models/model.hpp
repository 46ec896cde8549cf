// Models: functions of op calls, by name.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/options.hpp"
#include "ops/ops.hpp"

namespace varion {

/// Training steps that `varion bench` times.
struct StepCase {
  std::string label;
  std::vector<std::pair<std::string, std::string>> settings;  // besides model.name
  Shape example;  // of rank 3: images, stored as bytes, mirrored and shifted, as in training on files
  std::vector<Index> batches;
};

struct Model {
  static const char* kind() { return "model"; }
  std::string help;
  Shape example;  // an input it accepts, without the batch, for tests
  /// x [N, D] or [N, H, W, C] -> [N, outputs].
  std::function<Node(Graph&, Node x, const Config&, Index outputs)> build;
  std::vector<StepCase> timed = {};
  std::vector<std::pair<std::string, std::string>> small = {};  // settings for tests, where the usual size takes long
};
using Models = Registry<Model>;

}  // namespace varion
