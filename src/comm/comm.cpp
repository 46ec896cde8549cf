#include "comm/comm.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "core/error.hpp"
#include "core/random.hpp"

namespace varion {

namespace {
constexpr size_t kChunk = size_t(1) << 28;  // words a message: MPI counts in int
constexpr size_t kWhole = size_t(1) << 19;  // words below which halving does not pay (two ranks, shared memory)

/// MPI's own text for a failed call.
void check(int status, const char* what) {
  if (status == MPI_SUCCESS) return;
  char why[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(status, why, &length);
  fail(Exit::internal, "MPI: ", what, ": ", why);
}

/// How many processes the launcher says that it started; 0: no launcher. Slurm's variables also stand in a batch script
/// that starts the program without srun, so that only a step's count.
int launched() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_NUM_TASKS"})
    if (const char* value = std::getenv(name)) return std::max(std::atoi(value), 1);
  return std::getenv("PMIX_RANK") != nullptr || std::getenv("PMI_RANK") != nullptr ? 1 : 0;
}

bool running = false, ending = false;
int world_rank = 0, world_size = 1;
double end_limit = 0;  // seconds

void leaves(const char* how) {
  if (!running || ending || world_size == 1) return;
  ending = true;
  std::fprintf(stderr, "varion: rank %d leaves the job by %s while the others go on: all end\n", world_rank, how);
  MPI_Abort(MPI_COMM_WORLD, static_cast<int>(Exit::internal));
}

/// MPI's finalization begins with the attributes of MPI_COMM_SELF.
extern "C" int on_finalize(MPI_Comm, int, void*, void*) {
  leaves("MPI_Finalize");
  return MPI_SUCCESS;
}

extern "C" void on_exit_called() { leaves("exit"); }

extern "C" void on_end_too_long(int) {
  char line[120];
  const int length = std::snprintf(line, sizeof line, "varion: watchdog: rank %d, end: other ranks do not come\n", world_rank);
  if (::write(2, line, static_cast<size_t>(length)) < 0) {
  }
  ::_exit(static_cast<int>(Exit::internal));
}

/// to += from. 12 bytes per element.
void add_to(Index n, const Real* from, Real* to) {
  using Host = Kokkos::DefaultHostExecutionSpace;
  constexpr Index block = 1024;
  Kokkos::parallel_for(
      "varion::comm::add", Kokkos::RangePolicy<Host, Kokkos::IndexType<Index>>(0, (n + block - 1) / block),
      [=](const Index b) {
        const Index end = std::min(n, (b + 1) * block);
        VARION_IVDEP
        for (Index i = b * block; i < end; ++i) to[i] += from[i];
      });
  Host().fence();
}

void exchange(MPI_Comm comm, int partner, const Real* out, size_t out_count, Real* in, size_t in_count) {
  for (size_t at = 0; at < std::max(out_count, in_count); at += kChunk) {
    const size_t outgoing = at < out_count ? std::min(kChunk, out_count - at) : 0;
    const size_t incoming = at < in_count ? std::min(kChunk, in_count - at) : 0;
    check(MPI_Sendrecv(out + (outgoing > 0 ? at : 0), static_cast<int>(outgoing), MPI_FLOAT, partner, 1,
                       in + (incoming > 0 ? at : 0), static_cast<int>(incoming), MPI_FLOAT, partner, 1, comm, MPI_STATUS_IGNORE),
          "exchange of halves");
  }
}
}  // namespace

MpiSession::MpiSession() {
  const int processes = launched();
  if (processes == 0) return;
  int provided = 0;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "start");
  running = true;
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &world_rank);
  MPI_Comm_size(MPI_COMM_WORLD, &world_size);
  int key = 0;
  check(MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, on_finalize, &key, nullptr), "attribute");
  check(MPI_Comm_set_attr(MPI_COMM_SELF, key, nullptr), "attribute");
  std::atexit(on_exit_called);
  require(world_size == processes || processes == 1, Exit::environment, "the launcher started ", processes,
          " processes, but this program's MPI sees ", world_size,
          ": start it with the mpirun of the MPI that it was built with (varion info)");
}

MpiSession::~MpiSession() {
  if (running && ending && world_size > 1 && end_limit >= 0) {
    std::signal(SIGALRM, on_end_too_long);
    ::alarm(end_limit > 0 ? static_cast<unsigned>(std::ceil(end_limit)) : 600);
  }
  if (running) MPI_Finalize();
  ::alarm(0);
  running = false;
}

void MpiSession::may_end() { ending = true; }
void MpiSession::limit_end(double seconds) { end_limit = seconds; }

bool MpiSession::is_running() { return running; }
int MpiSession::rank() { return world_rank; }
void MpiSession::abort(int code) {
  if (running && world_size > 1) MPI_Abort(MPI_COMM_WORLD, code);
}

Comm Comm::world() {
  Comm c;
  if (!running) return c;
  c.rank_ = world_rank;
  c.size_ = world_size;
  c.comm_ = MPI_COMM_WORLD;
  return c;
}

Comm Comm::block(int ranks) const {
  ensure(ranks > 0 && size_ % ranks == 0, "blocks of ", ranks, " of ", size_, " ranks");
  Comm c;
  if (ranks == 1) return c;
  check(MPI_Comm_split(comm_, rank_ / ranks, rank_, &c.comm_), "split");
  c.rank_ = rank_ % ranks;
  c.size_ = ranks;
  return c;
}

