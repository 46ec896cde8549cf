#include "train/stop_signals.hpp"

#include <unistd.h>

#include <csignal>
#include <initializer_list>

namespace varion {

namespace {
volatile std::sig_atomic_t stop_signals = 0;
/// Ctrl-C a second time does not wait for the step.
extern "C" void on_signal(int signal) {
  if (signal == SIGINT && stop_signals != 0) ::_exit(130);
  stop_signals = 1;
}
}  // namespace

void install_signal_handlers() {
  for (const int s : {SIGUSR1, SIGUSR2, SIGTERM, SIGINT}) std::signal(s, on_signal);
  if (std::signal(SIGHUP, on_signal) == SIG_IGN) std::signal(SIGHUP, SIG_IGN);  // nohup: to go on without a terminal
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

bool stop_requested() { return stop_signals != 0; }

}  // namespace varion
