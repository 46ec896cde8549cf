#include <cmath>
#include <cstdio>

#include "app/command.hpp"
#include "backends/backend.hpp"
#include "comm/comm.hpp"
#include "core/error.hpp"
#include "io/commit_file.hpp"
#include "ops/gradient_check.hpp"
#include "optim/trace.hpp"
#include "train/backend_check.hpp"
#include "train/model_check.hpp"
#include "train/network.hpp"
#include "train/replay_check.hpp"
#include "train/resume_check.hpp"

namespace varion {

namespace {
const char* const kVerifyUsage =
    "verify gradients | optimizer --trace=FILE.json | resume [FILE.ini] [key=value ...] [--steps=20] | "
    "ranks [FILE.ini] [key=value ...] [--steps=10] (under mpirun) | "
    "replay RUN_DIRECTORY [--step=K] (are the bits of a step those of doing it again?) | "
    "backend [FILE.ini] [key=value ...] [--steps=10] [--provider=portable | --record=FILE.h5 [--force] | --against=FILE.h5]";

Index steps_of(const Arguments& a, const char* fallback) {
  const auto steps = parse_real(a.flag("steps", fallback));
  require(steps && *steps == std::floor(*steps) && *steps >= 1 && *steps < 1e9, Exit::usage,
          "--steps must be a whole number from 1");
  return static_cast<Index>(*steps);
}

/// The words behind the verb.
Arguments behind_verb(Arguments a) {
  a.words.erase(a.words.begin());
  return a;
}

std::string here() { return text(backend::devices()[0], ", ", backend::provider().name()); }

/// A table of one row a tensor and one column a vector.
bool print_differences(const std::vector<BackendDifference>& all) {
  std::vector<BackendDifference> columns;
  for (const BackendDifference& d : all)
    if (d.tensor == all[0].tensor) columns.push_back(d);
  std::printf("%-32s", "|a - b| / |b - start|");
  for (const BackendDifference& c : columns) std::printf(" %15s", c.state.c_str());
  bool ok = true;
  for (size_t i = 0; i < all.size(); ++i) {
    if (i % columns.size() == 0) std::printf("\n%-32s", all[i].tensor.c_str());
    std::printf(" %9.1e %5s", all[i].difference, all[i].ok() ? "" : "WRONG");
    ok = ok && all[i].ok();
  }
  std::printf("\n%-32s", "tolerance");
  for (const BackendDifference& c : columns) std::printf(" %9.1e %5s", c.tolerance, "");
  std::printf("\n");
  return ok;
}

/// The first steps on 1, 2, 4 ... of the ranks that mpirun started, all with the same slots: the same bits?
bool verify_ranks(const Arguments& a) {
  const Comm world = Comm::world();
  require(world.size() > 1, Exit::usage, "verify ranks compares numbers of ranks: start it with mpirun -n 4");
  Config config = make_config(a);
  const Index steps = steps_of(a, "10"), slots = slots_of(config, world);
  config.set("parallel.slots", std::to_string(slots), "verify ranks");
  std::string first;
  bool ok = true;
  for (int ranks = 1; ranks <= world.size(); ++ranks) {
    if (world.size() % ranks != 0 || slots % ranks != 0) continue;
    const FirstSteps s = first_steps(config, steps, world.block(ranks));
    std::string bytes(reinterpret_cast<const char*>(s.file.mean.data()), s.file.mean.size() * sizeof(float));
    for (const auto& [name, flat] : s.file.states)
      bytes.append(reinterpret_cast<const char*>(flat.data()), flat.size() * sizeof(float));
    bool same = true;
    const std::string digest = io::sha256(bytes.data(), bytes.size());
    if (first.empty()) first = digest;
    for (const std::string& other : world.gather(digest)) same = same && other == first;
    if (world.is_first())
      std::printf("%4d ranks  %s  %s\n", ranks, digest.substr(0, 16).c_str(), same ? "ok" : "WRONG");
    ok = ok && same;
  }
  if (world.is_first())
    std::printf("%ld steps of %s with %s, %ld slots\n", static_cast<long>(steps), config.text("model.name").c_str(),
                config.text("optim.name").c_str(), static_cast<long>(slots));
  return ok;
}

/// A step of a run, done again from the checkpoint before it.
bool verify_replay(const Arguments& a) {
  const std::string step = a.flag("step", "0");
  const auto k = parse_real(step);
  require(k && *k >= 0 && *k < 9e15 && *k == std::floor(*k), Exit::usage, "--step=", step, " must be a whole number from 1");
  require(a.words.size() == 2 && a.settings.empty(), Exit::usage, "use: verify replay RUN_DIRECTORY [--step=K]");
  const ReplayResult r = replay_step(a.words[1], static_cast<std::uint64_t>(*k), Comm::world());
  if (Comm::world().is_first())
    std::printf("steps %llu to %llu of %s done again: the run recorded %s, now %s  %s\n", static_cast<unsigned long long>(r.from + 1),
                static_cast<unsigned long long>(r.step), a.words[1].c_str(), r.recorded.c_str(), r.replayed.c_str(), r.ok() ? "ok" : "WRONG");
  return r.ok();
}

/// Two providers of this build, or this one and a reference from elsewhere.
bool verify_backend(const Arguments& a, bool force) {
  const std::string record = a.flag("record", ""), against = a.flag("against", "");
  require(record.empty() || against.empty(), Exit::usage, "--record and --against exclude each other");
  const auto place = record.empty() ? std::pair<std::string, std::string>() : place_for(record, force, "");
  if (!against.empty()) {
    require(a.words.empty() && a.flag("steps", "").empty(), Exit::usage,
            "--against takes configuration and steps from the reference; key=value changes it (data.path=...)");
    const io::PosteriorFile reference = io::load_posterior(against);
    const auto [config, steps] = reference_config(reference, against, a.settings);
    const FirstSteps ours = first_steps(config, steps);
    std::printf("a: %s\nb: %s, computed on %s, %ld steps at optim.lr / 1000\n", here().c_str(), against.c_str(),
                reference.root.count("device") != 0 ? reference.root.at("device").c_str() : "an unknown device",
                static_cast<long>(steps));
    return print_differences(compare_first_steps(ours, reference, against));
  }
  const Config config = make_config(a);
  const Index steps = steps_of(a, "10");
  FirstSteps ours = first_steps(config, steps);
  const std::string a_name = here();
  if (!record.empty()) {
    ours.file.root["device"] = a_name;
    io::save_posterior(place.first, place.second, ours.file);
    std::printf("%s: the first %ld steps, at optim.lr / 1000, on %s\n", record.c_str(), static_cast<long>(steps), a_name.c_str());
    return true;
  }
  const std::string other = a.flag("provider", "portable"), used = backend::provider().name();
  require(other != used, Exit::usage, "the provider in use is ", used,
          " itself: name another one with --provider, or compare machines with --record and --against");
  backend::use_provider(other);
  const FirstSteps theirs = first_steps(config, steps);
  std::printf("a: %s\nb: %s\n%ld steps of %s with %s at optim.lr / 1000\n", a_name.c_str(), here().c_str(), static_cast<long>(steps),
              config.text("model.name").c_str(), config.text("optim.name").c_str());
  backend::use_provider(used);
  return print_differences(compare_first_steps(ours, theirs.file, other));
}
}  // namespace

int verify_command(const std::vector<std::string>& words) {
  const auto [plain, force] = without_force(words);
  const Arguments a = parse_arguments(plain, {"trace", "steps", "step", "provider", "record", "against"});
  const std::string verb = a.words.empty() ? "" : a.words[0];
  require(!force || !a.flag("record", "").empty(), Exit::usage, "--force goes with --record");
  require(verb == "ranks" || verb == "replay" || Comm::world().size() == 1, Exit::usage, "verify ", verb, " runs on one rank");
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
    const Config config = make_config(behind_verb(a));
    const Index steps = steps_of(a, "20");
    ok = resumes_exactly(config, steps);
    std::printf("%s with %s: stopped after %ld of %ld steps and resumed: %s\n", config.text("model.name").c_str(),
                config.text("optim.name").c_str(), static_cast<long>(steps / 2), static_cast<long>(steps), ok ? "the same bits, ok" : "WRONG");
  } else if (verb == "ranks") {
    ok = verify_ranks(behind_verb(a));
  } else if (verb == "replay") {
    ok = verify_replay(a);
  } else if (verb == "backend") {
    ok = verify_backend(behind_verb(a), force);
  } else {
    fail(Exit::usage, "use: ", kVerifyUsage);
  }
  return ok ? 0 : static_cast<int>(Exit::internal);
}

namespace {
const bool registered_verify = Commands::of().add(
    "verify", {"check the program itself", kVerifyUsage, true, verify_command, true});
}  // namespace

}  // namespace varion
