// ResNet-20 with filter response normalisation (paper, section 4.2.1): 274 042 parameters for 10
// classes. There is no nonlinearity after the residual sum: FRN's threshold is in the branch.
#include "models/model.hpp"

namespace varion {

namespace {
Node conv_frn(Graph& g, Node x, const std::string& conv, const std::string& norm, Index width,
              Index kernel, Index stride, Node residual = {}) {
  return frn(g, conv2d(g, x, conv, width, kernel, {stride, true, 0, true}), norm, residual);
}
}  // namespace

Node resnet20(Graph& g, Node x, const Config&, const Sizes& sizes) {
  x = conv_frn(g, x, "stem.conv", "stem.norm", 16, 3, 1);  // [N, H, W, 16]
  Index width = 16;
  for (int stack = 0; stack < 3; ++stack, width *= 2)
    for (int block = 0; block < 3; ++block) {
      const std::string name = "stacks." + std::to_string(stack) + "." + std::to_string(block);
      const bool down = stack > 0 && block == 0;
      Node y = conv_frn(g, x, name + ".conv1", name + ".norm1", width, 3, down ? 2 : 1);
      // The sum is part of the last FRN of the block, [N, H / 2^stack, W / 2^stack, 16 2^stack].
      y = conv_frn(g, y, name + ".conv2", name + ".norm2", width, 3, 1, down ? Node{} : x);
      x = down ? conv_frn(g, x, name + ".shortcut.conv", name + ".shortcut.norm", width, 1, 2, y) : y;
    }
  return linear(g, global_avg_pool(g, x), "fc", sizes.outputs);  // [N, outputs]
}

namespace {
const bool registered_resnet20 =
    Models::of().add("resnet20", {"ResNet-20 with FRN for 32 x 32 images",
                                  {32, 32, 3},
                                  resnet20,
                                  {{"resnet20", {}, {32, 32, 3}, {50, 128}}}});
}  // namespace

}  // namespace varion
