// The faults of the test program varion_inject: what they are and when they come.
#include "core/inject.hpp"

#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <new>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "comm/mpi_session.hpp"
#include "core/error.hpp"
#include "core/options.hpp"

namespace varion::inject {

namespace {
struct Fault {
  std::string place, kind;
  std::uint64_t step = 0;
  int rank = 0;
  Index index = 0;
  bool done = false;
};
std::vector<Fault> faults;
std::uint64_t current_step = 0;

const char* const kOption = "--inject=";

const char* const kPause = "pause";  // at every step, whatever STEP; of INDEX milliseconds

/// The fault that is due here, or none.
Fault* due(const std::string& place, std::uint64_t step) {
  for (Fault& f : faults) {
    const bool lasts = f.kind == kPause;
    if (f.done || f.place != place || (f.step != step && !lasts) || f.rank != MpiSession::rank()) continue;
    f.done = !lasts;
    return &f;
  }
  return nullptr;
}

/// Waits for ever, as a rank in a collective that nobody else has entered.
void wait_for_nobody() {
  int word = 0, size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Recv(&word, 1, MPI_INT, (MpiSession::rank() + 1) % size, 30000, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

void spin() {
  for (volatile bool forever = true; forever;) {
  }
}

const std::map<std::string, std::function<void()>>& process_faults() {
  static const std::map<std::string, std::function<void()>> all{
      {"kill", [] { ::raise(SIGKILL); }},
      {"segv", [] { ::raise(SIGSEGV); }},
      {"abort", [] { std::abort(); }},
      {"throw", [] { throw std::runtime_error("an injected exception"); }},
      {"bad_alloc", [] { throw std::bad_alloc(); }},
      {"exit0", [] { std::exit(0); }},
      {"exit3", [] { std::exit(3); }},
      {"quit", [] { ::_exit(0); }},
      {"mpi_abort", [] { MPI_Abort(MPI_COMM_WORLD, 42); }},
      {"early_finalize", [] { MPI_Finalize(); ::_exit(0); }},
      {"stop", [] { ::raise(SIGSTOP); }},
      {"loop", spin},
      {"deadlock", [] { MPI_Barrier(MPI_COMM_WORLD); }},  // where the others are in another collective
      {"lost_message", wait_for_nobody},
      {"slow_disk", [] { ::sleep(60); }},
      {"slow", [] { ::sleep(1); }}};  // within the limits of the tests
  return all;
}

/// The value of a kind, or the old one with one bit flipped.
Real faulty(const std::string& kind, Real old) {
  if (kind == "nan") return std::numeric_limits<Real>::quiet_NaN();
  if (kind == "+inf") return std::numeric_limits<Real>::infinity();
  if (kind == "-inf") return -std::numeric_limits<Real>::infinity();
  if (kind == "1e38") return Real(1e38);
  if (kind == "denormal") return Real(1e-40);
  if (kind == "leap") return old * 1000 + 100;
  std::uint32_t bits;
  std::memcpy(&bits, &old, sizeof bits);
  bits ^= 1u << std::stoi(kind.substr(4));  // flipN
  std::memcpy(&old, &bits, sizeof bits);
  return old;
}

bool is_value(const std::string& kind) {
  const std::vector<std::string> named{"nan", "+inf", "-inf", "1e38", "denormal", "leap"};
  if (std::find(named.begin(), named.end(), kind) != named.end()) return true;
  const auto bit = kind.rfind("flip", 0) == 0 ? parse_real(kind.substr(4)) : std::nullopt;
  return bit && *bit >= 0 && *bit < 32;
}
}  // namespace

bool take(const std::string& word) {
  if (word.rfind(kOption, 0) != 0) return false;
  std::istringstream in(word.substr(std::strlen(kOption)));
  std::vector<std::string> parts;
  for (std::string part; std::getline(in, part, ':');) parts.push_back(part);
  require(parts.size() == 4 || parts.size() == 5, Exit::usage, word, ": want PLACE:STEP:RANK:KIND[:INDEX]");
  require(process_faults().count(parts[3]) != 0 || is_value(parts[3]) || parts[3] == kPause, Exit::usage, word, ": unknown kind");
  Fault f;
  f.place = parts[0];
  f.step = static_cast<std::uint64_t>(parse_real(parts[1]).value_or(0));
  f.rank = static_cast<int>(parse_real(parts[2]).value_or(0));
  f.kind = parts[3];
  f.index = parts.size() > 4 ? static_cast<Index>(parse_real(parts[4]).value_or(0)) : 0;
  faults.push_back(f);
  return true;
}

void process(const char* place, std::uint64_t step) {
  const Fault* f = due(place, step);
  if (f == nullptr) return;
  if (f->kind == kPause) ::usleep(static_cast<useconds_t>(f->index * 1000));
  else process_faults().at(f->kind)();
}

void value(const std::string& place, std::uint64_t step, const Exec& exec, const Vec& v, Index count) {
  current_step = step;
  const Fault* f = due(place, step);
  if (f == nullptr) return;
  exec.fence();  // the host writes what kernels read
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), v);
  const auto n = static_cast<size_t>(count), first = static_cast<size_t>(f->index) % (v.extent(0) / n) * n;
  for (size_t at = first; at < first + n; ++at)  // the noise is added to the weights, times a sigma of 0.01
    host(at) = place == "noise" ? host(at) + Real(0.01) * faulty(f->kind, 0) : faulty(f->kind, host(at));
  Kokkos::deep_copy(v, host);
}

void activation(const Exec& exec, const Vec& v, Index count) { value("activation", current_step, exec, v, count); }

}  // namespace varion::inject
