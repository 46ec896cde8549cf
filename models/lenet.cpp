// LeNet with ReLU and average pooling, as in the paper's section 4.2.4.
#include "models/model.hpp"

namespace varion {

Node lenet(Graph& g, Node x, const Config&, const Sizes& sizes) {
  x = relu(g, conv2d(g, x, "conv1", 6, 5, {1, true, 2, false}));  // [N, 28, 28, 6]
  x = avg_pool(g, x, 2, 2);                                       // [N, 14, 14, 6]
  x = relu(g, conv2d(g, x, "conv2", 16, 5));                      // [N, 10, 10, 16]
  x = flatten(g, avg_pool(g, x, 2, 2));                           // [N, 400]
  x = linear(g, x, "fc1", 120, {true, true});                     // [N, 120]
  x = linear(g, x, "fc2", 84, {true, true});                      // [N, 84]
  return linear(g, x, "fc3", sizes.outputs);                      // [N, outputs]
}

namespace {
const bool registered_lenet = Models::of().add("lenet", {"LeNet, ReLU, average pooling", {28, 28, 1}, lenet});
}  // namespace

}  // namespace varion
