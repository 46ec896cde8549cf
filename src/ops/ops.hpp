// The ops models are written in. Each lives in a file of its own: forward kernel, backward kernel
// right below, graph entry last, and cases for the tests that walk the registry.
//
// Letters: N batch, H W height and width, C channels (fastest), D features. Gradients follow
// GradSlot: written, or added to when another op has written before.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/registry.hpp"
#include "graph/graph.hpp"

namespace varion {

/// A small graph that exercises an op: inputs of these shapes, i32 ones with values in [0, classes).
struct OpCase {
  using Build = std::function<Node(Graph&, const std::vector<Node>&)>;
  OpCase(std::string label_, std::vector<Shape> inputs_, Build build_, int integer_input_ = -1,
         int classes_ = 0, double tolerance_ = 2e-3)
      : label(std::move(label_)),
        inputs(std::move(inputs_)),
        build(std::move(build_)),
        integer_input(integer_input_),
        classes(classes_),
        tolerance(tolerance_) {}
  std::string label;
  std::vector<Shape> inputs;
  Build build;
  int integer_input;  // which input is i32, or -1
  int classes;
  double tolerance;  // of directional derivatives by central differences in float32
};

/// What an op registers.
struct Op {
  static const char* kind() { return "op"; }
  std::string help;
  std::vector<OpCase> cases;
};
using Ops = Registry<Op>;

/// Whether an op should let a value of this shape go until backward (Record::again): on a host, where so much fits in cache. Larger ones
/// pass through memory twice more: GELU's took 2 % of a step of GPT-2 10M (two Zen 5 cores). GPUs have the memory.
inline bool may_let_go(const Shape& shape) { return kHostExec && shape.size() <= Index(1) << 20; }

// Products, sums and tied heads read nodes of either kind (Record::bf16), and so do activations, dropout and attention, whose output is
// kept as their input is; other ops read float32.
struct LinearOptions {
  bool bias = true;
  bool relu = false;  // in the pass that adds the bias
  Real deviation = 0;  // of weights that start normal, with biases at 0
  bool zero = false;   // weights start at 0
  // The output is read by products, attention, sums, activations and dropout alone: bfloat16 does where the graph keeps it.
  bool for_products = false;
};
/// y = x W^T + b. x [N, in] -> [N, out]. Parameters name.weight [out, in], name.bias [out],
/// both U(-1/sqrt(in), 1/sqrt(in)) unless the options say otherwise.
Node linear(Graph& g, Node x, const std::string& name, Index out, LinearOptions options = {});

struct ConvOptions {
  Index stride = 1;
  bool bias = true;
  // Padding: `pad` on every side, or TensorFlow's SAME, which puts the odd pixel right and below.
  Index pad = 0;
  bool same = false;
};
/// x [N, H, W, C] -> [N, Ho, Wo, O]. Parameters name.weight [O, C, k, k], name.bias [O].
Node conv2d(Graph& g, Node x, const std::string& name, Index out, Index kernel,
            const ConvOptions& options = {});

/// Filter response normalisation with its threshold (Singh and Krishnan 2020):
/// y = max(gamma x / sqrt(mean_HW(x^2) + 1e-6) + beta, tau). Parameters name.gamma (1), name.beta (0),
/// name.tau (0), each [C]. With `residual` (the shape of x) the sum y + residual, in the same pass.
Node frn(Graph& g, Node x, const std::string& name, Node residual = {});

Node relu(Graph& g, Node x);
Node silu(Graph& g, Node x);
Node tanh(Graph& g, Node x);
Node gelu(Graph& g, Node x);       // exact: x times the normal distribution function
Node gelu_tanh(Graph& g, Node x);  // its approximation by tanh

/// Layer normalisation over D: gamma (x - mean) / sqrt(var + epsilon) + beta. x [N, D]. Parameters name.weight (1) and, with
/// `bias`, name.bias (0), each [D] (Ba, Kiros and Hinton 2016). `for_products`: as of LinearOptions. Where x is a sum that was recorded
/// just before, it is added up in the same pass.
Node layer_norm(Graph& g, Node x, const std::string& name, bool bias, Real epsilon = Real(1e-5), bool for_products = false);

/// Row token[n] of a table, plus row n % T of another: tokens i32 [N] of sequences of `length` T -> [N, D]. Parameters
/// name.wte.weight [vocabulary, D] and name.wpe.weight [positions, D], normal with this deviation. Tokens lie in
/// [0, vocabulary).
struct EmbeddingOptions {
  Index vocabulary, positions, width, length;
  Real deviation;
};
Node embedding(Graph& g, Node tokens, const std::string& name, const EmbeddingOptions& options);

/// The patches of images, x [N, h, w, D] or [N, T, D], as sequences behind one another: row n L + t is patch t of image n plus row
/// t of a table of positions, L = h w. With `class_token` every sequence starts with one learned row, L = h w + 1 -> [N L, D].
/// Parameters name.pos_embed [1, L, D] (normal, deviation 0.02) and name.cls_token [1, 1, D] (1e-6), `name.` left out where
/// name is empty (Dosovitskiy et al. 2021, eq. 1; timm's names and starts).
Node patch_tokens(Graph& g, Node x, const std::string& name, bool class_token);
/// The first row of every sequence of `length` rows, or their mean. x [N length, D] -> [N, D].
Node first_token(Graph& g, Node x, Index length);
Node mean_token(Graph& g, Node x, Index length);

/// Softmax attention of every head, never storing the T x T matrix: qkv [N, 3 D] holds queries, keys, values of sequences
/// of `length` T, one after another, heads of D / heads numbers each -> [N, D]. `causal`: a position sees none behind it.
/// In a decoding graph T is 1, and the token at Replay::position sees those before it, whose keys and values are kept.
struct AttentionOptions {
  Index heads, length;
  bool causal;
};
Node attention(Graph& g, Node qkv, const AttentionOptions& options);

/// A model's last layer and loss in one, where the classes' weights are a parameter that is known already (tied embeddings):
/// the mean over rows with target >= 0 of -log softmax(x W^T)[target]. x [N, D], W [classes, D], target i32 [N] -> [1].
/// The logits are stored once; their gradient takes their place.
Node tied_cross_entropy(Graph& g, Node x, const std::string& weight, Node target);
/// The logits alone, [N, classes].
Node tied_linear(Graph& g, Node x, const std::string& weight);
/// log softmax(x W^T)[target] of every row, 0 where target < 0: [N, 1]. Logits of a few rows exist at a time; backward computes
/// them again.
Node tied_log_likelihood(Graph& g, Node x, const std::string& weight, Node target);

Node max_pool(Graph& g, Node x, Index kernel, Index stride);
Node avg_pool(Graph& g, Node x, Index kernel, Index stride);
Node global_avg_pool(Graph& g, Node x);  // [N, H, W, C] -> [N, C]

Node add(Graph& g, Node a, Node b);  // in float32

/// x, and where it is kept in bfloat16 a copy in float32, for ops that read nothing else.
Node in_float32(Graph& g, Node x);

/// [N, H, W, C] -> [N, C H W], in PyTorch's (channel first) order, so that the weights of the
/// linear layer behind it are PyTorch's.
Node flatten(Graph& g, Node x);

/// Zero with probability `rate`, else x / (1 - rate); the mask is a function of the replay's counter.
Node dropout(Graph& g, Node x, Real rate);

/// Mean over the batch of -log softmax(logits)[target]. logits [N, C], target i32 [N] -> [1].
Node cross_entropy(Graph& g, Node logits, Node target);
/// Mean squared error over all elements. [N, D], [N, D] -> [1].
Node mean_squared_error(Graph& g, Node y, Node target);
/// Mean over the batch of -log N(target; y, sigma^2). y [N, 1], target [N, 1] -> [1].
Node gaussian_nll_fixed(Graph& g, Node y, Node target, Real sigma);
/// The same with sigma = softplus(y[:, 1]) + 1e-6 predicted. y [N, 2], target [N, 1] -> [1].
Node gaussian_nll(Graph& g, Node y, Node target);

}  // namespace varion