/// Runs body(pointer, count) on the vector, or on a copy of it on the host that then goes back.
template <class Body>
void Comm::on_host(const Exec& exec, Vec v, const Body& body) {
  exec.fence();  // MPI reads what kernels wrote
  const size_t n = v.extent(0);
  if (kHostExec) return body(v.data(), n);
  if (staging_.extent(0) < n) staging_ = HostBuffer("varion::comm::staging", n);
  const auto host = Kokkos::subview(staging_, Kokkos::make_pair(size_t(0), n));
  Kokkos::deep_copy(exec, host, v);
  exec.fence();  // the copy is read
  body(host.data(), n);
  Kokkos::deep_copy(exec, v, host);
}

void Comm::tree_sum(const Exec& exec, Vec v) {
  if (size_ == 1 || v.extent(0) == 0) return;
  ensure((size_ & (size_ - 1)) == 0, "a tree over ", size_, " ranks");
  on_host(exec, v, [&](Real* data, size_t n) {
    const bool whole = n <= kWhole;
    const size_t room = whole ? n : (n + 1) / 2;
    if (received_.extent(0) < room) received_ = HostBuffer("varion::comm::received", room);
    // Few numbers: everything is exchanged and added at every level, which takes half as many messages.
    for (int mask = 1; whole && mask < size_; mask <<= 1) {
      exchange(comm_, rank_ ^ mask, data, n, received_.data(), n);
      add_to(static_cast<Index>(n), received_.data(), data);
    }
    if (whole) return;
    size_t low = 0, high = n;
    std::vector<std::pair<size_t, size_t>> before;  // the stretch that was held before each exchange
    for (int mask = 1; mask < size_; mask <<= 1) {
      const size_t middle = low + (high - low) / 2;
      const bool lower = (rank_ & mask) == 0;
      before.emplace_back(low, high);
      const size_t keep = lower ? low : middle, kept = lower ? middle - low : high - middle;
      const size_t give = lower ? middle : low, given = lower ? high - middle : middle - low;
      exchange(comm_, rank_ ^ mask, data + give, given, received_.data(), kept);
      add_to(static_cast<Index>(kept), received_.data(), data + keep);  // both orders of a sum of two are the same bits
      low = keep;
      high = keep + kept;
    }
    for (int mask = size_ >> 1; mask > 0; mask >>= 1) {
      const auto [all, end] = before.back();
      before.pop_back();
      const size_t middle = all + (end - all) / 2;
      const bool lower = (rank_ & mask) == 0;
      exchange(comm_, rank_ ^ mask, data + low, high - low, data + (lower ? middle : all), lower ? end - middle : middle - all);
      low = all;
      high = end;
    }
  });
}

void Comm::sum(const Exec& exec, Vec v) {
  if (size_ == 1) return;
  on_host(exec, v, [&](Real* data, size_t n) { reduce(data, n); });
}

void Comm::reduce(Real* data, size_t n) const {
  for (size_t at = 0; at < n; at += kChunk)
    check(MPI_Allreduce(MPI_IN_PLACE, data + at, static_cast<int>(std::min(kChunk, n - at)), MPI_FLOAT, MPI_SUM, comm_), "sum");
}

void Comm::sum(std::vector<double>& values) const {
  if (size_ > 1)
    check(MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()), MPI_DOUBLE, MPI_SUM, comm_), "sum");
}

void Comm::sum(std::vector<float>& values) const {
  if (size_ > 1) reduce(values.data(), values.size());
}

std::uint64_t Comm::any(std::uint64_t bits) const {
  if (size_ > 1) check(MPI_Allreduce(MPI_IN_PLACE, &bits, 1, MPI_UINT64_T, MPI_BOR, comm_), "status");
  return bits;
}

std::string Comm::from_first(std::string text) const {
  if (size_ == 1) return text;
  std::uint64_t size = text.size();
  check(MPI_Bcast(&size, 1, MPI_UINT64_T, 0, comm_), "broadcast");
  text.resize(size);
  for (size_t at = 0; at < size; at += kChunk)
    check(MPI_Bcast(&text[at], static_cast<int>(std::min(kChunk, static_cast<size_t>(size) - at)), MPI_CHAR, 0, comm_), "broadcast");
  return text;
}

std::vector<std::string> Comm::gather(const std::string& text) const {
  std::vector<std::string> out(static_cast<size_t>(size_), text);
  if (size_ == 1) return out;
  std::vector<int> sizes(out.size()), at(out.size());
  const int own = static_cast<int>(text.size());
  check(MPI_Allgather(&own, 1, MPI_INT, sizes.data(), 1, MPI_INT, comm_), "gather");
  int total = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    at[i] = total;
    total += sizes[i];
  }
  std::string all(static_cast<size_t>(total), ' ');
  check(MPI_Allgatherv(text.data(), own, MPI_CHAR, &all[0], sizes.data(), at.data(), MPI_CHAR, comm_), "gather");
  for (size_t i = 0; i < out.size(); ++i) out[i] = all.substr(static_cast<size_t>(at[i]), static_cast<size_t>(sizes[i]));
  return out;
}

void Comm::barrier() const {
  if (size_ > 1) check(MPI_Barrier(comm_), "barrier");
}

}  // namespace varion
