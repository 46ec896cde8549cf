// A perceptron of any widths; without hidden layers it is a linear model.
#include "models/model.hpp"

namespace varion {

Node mlp(Graph& g, Node x, const Config& config, const Sizes& sizes) {
  const std::string activation = config.text("model.activation");
  Node h = flatten(g, x);  // [N, D]
  int layer = 0;
  for (const Index width : config.sizes("model.sizes")) {
    h = linear(g, h, "layers." + std::to_string(layer++), width, {true, activation == "relu"});  // [N, width]
    if (activation != "relu") h = activation == "tanh" ? tanh(g, h) : silu(g, h);
    h = dropout(g, h, static_cast<Real>(config.real("model.dropout")));
  }
  return linear(g, h, "layers." + std::to_string(layer), sizes.outputs);  // [N, outputs]
}

namespace {
using T = OptionSpec::Type;
const StepCase mlp_step{"mlp-1024-1024", {{"model.sizes", "1024,1024"}}, {784}, {128}};
const bool registered_mlp =
    add_options("mlp", {{"model.sizes", T::sizes, "64,64", "hidden widths, e.g. 64,64 (empty: none)"},
                        {"model.activation", T::choice, "relu", "between layers", {"relu", "tanh", "silu"}},
                        {"model.dropout", T::real, "0", "share of hidden units dropped", {}, 0, 0.99}}) &&
    Models::of().add("mlp", {"perceptron of any widths", {12}, mlp, {mlp_step}});
}  // namespace

}  // namespace varion
