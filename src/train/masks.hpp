// Masked language modelling: which tokens of a window are to be guessed, and what stands in their place.
#pragma once

#include <vector>

#include "core/options.hpp"
#include "core/random.hpp"
#include "data/dataset.hpp"
#include "models/model.hpp"

namespace varion {

/// As BERT hides tokens (Devlin et al. 2019, section 3.1), but each by itself: with probability `share` a token is to be guessed; of
/// those 80 % become the mask token, which is number `vocabulary`, 10 % any token, 10 % stay.
struct Masks {
  double share = 0;
  Index vocabulary = 0;
  /// Of window `number` of the training order, a function of the seed and the number; errors (78): a number of 2^48 or more.
  static RandomKey training(std::uint64_t seed, std::uint64_t number) { return RandomKey::make(seed, Stream::masks, number, 0); }
  /// Of example `number`, the same for every seed, so that losses can be compared.
  static RandomKey evaluation(std::uint64_t number) { return RandomKey::make(0, Stream::masks, number, 1); }
  bool hides(const RandomKey& key, Index place) const;
  /// targets = the tokens that are to be guessed, -1 elsewhere; those tokens are replaced.
  void apply(const RandomKey& key, std::vector<std::int32_t>& tokens, std::int32_t* targets) const;
};

/// Of a model that guesses hidden tokens; share 0 for others.
Masks masks_of(const Model& model, const Config& config, const DataSet& data);

}  // namespace varion
