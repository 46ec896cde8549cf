// Host memory that the ranks of one node share: sums over them read every rank's vector in place, without messages.
#pragma once

#include <mpi.h>

#include <memory>
#include <string>
#include <vector>

#include "core/types.hpp"

namespace varion {

/// A vector and what keeps its memory.
struct KeptVec {
  Vec vec;
  std::shared_ptr<void> memory;
  operator const Vec&() const { return vec; }
};

/// The vectors that the ranks of a node can reach. Each is an anonymous file in memory (memfd) that every rank maps, so
/// that a process that is killed leaves nothing behind.
class NodeMemory {
 public:
  /// Takes the communicator of a node's ranks and tries whether they can reach each other's memory. Collective, as all
  /// below but `all`.
  explicit NodeMemory(MPI_Comm node);
  /// The same on all ranks.
  bool works() const { return works_; }
  int size() const { return size_; }
  int rank() const { return rank_; }

  /// Zeros of this rank, of which every rank of the node has as many; empty where the system refused some rank.
  KeptVec vector(const std::string& label, Index words);

  /// The ranks' vectors that go with this rank's one, by rank; nothing for a vector that is not shared.
  const std::vector<Real*>* all(const Real* own) const;

  /// What any rank wrote before it is seen by all after it.
  void barrier() const;

 private:
  struct Segment;
  std::shared_ptr<Segment> segment(size_t bytes) const;
  MPI_Comm node_;
  int rank_ = 0, size_ = 1;
  bool works_ = false;
  std::vector<std::weak_ptr<Segment>> segments_;
};

}  // namespace varion
