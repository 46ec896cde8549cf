#include <cmath>
#include <cstdio>

#include "app/command.hpp"
#include "core/error.hpp"
#include "ops/gradient_check.hpp"
#include "optim/trace.hpp"
#include "train/model_check.hpp"
#include "train/resume_check.hpp"

namespace varion {

int verify_command(const std::vector<std::string>& words) {
  const Arguments a = parse_arguments(words, {"trace", "steps"});
  const std::string verb = a.words.empty() ? "" : a.words[0];
  bool ok = true;
  if (verb == "gradients") {
    std::vector<GradientResult> all = check_op_gradients();
    for (const GradientResult& r : check_model_gradients()) all.push_back(r);
    for (const GradientResult& r : all) {
      std::printf("%-20s %-40s error %.2e of %.2e %s\n", r.name.c_str(), r.label.c_str(), r.error,
                  r.tolerance, r.ok ? "ok" : "WRONG");
      ok = ok && r.ok;
    }
  } else if (verb == "optimizer" && !a.flag("trace", "").empty()) {
    for (const auto& [state, error] : replay_trace(a.flag("trace", ""))) {
      std::printf("%-12s largest relative error %.3e %s\n", state.c_str(), error, error <= 1e-5 ? "ok" : "WRONG");
      ok = ok && error <= 1e-5;
    }
  } else if (verb == "resume") {
    Arguments rest = a;
    rest.words.erase(rest.words.begin());
    const Config config = make_config(rest);
    const auto steps = parse_real(a.flag("steps", "20"));
    require(steps && *steps == std::floor(*steps) && *steps < 1e9, Exit::usage, "--steps must be a whole number");
    ok = resumes_exactly(config, static_cast<Index>(*steps));
    std::printf("%s with %s: stopped after %.0f of %.0f steps and resumed: %s\n", config.text("model.name").c_str(),
                config.text("optim.name").c_str(), std::floor(*steps / 2), *steps, ok ? "the same bits, ok" : "WRONG");
  } else {
    fail(Exit::usage,
         "use: verify gradients | optimizer --trace=FILE.json | resume [FILE.ini] [key=value ...] [--steps=20]");
  }
  return ok ? 0 : static_cast<int>(Exit::internal);
}

namespace {
const bool registered = Commands::of().add(
    "verify", {"check the program itself", "verify gradients | optimizer --trace=FILE.json | resume [key=value ...] [--steps=20]", true, verify_command});
}  // namespace

}  // namespace varion
