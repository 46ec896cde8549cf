// The ranks of a run and what they tell each other. Everything here is collective unless it says otherwise.
#pragma once

#include <mpi.h>

#include <string>
#include <vector>

#include "core/types.hpp"

namespace varion {

/// MPI from here to the end of its life, where a launcher (mpirun, srun) started the program; else nothing: a single
/// process needs no MPI. Errors (69): the launcher started several processes but this program's MPI knows of one.
class MpiSession {
 public:
  MpiSession();
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
  static bool is_running();
  /// This process' rank among all; 0 without MPI. Not collective.
  static int rank();
  /// From here on a rank may leave: the program has done its work. Before, whatever ends a rank with a code of its own (exit,
  /// MPI_Finalize, the end of main) ends all ranks with code 70, for the others would wait for it for ever.
  static void may_end();
  /// How long the end itself, where ranks wait for each other, may take: seconds; 0: 600; below 0: no limit.
  static void limit_end(double seconds);
  /// Ends all ranks with this exit code, because this one cannot go on; returns where there is one rank only. Not
  /// collective.
  static void abort(int code);
};

class Comm {
 public:
  /// One rank.
  Comm() = default;
  /// All ranks of the session; one where there is none.
  static Comm world();

  /// The group of `ranks` consecutive ranks that this one is in. Its communicator lives as long as MPI does.
  Comm block(int ranks) const;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool is_first() const { return rank_ == 0; }

  /// v = the sum over ranks, added pairwise: (0 + 1) + (2 + 3) ..., so that with a power of two of ranks the bits are those
  /// of that tree on one rank. Halves are exchanged and added, then gathered: 2 |v| (size - 1) / size each way; short vectors
  /// go whole.
  /// Device vectors go through `staging`, where the MPI library cannot take them. Errors (70): no power of two.
  void tree_sum(const Exec& exec, Vec v);
  /// v = the sum over ranks in whatever order MPI takes (MPI_Allreduce).
  void sum(const Exec& exec, Vec v);

  /// Small things, on the host.
  void sum(std::vector<double>& values) const;
  void sum(std::vector<float>& values) const;
  /// The bits that any rank has set.
  std::uint64_t any(std::uint64_t bits) const;
  /// The first rank's text, everywhere.
  std::string from_first(std::string text) const;
  /// Everybody's text, everywhere, by rank.
  std::vector<std::string> gather(const std::string& text) const;
  void barrier() const;

 private:
  using HostBuffer = Kokkos::View<Real*, Kokkos::HostSpace>;
  void reduce(Real* data, size_t n) const;
  template <class Body>
  void on_host(const Exec& exec, Vec v, const Body& body);
  int rank_ = 0, size_ = 1;
  MPI_Comm comm_ = MPI_COMM_NULL;
  HostBuffer staging_, received_;
};

}  // namespace varion
