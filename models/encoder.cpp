// A transformer encoder: GPT-2's blocks, whose tokens see those on both sides. Task `masked`: of the tokens that are to be guessed
// most are hidden under a mask token, the last of the table, which is the head (BERT: Devlin et al. 2019, section 3.1; the blocks
// there norm behind the sum). Task `classify`: the first token's row or the mean over the passage, and a linear head.
#include "models/transformer.hpp"

namespace varion {

namespace {
TextTask encoder_task(const Config& config) {
  return config.text("model.task") == "masked" ? TextTask::masked_token : TextTask::passage;
}
}  // namespace

Node encoder(Graph& g, Node tokens, const Config& config, const Sizes& sizes) {
  const Index length = g.shape(tokens)[1];
  Node x = transformer_of_tokens(g, tokens, config, sizes.vocabulary + 1, false);  // [N T, D]
  if (encoder_task(config) == TextTask::masked_token) return x;
  x = in_float32(g, x);
  x = config.text("model.pool") == "first" ? first_token(g, x, length) : mean_token(g, x, length);  // [N, D]
  return linear(g, x, "head", sizes.outputs, {true, false, Real(0.02)});                            // [N, outputs]
}

namespace {
using T = OptionSpec::Type;
std::vector<OptionSpec> encoder_options() {
  std::vector<OptionSpec> all = transformer_options();
  all.push_back({"model.task", T::choice, "masked", "guess hidden tokens of a text, or classify passages", {"masked", "classify"}});
  all.push_back({"model.masked", T::real, "0.15", "share of the tokens that are to be guessed (BERT's)", {}, 0.001, 1});
  all.push_back({"model.pool", T::choice, "mean", "what the head of classes sees: the mean over tokens, or the first token", {"mean", "first"}});
  return all;
}
const StepCase encoder_step{"encoder-10m", {}, {256}, {16}, 65};
bool register_encoder() {
  return add_options("encoder", encoder_options()) &&
         Models::of().add("encoder", {"transformer encoder: hidden tokens of a text, or classes of passages", {8}, encoder, {encoder_step},
                                      {{"model.layers", "2"}, {"model.heads", "2"}, {"model.width", "12"}}, kTokenTable,
                                      [](const std::string& name, const Config& config) {
                                        return name.rfind("head.", 0) != 0 && frozen_beside_adapters(name, config);  // classes are new
                                      }, encoder_task});
}
const bool registered_encoder = register_encoder();
}  // namespace

}  // namespace varion
