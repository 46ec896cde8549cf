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
  tell(r->notes);
  r->config.set("eval.samples", a.flag("samples", r->config.text("eval.samples")), "--samples");
  for (const auto& [k, v] : final_metrics(*r->evaluator, *r->optimizer, r->data, r->config))
    std::printf("%-18s %.6g\n", k.c_str(), v);
  if (!r->data.test.labels.empty()) {
    std::printf("\nconfidence  accuracy  examples   (averaged over samples)\n");
    for (const ReliabilityBin& b : r->evaluator->reliability)
      if (b.count > 0)
        std::printf("%10.3f  %8.3f  %8ld\n", b.confidence / static_cast<double>(b.count),
                    b.correct / static_cast<double>(b.count), b.count);
  }
  return 0;
}

namespace {
const bool registered_train =
    Commands::of().add("train", {"train, or continue, one run", "train [FILE.ini ...] [section.key=value ...]",
                                 true, train_command, true, true}) &&
    Commands::of().add("evaluate", {"a posterior file: at the mean and averaged over samples",
                                    "evaluate FILE.h5 [--samples=64]", true, evaluate_command});
}  // namespace

}  // namespace varion
