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

/// What a model ends in, and of text how many tokens there are: those that are predicted have as many outputs.
struct Sizes {
  Sizes(Index outputs_, Index vocabulary_ = 0) : outputs(outputs_), vocabulary(vocabulary_ > 0 ? vocabulary_ : outputs_) {}
  Index outputs, vocabulary;
};

/// What is asked of a model that reads text: every next token, the tokens that were hidden, or whose a whole passage is.
enum class TextTask { next_token, masked_token, passage };

struct Model {
  static const char* kind() { return "model"; }
  std::string help;
  Shape example;  // an input it accepts, without the batch, for tests
  /// x [N, D] or [N, H, W, C] -> [N, outputs]. Of text: tokens i32 [N, T] -> [N T, D] where tokens are asked for, [N, outputs] of passages.
  std::function<Node(Graph&, Node x, const Config&, const Sizes&)> build;
  std::vector<StepCase> timed = {};
  std::vector<std::pair<std::string, std::string>> small = {};  // settings that make it small, for tests
  std::string head = {};  // of models that read text: the parameter whose product with the [N T, D] gives the logits of tokens
  /// Which parameters are frozen. Empty: none.
  std::function<bool(const std::string& parameter, const Config&)> frozen = {};
  /// Of models that read text. Empty: the next token.
  std::function<TextTask(const Config&)> task = {};
  bool reads_text() const { return !head.empty(); }
  TextTask text_task(const Config& config) const { return task ? task(config) : TextTask::next_token; }
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
