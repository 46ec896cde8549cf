#include "models/transformer.hpp"

#include <cmath>

#include "core/error.hpp"

namespace varion {

const char* const kTokenTable = "transformer.wte.weight";

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

Node transformer_block(Graph& g, Node x, const std::string& block, const BlockOptions& o) {
  const std::string name = block + ".";
  LinearOptions inner = o.inner, added = o.added;
  inner.for_products = added.for_products = o.rank == 0;  // a sum with an adapter's output is float32
  Node y = layer_norm(g, x, name + o.names.norm1, o.bias, o.epsilon, true);
  y = adapted(g, y, name + o.names.qkv, 3 * o.width, inner, o.rank);    // [N T, 3 D]
  y = attention(g, y, {o.heads, o.length, o.causal});                   // [N T, D]
  y = adapted(g, y, name + o.names.proj, o.width, added, o.rank);
  x = add(g, x, dropout(g, y, o.dropped));
  y = layer_norm(g, x, name + o.names.norm2, o.bias, o.epsilon, true);
  y = adapted(g, y, name + o.names.fc1, 4 * o.width, inner, o.rank);    // [N T, 4 D]
  y = o.by_tanh ? gelu_tanh(g, y) : gelu(g, y);
  return add(g, x, dropout(g, adapted(g, y, name + o.names.fc2, o.width, added, o.rank), o.dropped));
}

Node transformer_of_tokens(Graph& g, Node tokens, const Config& config, Index vocabulary, bool causal) {
  const Index layers = config.integer("model.layers"), heads = config.integer("model.heads"), width = config.integer("model.width");
  const Index length = g.shape(tokens)[1], longest = g.decodes() > 0 ? g.decodes() : length;
  const Index wanted = config.integer("model.positions"), positions = wanted > 0 ? wanted : longest;
  require(width % heads == 0, Exit::config, "model.width = ", width, " is no multiple of model.heads = ", heads);
  require(longest <= positions, Exit::config, "data.length = ", longest, " is more than model.positions = ", positions);
  constexpr Real deviation = Real(0.02);  // GPT-2's; what is added to the residual stream starts smaller
  BlockOptions o{{"ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"}, width, heads, length};
  o.causal = causal;
  o.bias = config.flag("model.bias");
  o.by_tanh = config.text("model.gelu") == "tanh";
  o.inner = {o.bias, false, deviation};
  o.added = {o.bias, false, deviation / std::sqrt(2 * static_cast<Real>(layers))};
  o.dropped = static_cast<Real>(config.real("model.dropout"));
  o.rank = config.integer("model.lora_rank");
  Node x = dropout(g, embedding(g, tokens, "transformer", {vocabulary, positions, width, length, deviation}), o.dropped);  // [N T, D]
  for (Index layer = 0; layer < layers; ++layer) x = transformer_block(g, x, "transformer.h." + std::to_string(layer), o);
  return layer_norm(g, x, "transformer.ln_f", o.bias, o.epsilon, true);
}

using T = OptionSpec::Type;
std::vector<OptionSpec> transformer_options() {
  return {{"model.layers", T::integer, "6", "blocks of attention and perceptron", {}, 1, 1000},
          {"model.heads", T::integer, "6", "heads of an attention", {}, 1, 1000},
          {"model.width", T::integer, "384", "numbers a token, a multiple of the heads", {}, 1, 1e6},
          {"model.positions", T::integer, "0", "longest text it can be used on (0: data.length)", {}, 0, 1e6},
          {"model.bias", T::flag, "false", "biases in linear layers and layer norms, as the published GPT-2 has"},
          {"model.gelu", T::choice, "exact", "exact, or by tanh, as the published GPT-2 has it", {"exact", "tanh"}},
          {"model.lora_rank", T::integer, "0", "train adapters of this rank beside the matrices of every block, and no other part of it (0: none)",
           {}, 0, 1e5},
          {"model.dropout", T::real, "0", "share of what enters the residual stream that is dropped", {}, 0, 0.99}};
}

bool frozen_beside_adapters(const std::string& parameter, const Config& config) {
  return config.integer("model.lora_rank") > 0 && parameter.find(".lora_") == std::string::npos;
}

}  // namespace varion
