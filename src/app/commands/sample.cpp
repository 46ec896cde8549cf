#include <cstdio>

#include "app/command.hpp"
#include "core/error.hpp"
#include "train/checkpoint.hpp"
#include "train/text_sampler.hpp"

namespace varion {

namespace {
double number_of(const Arguments& a, const std::string& flag, const std::string& fallback, double least, double most) {
  const std::string value = a.flag(flag, fallback);
  const auto v = parse_real(value);
  require(v && *v >= least && *v <= most, Exit::usage, "--", flag, "=", value, " must be a number from ", least, " to ", most);
  return *v;
}

Index count_of(const Arguments& a, const std::string& flag, const std::string& fallback, Index least, Index most) {
  const double v = number_of(a, flag, fallback, static_cast<double>(least), static_cast<double>(most));
  require(v == static_cast<double>(static_cast<Index>(v)), Exit::usage, "--", flag, "=", a.flag(flag, fallback), " must be a whole number");
  return static_cast<Index>(v);
}

/// What a text begins with: the prompt; without one a new line, or where the vocabulary has none its first token.
std::vector<std::int32_t> beginning(const Tokenizer& tokenizer, const Arguments& a) {
  const std::string prompt = a.flag("prompt", "\n");
  require(!prompt.empty(), Exit::usage, "--prompt is empty: without it a text begins with a new line");
  try {
    return tokenizer.encode(prompt);
  } catch (const Error&) {
    if (a.flag("prompt", "") != "") throw;
    return {0};
  }
}
}  // namespace

int sample_command(const std::vector<std::string>& words) {
  const Arguments a = parse_arguments(words, {"prompt", "tokens", "count", "temperature", "top-k", "weights", "seed"});
  require(a.words.size() == 1, Exit::usage, "sample takes one posterior file");
  const std::string& path = a.words[0];
  const std::string which = a.flag("weights", "mean");
  require(which == "mean" || which == "posterior", Exit::usage, "--weights=", which, ": mean, or posterior (a draw a text)");
  SamplingOptions options{count_of(a, "tokens", "300", 1, 100000000), number_of(a, "temperature", "1", 0, 1000),
                                count_of(a, "top-k", "0", 0, 100000000), 0};
  const Index count = count_of(a, "count", "1", 1, 65535);
  const auto seed = static_cast<std::uint64_t>(count_of(a, "seed", "1", 0, Index(1) << 53));

  const TextModel m(path, a.settings);
  tell(m.notes);
  options.known = m.tokenizer->size();
  const std::vector<std::int32_t> before = beginning(*m.tokenizer, a);
  require(which == "mean" || m.optimizer->is_variational(), Exit::config, path, " is of ", m.optimizer->name(),
          ", a point estimate: it has no posterior to draw from");
  const Exec exec;
  Layout& layout = *m.layout;
  TextSampler sampler(layout, m.config, m.vocabulary, m.length, exec);
  const Vec drawn("varion::sample::weights", which == "mean" ? 0 : static_cast<size_t>(layout.size()));
  for (Index i = 0; i < count; ++i) {
    const auto number = static_cast<std::uint64_t>(i);
    ConstVec weights = m.optimizer->mean();
    if (which == "posterior") {
      m.optimizer->sample(exec, RandomKey::make(seed, Stream::eval_noise, 0, number), drawn);
      weights = drawn;
    }
    const auto tokens = sampler.sample(weights, before, options, RandomKey::make(seed, Stream::text, 0, number));
    if (count > 1) std::printf("--- %lld of %lld\n", static_cast<long long>(i + 1), static_cast<long long>(count));
    std::printf("%s", a.flag("prompt", "").c_str());
    std::printf("%s\n", m.tokenizer->decode(tokens.data(), static_cast<Index>(tokens.size())).c_str());
  }
  return 0;
}

namespace {
const bool registered_sample = Commands::of().add(
    "sample", {"text from a language model's posterior file",
               "sample FILE.h5 [--prompt=TEXT] [--tokens=300] [--count=1] [--temperature=1] [--top-k=0] [--weights=mean|posterior] [--seed=1]",
               true, sample_command});
}  // namespace

}  // namespace varion
