#include <cstdio>

#include "app/command.hpp"
#include "core/error.hpp"
#include "study/study.hpp"
#include "train/stop_signals.hpp"

namespace varion {

int study_command(const std::vector<std::string>& words) {
  const Arguments a = parse_arguments(words, {"format"});
  require(a.words.size() == 2, Exit::usage, "use: study plan|run|status|report FOLDER [section.key=value ...]");
  const std::string& verb = a.words[0];
  const Study study = load_study(a.words[1], a.settings);
  if (verb == "plan" || verb == "status") {
    for (const StudyRun& r : study.runs)
      std::printf("%-12s %s\n", run_state(r).c_str(), r.dir.c_str());
    return 0;
  }
  if (verb == "report") {
    std::printf("%s", report_study(study, a.flag("format", "text")).c_str());
    return 0;
  }
  require(verb == "run", Exit::usage, "unknown verb '", verb, "'",
          did_you_mean(verb, {"plan", "run", "status", "report"}));
  install_signal_handlers();
  run_study(study);
  return 0;
}

namespace {
const bool registered_study =
    Commands::of().add("study", {"a question as many runs", "study plan|run|status|report FOLDER [--format=text|csv]",
                                 true, study_command});
}  // namespace

}  // namespace varion
