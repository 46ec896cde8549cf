#include "train/masks.hpp"

namespace varion {

namespace {
/// Whether a word is among the lowest `share` of all.
bool among(std::uint32_t word, double share) { return static_cast<double>(word) < share * 0x1p32; }
}  // namespace

bool Masks::hides(const RandomKey& key, Index place) const { return among(key.words(place).w[0], share); }

void Masks::apply(const RandomKey& key, std::vector<std::int32_t>& tokens, std::int32_t* targets) const {
  for (size_t t = 0; t < tokens.size(); ++t) {
    const Words4 w = key.words(static_cast<Index>(t));
    const bool hidden = among(w.w[0], share);
    targets[t] = hidden ? tokens[t] : -1;
    if (!hidden || !among(w.w[1], 0.9)) continue;
    tokens[t] = static_cast<std::int32_t>(among(w.w[1], 0.8) ? static_cast<std::uint32_t>(vocabulary)
                                                              : below(w.w[2], static_cast<std::uint32_t>(vocabulary)));
  }
}

Masks masks_of(const Model& model, const Config& config, const DataSet& data) {
  if (!model.reads_text() || model.text_task(config) != TextTask::masked_token) return {};
  return {config.real("model.masked"), data.vocabulary};
}

}  // namespace varion
