// Models: functions of op calls, by name.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/options.hpp"
#include "ops/ops.hpp"

namespace varion {

/// Training steps that `varion bench` times.
struct StepCase {
  std::string label;
  std::vector<std::pair<std::string, std::string>> settings;  // besides model.name
  Shape example;  // of rank 3: images, stored as bytes, mirrored and shifted, as in training on files; of text: {T}
  std::vector<Index> batches;
  Index vocabulary = 0;  // of text
};

struct Model {
  static const char* kind() { return "model"; }
  std::string help;
  Shape example;  // an input it accepts, without the batch, for tests
  /// x [N, D] or [N, H, W, C] -> [N, outputs]. Language models: tokens i32 [N, T] -> [N T, D], and `outputs` is the vocabulary.
  std::function<Node(Graph&, Node x, const Config&, Index outputs)> build;
  std::vector<StepCase> timed = {};
  std::vector<std::pair<std::string, std::string>> small = {};  // settings that make it small, for tests
  std::string head = {};  // of language models: the parameter [vocabulary, D] whose product with what `build` returns gives the logits
  /// Which parameters are frozen. Empty: none.
  std::function<bool(const std::string& parameter, const Config&)> frozen = {};
};
using Models = Registry<Model>;

/// The words of a list with commas.
std::vector<std::string> words_of(const std::string& list);
/// `word` is the name, or a part of it that ends before a dot.
bool begins(const std::string& name, const std::string& word);

/// Tells the layout which parameters are frozen, by the model and model.freeze, before it records its first graph.
void freeze(Layout& layout, const Model& model, const Config& config);
/// Errors (78): a word of model.freeze fits no parameter; nothing is left to train.
void require_trained(const Layout& layout, const Config& config);

}  // namespace varion
