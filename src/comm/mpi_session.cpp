#include "comm/mpi_session.hpp"

#include <mpi.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "comm/mpi_check.hpp"

namespace varion {

namespace {
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
pthread_t main_thread;

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

/// MPI's own threads end a process by exit too, when the launcher has gone; only the main thread may then call MPI.
extern "C" void on_exit_called() {
  if (::pthread_equal(::pthread_self(), main_thread) != 0) leaves("exit");
  else if (running && !ending) ::_exit(static_cast<int>(Exit::internal));
}

char end_line[120] = "";  // written beforehand: a handler must not format
int end_length = 0;

extern "C" void on_end_too_long(int) {
  if (::write(2, end_line, static_cast<size_t>(end_length)) < 0) ::_exit(static_cast<int>(Exit::internal));
  ::_exit(static_cast<int>(Exit::internal));
}
}  // namespace

MpiSession::MpiSession() {
  const int processes = launched();
  if (processes == 0) return;
  int provided = 0;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "start");
  running = true;
  main_thread = ::pthread_self();
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &world_rank);
  MPI_Comm_size(MPI_COMM_WORLD, &world_size);
  int key = 0;
  check_mpi(MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, on_finalize, &key, nullptr), "attribute");
  check_mpi(MPI_Comm_set_attr(MPI_COMM_SELF, key, nullptr), "attribute");
  std::atexit(on_exit_called);
  require(world_size == processes || processes == 1, Exit::environment, "the launcher started ", processes,
          " processes, but this program's MPI sees ", world_size,
          ": start it with the mpirun of the MPI that it was built with (varion info)");
}

MpiSession::~MpiSession() {
  if (running && ending && world_size > 1 && end_limit >= 0) {
    end_length = std::snprintf(end_line, sizeof end_line, "varion: watchdog: rank %d, end: other ranks do not come\n", world_rank);
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
std::string MpiSession::library() {
  char name[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(name, &length);
  const std::string whole(name, static_cast<size_t>(length));
  return whole.substr(0, whole.find_first_of(",\n"));
}
int MpiSession::rank() { return world_rank; }
int MpiSession::size() { return world_size; }
void MpiSession::abort(int code) {
  if (running && world_size > 1) MPI_Abort(MPI_COMM_WORLD, code);
}

}  // namespace varion
