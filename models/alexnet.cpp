// AlexNet with SiLU for 32 x 32 images, as in the paper's section 4.2.4 (1 488 202 parameters).
#include "models/model.hpp"

namespace varion {

Node alexnet(Graph& g, Node x, const Config&, const Sizes& sizes) {
  const ConvOptions pad1{1, true, 1, false}, same{1, true, 0, true};
  x = max_pool(g, silu(g, conv2d(g, x, "conv1", 64, 3, pad1)), 2, 2);   // [N, 16, 16, 64]
  x = max_pool(g, silu(g, conv2d(g, x, "conv2", 128, 3, pad1)), 2, 2);  // [N, 8, 8, 128]
  x = silu(g, conv2d(g, x, "conv3", 256, 2, same));                     // [N, 8, 8, 256]
  x = silu(g, conv2d(g, x, "conv4", 128, 2, same));                     // [N, 8, 8, 128]
  x = silu(g, conv2d(g, x, "conv5", 64, 2, same));                      // [N, 8, 8, 64]
  x = silu(g, linear(g, flatten(g, x), "fc1", 256));                    // [N, 256]
  x = silu(g, linear(g, x, "fc2", 256));                                // [N, 256]
  return linear(g, x, "fc3", sizes.outputs);                            // [N, outputs]
}

namespace {
const bool registered_alexnet =
    Models::of().add("alexnet", {"AlexNet with SiLU for 32 x 32 images", {32, 32, 3}, alexnet});
}  // namespace

}  // namespace varion
