#include "train/model_check.hpp"

#include "models/model.hpp"
#include "train/network.hpp"

namespace varion {

std::vector<GradientResult> check_model_gradients(double spoil) {
  std::vector<GradientResult> out;
  for (const auto& [name, model] : Models::of().all()) {
    Config config;
    config.set("model.name", name, "verify");
    for (const auto& [key, value] : model.small) config.set(key, value, "verify");
    config.resolve();
    // Deep networks have many kinks (ReLU, FRN's threshold) and float32 ends the step's shrinking.
    const auto& build = model.build;
    const OpCase c(name, {batched(2, model.example)},
                   [&](Graph& g, const std::vector<Node>& x) { return build(g, x[0], config, 10); }, -1, 0,
                   0.05);
    for (const GradientResult& r : check_tensor_gradients(name, c, spoil)) out.push_back(r);
  }
  return out;
}

}  // namespace varion
