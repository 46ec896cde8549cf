// varion: parses the command, runs it, turns errors into one line and an exit code.
#include <Kokkos_Core.hpp>
#include <cstdio>
#include <cstdlib>

#include "app/command.hpp"
#include "backends/backend.hpp"
#include "build_info.hpp"
#include "core/error.hpp"

namespace {

void print_usage(std::FILE* out) {
  std::fprintf(out, "varion %s: trains neural networks with variational optimizers\n\n"
               "  varion COMMAND [FILE.ini ...] [section.key=value ...] [--flags] [--kokkos-*]\n"
               "  -q says nothing but errors (train, study run); every command answers --help\n\n",
               VARION_VERSION);
  for (const auto& [name, c] : varion::Commands::of().all())
    std::fprintf(out, "  %-10s %s\n", name.c_str(), c.help.c_str());
  std::fprintf(out, "\n  varion train data.name=moons model.sizes=32,32 optim.name=ivon optim.lr=0.5\n"
               "  varion evaluate runs/run/final.h5\n  varion study report studies/demo\n");
}

int run(int argc, char** argv) {
  using namespace varion;
  std::vector<std::string> words;
  bool help = false;
  for (int i = 1; i < argc; ++i) {
    const std::string w = argv[i];
    if (w.rfind("--kokkos-", 0) == 0) continue;  // Kokkos reads these itself
    if (w == "--help" || w == "-h") help = true;
    else if (w == "-q" || w == "--quiet") set_quiet();
    else words.push_back(w);
  }
  if (!words.empty() && (words[0] == "--version" || words[0] == "version")) {
    std::printf("varion %s %s\n", VARION_VERSION, VARION_GIT);
    return 0;
  }
  if (words.empty() || words[0] == "help") {
    print_usage(help || !words.empty() ? stdout : stderr);
    return help || !words.empty() ? 0 : static_cast<int>(Exit::usage);
  }
  require(Commands::of().has(words[0]), Exit::usage, "unknown command '", words[0], "'",
          did_you_mean(words[0], Commands::of().names()), "; `varion help` lists them");
  const Command& command = Commands::of().find(words[0]);
  if (help) {
    std::printf("%s\n\n  varion %s\n", command.help.c_str(), command.usage.c_str());
    return 0;
  }
  words.erase(words.begin());
  if (!command.needs_device) return command.run(words);
  const std::string missing = backend::missing_device();  // Kokkos would abort
  require(missing.empty(), Exit::environment, missing);
  setenv("OMP_PROC_BIND", "false", 0);  // binding is the launcher's business: no warning about it
  const Kokkos::ScopeGuard guard(argc, argv);
  return command.run(words);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const varion::Error& e) {
    std::fprintf(stderr, "varion: %s\n", e.what());
    return static_cast<int>(e.code());
  } catch (const std::exception& e) {
    std::fprintf(stderr, "varion: internal error: %s\n", e.what());
    return static_cast<int>(varion::Exit::internal);
  }
}
