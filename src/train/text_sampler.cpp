#include "train/text_sampler.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.hpp"

namespace varion {

bool writes_text(const Config& config) {
  const Model& model = Models::of().find(config.text("model.name"));
  return model.reads_text() && model.text_task(config) == TextTask::next_token;
}

TextSampler::TextSampler(Layout& layout, const Config& config, Index vocabulary, Index length, const Exec& exec)
    : exec_(exec), graph_(layout, length), length_(length) {
  const Model& model = Models::of().find(config.text("model.name"));
  require(writes_text(config), Exit::config, "model.name = ", config.text("model.name"), " writes no text");
  freeze(layout, model, config);
  token_ = graph_.input({1, 1}, true);
  logits_ = tied_linear(graph_, model.build(graph_, token_, config, vocabulary), model.head);
  graph_.output(logits_);
  graph_.finish(false);
}

/// One token further. The host waits.
void TextSampler::read(Replay& replay, std::int32_t token) {
  ensure(replay.position < length_, "no position ", replay.position);
  Kokkos::deep_copy(exec_, replay.ints(token_), token);
  replay.forward();
  ++replay.position;
}

std::vector<float> TextSampler::logits(Replay& replay) const {
  const auto host = Kokkos::create_mirror_view(replay.value(logits_));
  Kokkos::deep_copy(exec_, host, replay.value(logits_));
  exec_.fence();  // the host chooses
  return {host.data(), host.data() + host.extent(0)};
}

namespace {
/// A token drawn with a uniform number in (0, 1).
std::int32_t choose(const std::vector<float>& logits, const SamplingOptions& o, double uniform) {
  std::vector<std::int32_t> order(o.known > 0 ? std::min(logits.size(), static_cast<size_t>(o.known)) : logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto kept = o.top_k > 0 ? std::min(static_cast<size_t>(o.top_k), order.size()) : order.size();
  const auto likelier = [&](std::int32_t a, std::int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  };
  std::partial_sort(order.begin(), order.begin() + static_cast<long>(kept), order.end(), likelier);
  if (o.temperature <= 0) return order[0];
  const double top = static_cast<double>(logits[static_cast<size_t>(order[0])]);
  std::vector<double> sum(kept);
  double total = 0;
  for (size_t i = 0; i < kept; ++i)
    sum[i] = total += std::exp((static_cast<double>(logits[static_cast<size_t>(order[i])]) - top) / o.temperature);
  const auto at = std::upper_bound(sum.begin(), sum.end(), uniform * total) - sum.begin();
  return order[std::min(static_cast<size_t>(at), kept - 1)];
}
}  // namespace

std::vector<std::int32_t> TextSampler::sample(ConstVec weights, const std::vector<std::int32_t>& prompt, const SamplingOptions& o,
                                              const RandomKey& key) {
  ensure(!prompt.empty(), "a text begins with a token");
  Replay replay(graph_, exec_);
  replay.weights = weights;
  std::vector<std::int32_t> all = prompt;
  // All but the last of the tokens that may stand before the next one.
  const auto look_back = [&](Index most) {
    replay.position = 0;
    const Index count = std::min(static_cast<Index>(all.size()), most);
    for (auto t = all.end() - count; t != all.end() - 1; ++t) read(replay, *t);
  };
  look_back(length_);
  for (Index i = 0; i < o.tokens; ++i) {
    if (replay.position == length_) look_back((length_ + 1) / 2);
    read(replay, all.back());
    const double uniform = (static_cast<double>(key.words(i).w[0]) + 0.5) * 0x1p-32;
    all.push_back(choose(logits(replay), o, uniform));
  }
  return {all.end() - o.tokens, all.end()};
}

std::vector<double> TextSampler::log_probabilities(ConstVec weights, const std::vector<std::int32_t>& before) {
  Replay replay(graph_, exec_);
  replay.weights = weights;
  for (const std::int32_t t : before) read(replay, t);
  const std::vector<float> x = logits(replay);
  const double top = static_cast<double>(*std::max_element(x.begin(), x.end()));
  double sum = 0;
  for (const float v : x) sum += std::exp(static_cast<double>(v) - top);
  std::vector<double> out;
  for (const float v : x) out.push_back(static_cast<double>(v) - top - std::log(sum));
  return out;
}

}  // namespace varion
