#include "io/apart.hpp"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <new>

namespace varion::io {

namespace {
constexpr std::array kCrashes{SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGXCPU};
constexpr int kNoMemory = 99;  // an exit code

/// Bytes that this process may write to.
std::uint64_t data_bytes() {
  std::ifstream pages("/proc/self/statm");
  std::uint64_t n = 0;
  for (int field = 0; field < 6; ++field) pages >> n;
  return n * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

/// Signals end this process, as they do by default.
void take_signals() {
  sigset_t all;
  ::sigemptyset(&all);
  const auto take = [&](int s) {
    ::signal(s, SIG_DFL);
    ::sigaddset(&all, s);
  };
  for (const int s : kCrashes) take(s);
  take(SIGALRM);
  ::sigprocmask(SIG_UNBLOCK, &all, nullptr);
}

void set_limits(unsigned seconds, std::uint64_t bytes) {
  const rlimit none{0, 0}, time{seconds, seconds + 1};  // a signal before the kill
  ::setrlimit(RLIMIT_CORE, &none);
  ::setrlimit(RLIMIT_CPU, &time);
  if (const std::uint64_t now = data_bytes(); now > 0) {
    const rlimit data{now + bytes, now + bytes};
    ::setrlimit(RLIMIT_DATA, &data);
  }
  ::alarm(60 + 2 * seconds);
}

/// Writes an error's code, and its text behind it.
[[noreturn]] void end_with(Exit code, const char* what, int report) {
  const std::string line = static_cast<char>(code) + std::string(what);
  ::_exit(::write(report, line.data(), std::min<size_t>(line.size(), PIPE_BUF)) < 0 ? 1 : 0);
}

[[noreturn]] void run_apart(const std::function<void()>& body, unsigned seconds, std::uint64_t bytes, int report) {
  take_signals();
  set_limits(seconds, bytes);
#ifdef __GLIBC__
  ::mallopt(M_PERTURB, 0xaa);  // what was freed, or never written, is a pointer to nowhere: a crash here rather than later
#endif
  const int nowhere = ::open("/dev/null", O_WRONLY);
  if (nowhere >= 0) ::dup2(nowhere, STDERR_FILENO);  // libraries say how they crash: one line is enough
  try {
    body();
  } catch (const Error& e) {
    end_with(e.code(), e.what(), report);
  } catch (const std::bad_alloc&) {
    ::_exit(kNoMemory);
  } catch (const std::exception& e) {
    end_with(Exit::internal, e.what(), report);
  }
  ::_exit(0);
}

std::string crash_of(int status) {
  if (WIFEXITED(status)) {
    const int code = WEXITSTATUS(status);
    return code == 0 ? "" : code == kNoMemory ? "it asks for too much memory" : text("exit code ", code);  // a sanitizer's
  }
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
  char line[PIPE_BUF];
  const ssize_t n = ended ? ::read(report[0], line, sizeof line) : 0;
  if (n > 0) t.error = Error(static_cast<Exit>(static_cast<unsigned char>(line[0])), std::string(line + 1, static_cast<size_t>(n - 1)));
  ::close(report[0]);
  return t;
}

}  // namespace varion::io
