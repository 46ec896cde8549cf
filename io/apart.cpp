#include "io/apart.hpp"

#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>

#include "core/error.hpp"

namespace varion::io {

namespace {
constexpr std::array kCrashes{SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGXCPU};

/// Bytes that this process may write to.
std::uint64_t data_bytes() {
  std::ifstream pages("/proc/self/statm");
  std::uint64_t n = 0;
  for (int field = 0; field < 6; ++field) pages >> n;
  return n * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

void limit_to(decltype(RLIMIT_CPU) what, rlim_t n) {
  const rlimit both{n, n};
  ::setrlimit(what, &both);
}

[[noreturn]] void run_apart(const std::function<void()>& body, unsigned seconds, std::uint64_t bytes, int report) {
  sigset_t crashes;
  ::sigemptyset(&crashes);
  for (const int s : kCrashes) {
    ::signal(s, SIG_DFL);
    ::sigaddset(&crashes, s);
  }
  ::sigprocmask(SIG_UNBLOCK, &crashes, nullptr);
  limit_to(RLIMIT_CORE, 0);
  const rlimit time{seconds, seconds + 1};  // a signal before the kill
  ::setrlimit(RLIMIT_CPU, &time);
  if (const std::uint64_t now = data_bytes(); now > 0) limit_to(RLIMIT_DATA, now + bytes);
#ifdef __GLIBC__
  ::mallopt(M_PERTURB, 0xaa);  // what was freed, or never written, is a pointer to nowhere: a crash here rather than later
#endif
  const int nowhere = ::open("/dev/null", O_WRONLY);
  if (nowhere >= 0) ::dup2(nowhere, STDERR_FILENO);  // libraries say how they crash: one line is enough
  try {
    body();
  } catch (const std::exception& e) {
    const std::string what = *e.what() == '\0' ? "an error without a name" : e.what();
    if (::write(report, what.data(), std::min<size_t>(what.size(), PIPE_BUF)) < 0) ::_exit(1);
  }
  ::_exit(0);
}

std::string crash_of(int status) {
  if (WIFEXITED(status)) return WEXITSTATUS(status) == 0 ? "" : text("exit code ", WEXITSTATUS(status));  // a sanitizer's
  const int by = WTERMSIG(status);
  if (by == SIGXCPU) return "it comes to no end";
  return std::find(kCrashes.begin(), kCrashes.end(), by) == kCrashes.end() ? "" : ::strsignal(by);
}
}  // namespace

Trial try_apart(const std::function<void()>& body, unsigned seconds, std::uint64_t bytes) {
  int report[2];
  if (::pipe2(report, O_CLOEXEC) != 0) return {};
  const pid_t copy = ::fork();
  if (copy == 0) run_apart(body, seconds, bytes, report[1]);
  ::close(report[1]);
  Trial t;
  int status = 0;
  bool ended = copy > 0;
  while (ended && ::waitpid(copy, &status, 0) < 0) ended = errno == EINTR;
  if (ended) t.crash = crash_of(status);
  char what[PIPE_BUF];
  const ssize_t n = ended ? ::read(report[0], what, sizeof what) : 0;
  if (n > 0) t.error.assign(what, static_cast<size_t>(n));
  ::close(report[0]);
  return t;
}

}  // namespace varion::io
