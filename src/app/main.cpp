// varion: parses the command, runs it, turns errors into one line and an exit code.
#include <unistd.h>

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>

#include "app/command.hpp"
#include "backends/backend.hpp"
#include "build_info.hpp"
#include "comm/comm.hpp"
#include "comm/mpi_session.hpp"
#include "core/error.hpp"
#include "core/inject.hpp"
#include "io/posterior_file.hpp"
#include "train/stop_signals.hpp"

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

/// The code, once all that was printed has been taken. Errors: 74.
int checked_output(int code) {
  require(std::fflush(stdout) == 0 && std::ferror(stdout) == 0, varion::Exit::io, "cannot write to the standard output");
  return code;
}

int run(int argc, char** argv, std::unique_ptr<varion::MpiSession>& session) {
  using namespace varion;
  std::vector<std::string> words;
  bool help = false;
  for (int i = 1; i < argc; ++i) {
    const std::string w = argv[i];
    if (w.rfind("--kokkos-", 0) == 0) continue;  // Kokkos reads these itself
    if (inject::take(w)) continue;
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
  const std::string name = words[0];
  words.erase(words.begin());
  if (!command.needs_device) return checked_output(command.run(words));
  const std::string missing = backend::missing_device();  // Kokkos would abort
  require(missing.empty(), Exit::environment, missing);
  if (command.stops) install_signal_handlers();  // before what takes long: MPI, the device
  io::open_hdf5();
  session = std::make_unique<MpiSession>();
  require(Comm::world().size() == 1 || command.parallel, Exit::usage, "'", name, "' runs on one rank, not on ",
          Comm::world().size(), ": start it without mpirun");
  if (MpiSession::is_running()) setenv("KOKKOS_DISABLE_WARNINGS", "1", 0);  // the log tells where ranks share processors
  if (!kHostExec && MpiSession::is_running())  // Kokkos takes the local rank modulo this
    setenv("KOKKOS_NUM_DEVICES", std::to_string(std::max<size_t>(backend::devices().size(), 1)).c_str(), 0);
  setenv("OMP_PROC_BIND", "false", 0);  // binding is the launcher's business: no warning about it
  const Kokkos::ScopeGuard guard(argc, argv);
  inject::process("init", 0);
  const int code = command.run(words);
  inject::process("finalize", 0);
  MpiSession::may_end();
  return command.stops ? code : checked_output(code);  // a run's results are in its directory
}

/// One line, and the end of all ranks. What goes wrong on every rank is said by the first one: the others give it time to.
int end_with(varion::Exit code, const std::string& message) {
  const int rank = varion::MpiSession::rank();
  if (rank > 0 && ::sleep(2) > 0) ::_exit(static_cast<int>(code));  // a signal: the job is being ended
  if (rank > 0) std::fprintf(stderr, "varion: rank %d: %s\n", rank, message.c_str());
  else std::fprintf(stderr, "varion: %s\n", message.c_str());
  varion::MpiSession::abort(static_cast<int>(code));
  return static_cast<int>(code);
}

}  // namespace

int main(int argc, char** argv) {
  std::unique_ptr<varion::MpiSession> session;  // outlives an error: ranks that go on must be ended, not waited for
  std::set_terminate([] {
    varion::MpiSession::abort(static_cast<int>(varion::Exit::internal));
    std::abort();
  });
  try {
    return run(argc, argv, session);
  } catch (const varion::Error& e) {
    return end_with(e.code(), e.what());
  } catch (const std::bad_alloc&) {
    return end_with(varion::Exit::environment, "not enough memory");
  } catch (const std::exception& e) {
    const std::string what = e.what();
    if (what.rfind("Kokkos failed to allocate", 0) == 0)
      return end_with(varion::Exit::environment, "not enough memory: " + what.substr(0, what.find('\n')));
    return end_with(varion::Exit::internal, std::string("internal error: ") + e.what());
  }
}
