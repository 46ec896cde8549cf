// Text written by a language model.
#pragma once

#include "data/dataset.hpp"
#include "models/model.hpp"

namespace varion {

/// Whether the configured model predicts next tokens.
bool writes_text(const Config& config);

struct SamplingOptions {
  Index tokens = 200;      // to write
  double temperature = 1;  // the logits are divided by it; 0: always the likeliest token
  Index top_k = 0;         // only the likeliest so many tokens (0: all)
  Index known = 0;         // of a vocabulary that was rounded up: the tokens that there are (0: all)
};

/// Decodes token by token, with keys and values kept (Graph::decodes). When as many tokens are kept as the model has positions, it
/// starts again from the later half of them.
class TextSampler {
 public:
  /// `length`: positions. Errors (78): the model writes no text.
  TextSampler(Layout& layout, const Config& config, Index vocabulary, Index length, const Exec& exec);
  /// What follows `prompt` (at least one token), drawn by (key, token number).
  std::vector<std::int32_t> sample(ConstVec weights, const std::vector<std::int32_t>& prompt, const SamplingOptions& options,
                                   const RandomKey& key);
  /// log softmax of what follows `before`, for tests.
  std::vector<double> log_probabilities(ConstVec weights, const std::vector<std::int32_t>& before);

 private:
  void read(Replay& replay, std::int32_t token);
  std::vector<float> logits(Replay& replay) const;
  Exec exec_;
  Graph graph_;
  Node token_, logits_;
  Index length_;
};

}  // namespace varion
