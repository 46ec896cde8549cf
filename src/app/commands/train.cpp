#include <cstdio>

#include "app/command.hpp"
#include "core/error.hpp"
#include "train/run.hpp"

namespace varion {

int train_command(const std::vector<std::string>& words) {
  const Config config = make_config(parse_arguments(words, {}));
  return static_cast<int>(train_run(config, is_quiet(), Comm::world()).code);
}

int evaluate_command(const std::vector<std::string>& words) {
  const Arguments a = parse_arguments(words, {"samples"});
  require(a.words.size() == 1, Exit::usage, "evaluate takes one posterior file");
  const auto r = restore(a.words[0], a.settings);
  r->config.set("eval.samples", a.flag("samples", r->config.text("eval.samples")), "--samples");
  for (const auto& [k, v] : final_metrics(*r->evaluator, *r->optimizer, r->data, r->config))
    std::printf("%-18s %.6g\n", k.c_str(), v);
  if (r->data.classes > 0 && r->data.vocabulary == 0) {
    std::printf("\nconfidence  accuracy  examples   (averaged over samples)\n");
    for (const ReliabilityBin& b : r->evaluator->reliability)
      if (b.count > 0)
        std::printf("%10.3f  %8.3f  %8ld\n", b.confidence / static_cast<double>(b.count),
                    b.correct / static_cast<double>(b.count), b.count);
  }
  return 0;
}

int posterior_command(const std::vector<std::string>& words) {
  const Arguments a = parse_arguments(words, {});
  require(a.words.size() == 2 && (a.words[0] == "info" || a.words[0] == "layers"), Exit::usage,
          "use: posterior info|layers FILE");
  const io::PosteriorFile f = io::load_posterior(a.words[1]);
  if (a.words[0] == "info") {
    for (const auto* group : {&f.root, &f.model, &f.data, &f.rng})
      for (const auto& [k, v] : *group)
        if (k != "config_ini" && k != "env_json") std::printf("%-18s %s\n", k.c_str(), v.c_str());
    std::printf("%-18s %s\n%-18s %ld\n", "optimizer", f.optimizer.c_str(), "step", f.step);
    for (const auto& [k, v] : f.optim) std::printf("%-18s %s\n", k.c_str(), shortest(v).c_str());
    return 0;
  }
  const std::vector<float>* hess = nullptr;
  for (const auto& [name, flat] : f.states)
    if (name == "hess") hess = &flat;
  std::printf("%-34s %10s %12s %12s %12s %12s\n", "tensor", "numel", "|mean|", "hess", "sigma", "|mean|/sigma");
  for (const io::TensorInfo& t : f.tensors) {
    const double decay = hess == nullptr ? 0 : f.optim.at(t.shape.size() >= 2 ? "weight_decay" : "weight_decay_1d");
    double size = 0, curvature = 0, sd = 0, snr = 0;
    for (long i = t.offset; i < t.offset + t.size; ++i) {
      const auto k = static_cast<size_t>(i);
      size += std::abs(static_cast<double>(f.mean[k]));
      if (hess == nullptr) continue;
      const double sigma = 1 / std::sqrt(f.optim.at("ess") * (static_cast<double>((*hess)[k]) + decay));
      curvature += static_cast<double>((*hess)[k]);
      sd += sigma;
      snr += std::abs(static_cast<double>(f.mean[k])) / sigma;
    }
    const double n = static_cast<double>(t.size);
    std::printf("%-34s %10ld %12.4g", t.name.c_str(), t.size, size / n);
    if (hess != nullptr) std::printf(" %12.4g %12.4g %12.4g", curvature / n, sd / n, snr / n);
    std::printf("\n");
  }
  return 0;
}

namespace {
const bool registered =
    Commands::of().add("train", {"train, or continue, one run", "train [FILE.ini ...] [section.key=value ...]",
                                 true, train_command, true, true}) &&
    Commands::of().add("evaluate", {"a posterior file: at the mean and averaged over samples",
                                    "evaluate FILE.h5 [--samples=64]", true, evaluate_command}) &&
    Commands::of().add("posterior", {"look into a posterior file", "posterior info|layers FILE.h5", false,
                                     posterior_command});
}  // namespace

}  // namespace varion
