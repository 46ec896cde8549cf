// GPT-2 as nanoGPT trains it (paper, section 4.1): layer norm before attention and before the perceptron, no biases, learned
// positions, the token table is the head. Tensors have the names of PyTorch's state_dict. 124 373 760 parameters with 12 layers of
// 12 heads, width 768, 50 304 tokens, 1 024 positions. With biases and GELU by tanh it is the published GPT-2: 124 439 808 with
// 50 257 tokens.
#include <cmath>

#include "core/error.hpp"
#include "models/model.hpp"

namespace varion {

namespace {
/// x W^T, and with a rank the adapter's x A^T B^T on top (LoRA: Hu et al. 2022, with alpha = rank): A [rank, in] starts
/// uniform as PyTorch's layers do, B [out, rank] at zero.
Node adapted(Graph& g, Node x, const std::string& name, Index out, const LinearOptions& options, Index rank) {
  const Node y = linear(g, x, name, out, options);
  if (rank == 0) return y;
  LinearOptions from_zero{false};
  from_zero.zero = true;
  return add(g, y, linear(g, linear(g, x, name + ".lora_A", rank, {false}), name + ".lora_B", out, from_zero));
}
}  // namespace

Node gpt2(Graph& g, Node tokens, const Config& config, Index vocabulary) {
  const Index layers = config.integer("model.layers"), heads = config.integer("model.heads"), width = config.integer("model.width");
  const Index length = g.shape(tokens)[1], longest = g.decodes() > 0 ? g.decodes() : length;
  const Index wanted = config.integer("model.positions"), positions = wanted > 0 ? wanted : longest;
  require(width % heads == 0, Exit::config, "model.width = ", width, " is no multiple of model.heads = ", heads);
  require(longest <= positions, Exit::config, "data.length = ", longest, " is more than model.positions = ", positions);
  const Index rank = config.integer("model.lora_rank");
  const Real dropped = static_cast<Real>(config.real("model.dropout"));
  constexpr Real deviation = Real(0.02);  // GPT-2's; what is added to the residual stream starts smaller
  const Real added = deviation / std::sqrt(2 * static_cast<Real>(layers));
  const bool bias = config.flag("model.bias"), by_tanh = config.text("model.gelu") == "tanh";
  const LinearOptions plain{bias, false, deviation}, last{bias, false, added};
  Node x = dropout(g, embedding(g, tokens, "transformer", {vocabulary, positions, width, length, deviation}), dropped);  // [N T, D]
  for (Index layer = 0; layer < layers; ++layer) {
    const std::string name = "transformer.h." + std::to_string(layer);
    Node y = adapted(g, layer_norm(g, x, name + ".ln_1", bias), name + ".attn.c_attn", 3 * width, plain, rank);
    y = adapted(g, attention(g, y, {heads, length, true}), name + ".attn.c_proj", width, last, rank);
    x = add(g, x, dropout(g, y, dropped));
    y = adapted(g, layer_norm(g, x, name + ".ln_2", bias), name + ".mlp.c_fc", 4 * width, plain, rank);  // [N T, 4 D]
    y = by_tanh ? gelu_tanh(g, y) : gelu(g, y);
    x = add(g, x, dropout(g, adapted(g, y, name + ".mlp.c_proj", width, last, rank), dropped));
  }
  return layer_norm(g, x, "transformer.ln_f", bias);
}

namespace {
using T = OptionSpec::Type;
const std::vector<std::pair<std::string, std::string>> k124m{{"model.layers", "12"}, {"model.heads", "12"}, {"model.width", "768"}, {"model.positions", "1024"}};
const std::vector<Index> kLongBatches = kHostExec ? std::vector<Index>{1} : std::vector<Index>{1, 16},
                         kSmallBatches = kHostExec ? std::vector<Index>{16} : std::vector<Index>{16, 64};
const StepCase timed[]{{"gpt2-124m-64", k124m, {64}, {4}, 50304},
                       {"gpt2-124m-1024", k124m, {1024}, kLongBatches, 50304},
                       {"gpt2-10m", {}, {256}, kSmallBatches, 65}};
const bool registered =
    add_options("gpt2", {{"model.layers", T::integer, "6", "blocks of attention and perceptron", {}, 1, 1000},
                         {"model.heads", T::integer, "6", "heads of an attention", {}, 1, 1000},
                         {"model.width", T::integer, "384", "numbers a token, a multiple of the heads", {}, 1, 1e6},
                         {"model.positions", T::integer, "0", "longest text it can be used on (0: data.length)", {}, 0, 1e6},
                         {"model.bias", T::flag, "false", "biases in linear layers and layer norms, as the published GPT-2 has"},
                         {"model.gelu", T::choice, "exact", "exact, or by tanh, as the published GPT-2 has it", {"exact", "tanh"}},
                         {"model.lora_rank", T::integer, "0", "train adapters of this rank beside the matrices of every block, and nothing else (0: none)",
                          {}, 0, 1e5},
                         {"model.dropout", T::real, "0", "share of what enters the residual stream that is dropped", {}, 0, 0.99}}) &&
    Models::of().add("gpt2", {"GPT-2 of any size, from tokens", {8}, gpt2, {timed, timed + 3},
                              {{"model.layers", "2"}, {"model.heads", "2"}, {"model.width", "12"}}, "transformer.wte.weight",
                              [](const std::string& name, const Config& config) {
                                return config.integer("model.lora_rank") > 0 && name.find(".lora_") == std::string::npos;
                              }});
}  // namespace

}  // namespace varion
