// GPT-2 as nanoGPT trains it (paper, section 4.1): layer norm before attention and before the perceptron, no biases, learned
// positions, the token table is the head. Tensors have the names of PyTorch's state_dict. 124 373 760 parameters with 12 layers of
// 12 heads, width 768, 50 304 tokens, 1 024 positions. With biases and GELU by tanh it is the published GPT-2: 124 439 808 with
// 50 257 tokens.
#include "models/transformer.hpp"

namespace varion {

Node gpt2(Graph& g, Node tokens, const Config& config, const Sizes& sizes) {
  return transformer_of_tokens(g, tokens, config, sizes.vocabulary, true);  // [N T, D]
}

namespace {
const std::vector<std::pair<std::string, std::string>> k124m{{"model.layers", "12"}, {"model.heads", "12"}, {"model.width", "768"}, {"model.positions", "1024"}};
const std::vector<Index> kLongBatches = kHostExec ? std::vector<Index>{1} : std::vector<Index>{1, 16},
                         kSmallBatches = kHostExec ? std::vector<Index>{16} : std::vector<Index>{16, 64};
const StepCase gpt2_steps[]{{"gpt2-124m-64", k124m, {64}, {4}, 50304},
                            {"gpt2-124m-1024", k124m, {1024}, kLongBatches, 50304},
                            {"gpt2-10m", {}, {256}, kSmallBatches, 65}};
const bool registered_gpt2 =
    add_options("gpt2", transformer_options()) &&
    Models::of().add("gpt2", {"GPT-2 of any size, from tokens", {8}, gpt2, {gpt2_steps, gpt2_steps + 3},
                              {{"model.layers", "2"}, {"model.heads", "2"}, {"model.width", "12"}}, kTokenTable, frozen_beside_adapters});
}  // namespace

}  // namespace varion
