// The ranks of a run and what they tell each other. Everything here is collective unless it says otherwise.
#pragma once

#include <mpi.h>

#include <memory>
#include <string>
#include <vector>

#include "comm/node_memory.hpp"
#include "core/types.hpp"

namespace varion {

/// Stretches of vectors that ranks share out begin at a multiple of it: no block of any kernel is divided.
inline constexpr Index kStretchAlign = 4096;

/// The numbers [begin, end) of a flat vector.
struct Stretch {
  Index begin, end;
  Index size() const { return end - begin; }
};

class Comm {
 public:
  /// One rank.
  Comm() = default;
  /// All ranks of the session; one where there is none.
  static Comm world();

  /// The group of `ranks` consecutive ranks that this one is in. Its communicator lives as long as MPI does. `node_ranks`:
  /// how many of them share memory; 0: those of one host.
  Comm block(int ranks, int node_ranks = 0) const;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool is_first() const { return rank_ == 0; }

  /// Whether MPI takes device memory itself; else such vectors are copied through the host. Without effect on hosts.
  void use_device_memory(bool on) { device_messages_ = on && !kHostExec; }

  /// A vector of zeros. Sums of one made here are taken in place where ranks share a node's memory.
  KeptVec vector(const std::string& label, Index words) const;

  /// Which numbers of a vector of n are this rank's: the stretches of all ranks cover it, each begins at a multiple of
  /// kStretchAlign, so that a short vector is one rank's alone.
  Stretch own(Index n) const { return stretch_of(n, rank_); }
  Stretch stretch_of(Index n, int rank) const;
  /// This rank's stretch of v = factor times the sum over ranks, added pairwise: (0 + 1) + (2 + 3) ..., so that the bits are
  /// those of that tree on one rank. The rest of v is left undefined. |v| (size - 1) / size words each way.
  /// Errors (70): the number of ranks is no power of two.
  void reduce_scatter(const Exec& exec, const Vec& v, Real factor);
  /// Every rank's stretch to every rank.
  void all_gather(const Exec& exec, const Vec& v);
  /// v = factor times the sum over ranks, with the bits of `reduce_scatter`.
  void tree_sum(const Exec& exec, const Vec& v, Real factor = 1);
  /// The same in whatever order MPI takes (MPI_Allreduce), for any number of ranks.
  void sum(const Exec& exec, const Vec& v, Real factor = 1);

  /// Small things, on the host.
  void sum(std::vector<double>& values) const;
  void sum(std::vector<float>& values) const;
  /// A vector of n numbers on the host, of which every rank has its stretch: on the first rank, or on all; empty elsewhere.
  std::vector<float> join(const std::vector<float>& own, Index n, bool everywhere) const;
  /// The bits that any rank has set.
  std::uint64_t any(std::uint64_t bits) const;
  /// The first rank's text, everywhere, or numbers.
  std::string from_first(std::string text) const;
  void from_first(std::vector<float>& values) const;
  /// Everybody's text, everywhere, by rank.
  std::vector<std::string> gather(const std::string& text) const;
  /// One text for every rank, by rank; returns theirs for this one. Errors (70): more than 2 GiB.
  std::vector<std::string> swap_texts(const std::vector<std::string>& to) const;
  void barrier() const;

 private:
  using HostBuffer = Kokkos::View<Real*, Kokkos::HostSpace>;
  struct Place;
  Place place(const Exec& exec, const Vec& v, Stretch part, Index room);
  void back(const Place& at, const Vec& v, Stretch part);
  bool is_tree() const { return (size_ & (size_ - 1)) == 0; }
  void reduce(Real* data, size_t n) const;
  std::vector<Stretch> halvings(Index n, int rank) const;
  void find_nodes(int node_ranks);
  void scatter_levels(const Place& at, const std::vector<Stretch>& held, int mask);
  void gather_levels(const Place& at, const std::vector<Stretch>& held, int last);
  std::pair<std::vector<int>, std::vector<int>> stretches(Index n) const;
  void gather_any(const Exec& exec, const Vec& v);
  int rank_ = 0, size_ = 1;
  MPI_Comm comm_ = MPI_COMM_NULL;
  std::shared_ptr<NodeMemory> node_;  // ranks beside this one, 2^k, aligned; none: messages only
  bool device_messages_ = false;
  std::shared_ptr<Real> staging_;  // of staged_ words, between a device and MPI
  Index staged_ = 0;
  HostBuffer received_;
  Vec received_there_;  // on the device
};

}  // namespace varion
