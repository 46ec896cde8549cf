// What transformers share: the pre-norm block, and GPT-2's stack of them from tokens, which may look both ways.
#pragma once

#include <string>
#include <vector>

#include "models/model.hpp"

namespace varion {

/// What a block's tensors are called behind its own name and a dot.
struct BlockNames {
  const char *norm1, *qkv, *proj, *norm2, *fc1, *fc2;
};

struct BlockOptions {
  BlockNames names;
  Index width, heads, length;  // sequences of `length` rows
  bool causal = false, bias = true, by_tanh = false;  // gelu_tanh
  LinearOptions inner = {}, added = {};  // of what widens, and of what is added to the residual stream
  Real epsilon = Real(1e-5), dropped = 0;
  Index rank = 0;  // of adapters beside every matrix (0: none)
};

/// x + attention(norm(x)), x + perceptron(norm(x)). x [N T, D].
Node transformer_block(Graph& g, Node x, const std::string& name, const BlockOptions& options);

/// GPT-2 up to its last layer norm, as the configuration says (transformer_options), with a table of so many tokens:
/// i32 [N, T] -> [N T, D], for a product. Errors (78).
Node transformer_of_tokens(Graph& g, Node tokens, const Config& config, Index vocabulary, bool causal);
extern const char* const kTokenTable;  // "transformer.wte.weight"

std::vector<OptionSpec> transformer_options();
/// With adapters: whether a parameter of `transformer_of_tokens` is frozen.
bool frozen_beside_adapters(const std::string& parameter, const Config& config);

}  // namespace varion
