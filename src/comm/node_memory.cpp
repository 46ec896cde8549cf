#include "comm/node_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>

#include "comm/mpi_check.hpp"

namespace varion {

const Kokkos::Profiling::SpaceHandle kSpace = Kokkos::Profiling::make_space_handle("Host");

/// One vector of every rank, mapped here.
struct NodeMemory::Segment {
  size_t bytes = 0;
  std::vector<Real*> of_rank;
  Real* own = nullptr;  // set once it is in use
  std::string label;
  void use(Real* p, const std::string& name) {
    own = p;
    label = name;
    Kokkos::Profiling::allocateData(kSpace, label, own, bytes);  // who counts Kokkos' memory counts this too
  }
  ~Segment() {
    if (own != nullptr) Kokkos::Profiling::deallocateData(kSpace, label, own, bytes);
    for (Real* p : of_rank)
      if (p != nullptr) ::munmap(p, bytes);
  }
};

namespace {
constexpr size_t kHugePage = size_t(1) << 21;

/// Maps an open file; nullptr where that fails. Reads and writes.
Real* map(int fd, size_t bytes) {
  void* const p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (p == MAP_FAILED) return nullptr;
  ::madvise(p, bytes, MADV_HUGEPAGE);  // a wish: may be refused
  return static_cast<Real*>(p);
}
}  // namespace

NodeMemory::NodeMemory(MPI_Comm node) : node_(node) {
  MPI_Comm_rank(node_, &rank_);
  MPI_Comm_size(node_, &size_);
  if (!kHostExec || size_ == 1) return;
  // Tried with a word a rank: processes of other users or in other containers cannot be reached.
  const std::shared_ptr<Segment> trial = segment(4096);
  if (trial == nullptr) return;
  *trial->of_rank[static_cast<size_t>(rank_)] = static_cast<Real>(rank_ + 1);
  barrier();
  int good = 1;
  for (int r = 0; r < size_; ++r) good &= *trial->of_rank[static_cast<size_t>(r)] == static_cast<Real>(r + 1) ? 1 : 0;
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &good, 1, MPI_INT, MPI_MIN, node_), "agree on shared memory");
  works_ = good == 1;
}

/// Nothing where any rank failed. The memory is taken at once: later a full machine could only end the process.
std::shared_ptr<NodeMemory::Segment> NodeMemory::segment(size_t bytes) const {
  auto s = std::make_shared<Segment>();
  s->bytes = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  s->of_rank.assign(static_cast<size_t>(size_), nullptr);
  const int fd = ::memfd_create("varion", MFD_CLOEXEC);
  long long own[2] = {::getpid(), fd};
  if (fd < 0 || ::posix_fallocate(fd, 0, static_cast<off_t>(s->bytes)) != 0) own[1] = -1;
  std::vector<long long> all(2 * static_cast<size_t>(size_));
  check_mpi(MPI_Allgather(own, 2, MPI_LONG_LONG, all.data(), 2, MPI_LONG_LONG, node_), "shared memory");
  int good = 1;
  for (int r = 0; r < size_; ++r) {
    const auto at = static_cast<size_t>(r);
    const bool mine = r == rank_;
    const std::string path = "/proc/" + std::to_string(all[2 * at]) + "/fd/" + std::to_string(all[2 * at + 1]);
    const int other = mine ? fd : all[2 * at + 1] >= 0 ? ::open(path.c_str(), O_RDWR | O_CLOEXEC) : -1;
    if (other >= 0 && all[2 * at + 1] >= 0) s->of_rank[at] = map(other, s->bytes);
    if (!mine && other >= 0) ::close(other);
    good &= s->of_rank[at] != nullptr ? 1 : 0;
  }
  // Also a barrier: a file stays open until all have mapped it.
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &good, 1, MPI_INT, MPI_MIN, node_), "agree on shared memory");
  if (fd >= 0) ::close(fd);
  return good == 1 ? s : nullptr;
}

KeptVec NodeMemory::vector(const std::string& label, Index words) {
  if (!works_) return {};
  segments_.erase(std::remove_if(segments_.begin(), segments_.end(), [](const auto& s) { return s.expired(); }), segments_.end());
  const std::shared_ptr<Segment> s = segment(static_cast<size_t>(words) * sizeof(Real));
  if (s == nullptr) return {};
  segments_.push_back(s);
  s->use(s->of_rank[static_cast<size_t>(rank_)], label);
  return {Vec(s->of_rank[static_cast<size_t>(rank_)], static_cast<size_t>(words)), s};
}

const std::vector<Real*>* NodeMemory::all(const Real* own) const {
  for (const std::weak_ptr<Segment>& weak : segments_)
    if (const auto s = weak.lock())
      if (s->of_rank[static_cast<size_t>(rank_)] == own) return &s->of_rank;
  return nullptr;
}

void NodeMemory::barrier() const {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  check_mpi(MPI_Barrier(node_), "barrier of a node");
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

}  // namespace varion
