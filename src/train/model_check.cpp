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
    const Model& m = model;
    const bool text = m.reads_text(), tokens = text && m.text_task(config) != TextTask::passage;
    const OpCase c(name, {batched(2, m.example)},
                   [&](Graph& g, const std::vector<Node>& x) {
                     const Node y = m.build(g, x[0], config, 10);
                     return tokens ? tied_linear(g, y, m.head) : y;
                   },
                   text ? 0 : -1, text ? 10 : 0, 0.05);
    for (const GradientResult& r : check_tensor_gradients(name, c, spoil)) out.push_back(r);
  }
  return out;
}

}  // namespace varion
