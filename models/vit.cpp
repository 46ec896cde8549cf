// The vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), with the tensors, names and starts of timm's
// vit_*_patch16_224: pre-norm blocks, biases everywhere, layer norms with epsilon 1e-6.
#include "core/error.hpp"
#include "models/transformer.hpp"

namespace varion {

namespace {
constexpr Real kEpsilon = Real(1e-6);
// Starting weights are normal with this deviation, biases 0. timm cuts the distribution at +-2, which is 100 deviations.
constexpr Real kDeviation = Real(0.02);

struct VitSize {
  Index width, layers, heads;
};

/// model.size, and what stands beside it. Errors (78).
VitSize vit_size(const Config& config) {
  const std::string name = config.text("model.size");
  VitSize s = name == "tiny" ? VitSize{192, 12, 3} : name == "small" ? VitSize{384, 12, 6} : VitSize{768, 12, 12};
  if (const Index width = config.integer("model.width"); width > 0) s.width = width;
  if (const Index layers = config.integer("model.layers"); layers > 0) s.layers = layers;
  if (const Index heads = config.integer("model.heads"); heads > 0) s.heads = heads;
  require(s.width % s.heads == 0, Exit::config, "model.width = ", s.width, " is no multiple of model.heads = ", s.heads);
  return s;
}
}  // namespace

Node vit(Graph& g, Node x, const Config& config, const Sizes& sizes) {
  const VitSize s = vit_size(config);
  const Index patch = config.integer("model.patch"), images = g.shape(x)[0];
  const bool cls = config.text("model.pool") == "cls";
  require(g.shape(x).rank == 4 && g.shape(x)[1] % patch == 0 && g.shape(x)[2] % patch == 0, Exit::config,
          "vit with model.patch = ", patch, " wants images whose sides are multiples of it, not ", g.shape(x).text());
  x = conv2d(g, x, "patch_embed.proj", s.width, patch, {patch, true, 0, false});  // [N, H / patch, W / patch, D]
  x = patch_tokens(g, x, "", cls);                                                // [N L, D]
  const Index length = g.shape(x)[0] / images;
  BlockOptions o{{"norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"}, s.width, s.heads, length};
  o.inner = o.added = {true, false, kDeviation};
  o.epsilon = kEpsilon;
  for (Index i = 0; i < s.layers; ++i) x = transformer_block(g, x, "blocks." + std::to_string(i), o);  // [N L, D]
  // Only the class token goes on: the others need no norm.
  x = cls ? layer_norm(g, first_token(g, x, length), "norm", true, kEpsilon)
          : mean_token(g, layer_norm(g, x, "norm", true, kEpsilon), length);      // [N, D]
  return linear(g, x, "head", sizes.outputs, {true, false, kDeviation});          // [N, outputs]
}

namespace {
using T = OptionSpec::Type;
const StepCase vit_step{"vit-tiny-32", {{"model.patch", "4"}}, {32, 32, 3}, {64}};
const bool registered_vit =
    add_options("vit", {{"model.size", T::choice, "tiny", "width, layers and heads: 192/12/3, 384/12/6, 768/12/12", {"tiny", "small", "base"}},
                        {"model.width", T::integer, "0", "numbers a token (0: as the size)", {}, 0, 65536},
                        {"model.layers", T::integer, "0", "blocks (0: as the size)", {}, 0, 1000},
                        {"model.heads", T::integer, "0", "attention heads, which divide the width (0: as the size)", {}, 0, 1024},
                        {"model.patch", T::integer, "4", "pixels a side of a patch", {}, 1, 1024},
                        {"model.pool", T::choice, "cls", "what the head sees: a class token's end, or the mean over tokens", {"cls", "mean"}}}) &&
    Models::of().add("vit", {"vision transformer, names as in timm",
                             {8, 8, 3},
                             vit,
                             {vit_step},
                             {{"model.width", "24"}, {"model.layers", "2"}, {"model.heads", "3"}}});
}  // namespace

}  // namespace varion
