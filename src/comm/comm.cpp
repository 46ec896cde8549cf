#include "comm/comm.hpp"

#include <algorithm>
#include <limits>

#include "backends/backend.hpp"
#include "comm/mpi_check.hpp"
#include "comm/mpi_session.hpp"
#include "core/blocks.hpp"
#include "core/memory.hpp"

namespace varion {

namespace {
constexpr size_t kChunk = size_t(1) << 28;  // words a message: MPI counts in int
constexpr size_t kMostBytes = static_cast<size_t>(std::numeric_limits<int>::max());
constexpr Index kWhole = Index(1) << 19;     // words below which halving messages does not pay (two ranks, one node)
constexpr Index kPiece = 1024;               // numbers summed at a time, in the fastest cache

void exchange(MPI_Comm comm, int partner, const Real* out, Index out_count, Real* in, Index in_count) {
  const auto outgoing = static_cast<size_t>(out_count), incoming = static_cast<size_t>(in_count);
  for (size_t at = 0; at < std::max(outgoing, incoming); at += kChunk) {
    const size_t sent = at < outgoing ? std::min(kChunk, outgoing - at) : 0;
    const size_t taken = at < incoming ? std::min(kChunk, incoming - at) : 0;
    check_mpi(MPI_Sendrecv(out + (sent > 0 ? at : 0), static_cast<int>(sent), MPI_FLOAT, partner, 1, in + (taken > 0 ? at : 0),
                           static_cast<int>(taken), MPI_FLOAT, partner, 1, comm, MPI_STATUS_IGNORE),
              "exchange of halves");
  }
}
}  // namespace

/// body(i) for every number, in blocks, and waits for it.
template <class Space, class Body>
void for_all(const char* label, const Space& space, Index n, const Body& body) {
  constexpr Index block = kHostExec || !std::is_same_v<Space, Exec> ? 1024 : 1;
  Kokkos::parallel_for(
      label, Kokkos::RangePolicy<Space, Kokkos::IndexType<Index>>(space, 0, (n + block - 1) / block), KOKKOS_LAMBDA(const Index b) {
        const Index end = n < (b + 1) * block ? n : (b + 1) * block;
        VARION_IVDEP
        for (Index i = b * block; i < end; ++i) body(i);
      });
  space.fence();  // messages follow
}

/// A rank's share where the ranks are no power of two.
Stretch even_stretch(Index n, int rank, int size) {
  const Index blocks = (n + kStretchAlign - 1) / kStretchAlign;
  return {std::min(n, blocks * rank / size * kStretchAlign), std::min(n, blocks * (rank + 1) / size * kStretchAlign)};
}

size_t log2_of(int n) {
  size_t k = 0;
  while (n >>= 1) ++k;
  return k;
}

/// A stretch of a vector that a host's memory holds.
HostPart host_part(Real* vector, Stretch s) { return HostPart(vector + s.begin, static_cast<size_t>(s.size())); }

void copy_words(const Real* from, Index n, Real* to) {
  for_all("varion::comm::copy", Kokkos::DefaultHostExecutionSpace(), n, KOKKOS_LAMBDA(const Index i) { to[i] = from[i]; });
}

/// to += from. 12 bytes per element.
template <class Space>
void add_to(const Space& space, Index n, const Real* from, Real* to) {
  for_all("varion::comm::add", space, n, KOKKOS_LAMBDA(const Index i) { to[i] += from[i]; });
}

/// x *= factor. 8 bytes per element.
template <class Space>
void scale_by(const Space& space, Index n, Real factor, Real* x) {
  if (factor == 1) return;
  for_all("varion::comm::scale", space, n, KOKKOS_LAMBDA(const Index i) { x[i] *= factor; });
}

Comm Comm::world() {
  if (!MpiSession::is_running()) return {};
  static const Comm all = [] {
    Comm c;
    c.rank_ = MpiSession::rank();
    c.size_ = MpiSession::size();
    c.comm_ = MPI_COMM_WORLD;
    c.find_nodes(0);
    return c;
  }();
  return all;
}

Comm Comm::block(int ranks, int node_ranks) const {
  ensure(ranks > 0 && size_ % ranks == 0, "blocks of ", ranks, " of ", size_, " ranks");
  Comm c;
  if (ranks == 1) return c;
  check_mpi(MPI_Comm_split(comm_, rank_ / ranks, rank_, &c.comm_), "split");
  c.rank_ = rank_ % ranks;
  c.size_ = ranks;
  c.device_messages_ = device_messages_;
  c.find_nodes(node_ranks);
  return c;
}

/// Node-wise sums need nodes of as many consecutive ranks each: then the first levels of the tree stay within a node.
void Comm::find_nodes(int node_ranks) {
  char host[MPI_MAX_PROCESSOR_NAME] = "";
  int length = 0;
  MPI_Get_processor_name(host, &length);
  const std::vector<std::string> hosts = gather(std::string(host, static_cast<size_t>(length)));
  int together = 1;
  while (together < size_ && hosts[static_cast<size_t>(together)] == hosts[0]) ++together;
  if (node_ranks > 0) together = node_ranks;
  bool alike = is_tree() && size_ % together == 0 && together > 1;
  for (int r = 0; alike && r < size_; ++r) alike = hosts[static_cast<size_t>(r)] == hosts[static_cast<size_t>(r / together * together)];
  if (!alike) return;
  MPI_Comm node = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(comm_, rank_ / together, rank_, &node), "split");
  node_ = std::make_shared<NodeMemory>(node);
  if (any(node_->works() ? 0 : 1) != 0) node_ = nullptr;
}

KeptVec Comm::vector(const std::string& label, Index words) const {
  if (node_ != nullptr) {
    KeptVec shared = node_->vector(label, words);
    if (any(shared.vec.extent(0) > 0 ? 0 : 1) == 0) return shared;
  }
  return {long_vector(label, words), nullptr};
}

/// What a rank holds before every halving of a vector of n numbers, and after the last.
std::vector<Stretch> Comm::halvings(Index n, int rank) const {
  std::vector<Stretch> held{{0, n}};
  for (int mask = 1; mask < size_; mask <<= 1) {
    const Stretch s = held.back();
    const Index middle = std::min(s.end, s.begin + ((s.size() + 1) / 2 + kStretchAlign - 1) / kStretchAlign * kStretchAlign);
    held.push_back((rank & mask) == 0 ? Stretch{s.begin, middle} : Stretch{middle, s.end});
  }
  return held;
}

Stretch Comm::stretch_of(Index n, int rank) const {
  return is_tree() ? halvings(n, rank).back() : even_stretch(n, rank, size_);
}

/// Where MPI finds a vector: in place, or copied to the host for the time of a sum.
struct Comm::Place {
  Real* data;
  Real* room;  // for what is received
  bool on_device;
  const Exec& exec;
  void add(Index n, const Real* from, Real* to) const {
    if (on_device) add_to(exec, n, from, to);
    else add_to(Kokkos::DefaultHostExecutionSpace(), n, from, to);
  }
  void scale(Stretch s, Real factor) const {
    if (on_device) scale_by(exec, s.size(), factor, data + s.begin);
    else scale_by(Kokkos::DefaultHostExecutionSpace(), s.size(), factor, data + s.begin);
  }
};

/// With `part` of the vector in it and room for so many words.
Comm::Place Comm::place(const Exec& exec, const Vec& v, Stretch part, Index room) {
  exec.fence();  // MPI reads what kernels wrote
  const auto with_room = [](auto& buffer, Index words) {
    if (static_cast<Index>(buffer.extent(0)) < words)
      buffer = std::decay_t<decltype(buffer)>(Kokkos::view_alloc(Kokkos::WithoutInitializing, "varion::comm::buffer"), static_cast<size_t>(words));
    return buffer.data();
  };
  if (device_messages_) return {v.data(), with_room(received_there_, room), true, exec};
  Real* const received = with_room(received_, room);
  if (kHostExec) return {v.data(), received, false, exec};
  if (const Index words = static_cast<Index>(v.extent(0)); staged_ < words) {
    staging_.reset();  // never both at once
    staged_ = 0;
    staging_ = backend::host_words(static_cast<size_t>(words));
    staged_ = words;
  }
  Kokkos::deep_copy(exec, host_part(staging_.get(), part), slice(v, part.begin, part.size()));
  exec.fence();  // the copy is read
  return {staging_.get(), received, false, exec};
}

/// Part of the vector is now as it stands in its place. Queued: the next `place`, with the same exec, waits before it writes there.
void Comm::back(const Place& at, const Vec& v, Stretch part) {
  if (kHostExec || at.on_device) return;
  Kokkos::deep_copy(at.exec, slice(v, part.begin, part.size()), host_part(staging_.get(), part));
}

/// Halves are exchanged and added; both orders of a sum of two are the same bits. From the pairs of ranks `mask` apart on.
void Comm::scatter_levels(const Place& at, const std::vector<Stretch>& held, int mask) {
  for (size_t level = log2_of(mask); mask < size_; mask <<= 1, ++level) {
    const Stretch all = held[level], kept = held[level + 1];
    const Stretch given = kept.begin == all.begin ? Stretch{kept.end, all.end} : Stretch{all.begin, kept.begin};
    exchange(comm_, rank_ ^ mask, at.data + given.begin, given.size(), at.room, kept.size());
    at.add(kept.size(), at.room, at.data + kept.begin);
  }
}

/// Halves are given back, down to the pairs of ranks `last` apart.
void Comm::gather_levels(const Place& at, const std::vector<Stretch>& held, int last) {
  size_t level = log2_of(size_);
  for (int mask = size_ >> 1; mask >= last; mask >>= 1) {
    const Stretch own = held[level], all = held[--level];
    const Stretch other = own.begin == all.begin ? Stretch{own.end, all.end} : Stretch{all.begin, own.begin};
    exchange(comm_, rank_ ^ mask, at.data + own.begin, own.size(), at.data + other.begin, other.size());
  }
}

/// A block's tree sum over `count` ranks: the result stands in `out`.
void tree_block(Real* const* from, int count, Index base, int n, Real* out) {
  if (count == 2) {
    const Real *const a = from[0] + base, *const b = from[1] + base;
    VARION_IVDEP
    for (int i = 0; i < n; ++i) out[i] = a[i] + b[i];
    return;
  }
  Real upper[kPiece];
  tree_block(from, count / 2, base, n, out);
  tree_block(from + count / 2, count / 2, base, n, upper);
  VARION_IVDEP
  for (int i = 0; i < n; ++i) out[i] += upper[i];
}

/// This rank's part of the ranks' vectors, summed and multiplied, into its own or all of them. With R ranks it reads R words
/// per number and writes 1 or R.
void sum_on_node(const std::vector<Real*>& all, int rank, Stretch part, Real factor, bool to_all) {
  Real* const* const from = all.data();
  const int ranks = static_cast<int>(all.size());
  const Index blocks = (part.size() + kPiece - 1) / kPiece;
  using Host = Kokkos::DefaultHostExecutionSpace;
  Kokkos::parallel_for("varion::comm::node", Kokkos::RangePolicy<Host, Kokkos::IndexType<Index>>(0, blocks), [=](const Index block) {
    const Index base = part.begin + block * kPiece;
    const int n = static_cast<int>(std::min(kPiece, part.end - base));
    Real sum[kPiece];
    tree_block(from, ranks, base, n, sum);
    for (int r = to_all ? 0 : rank; r < (to_all ? ranks : rank + 1); ++r) {
      Real* const to = from[r] + base;
      VARION_IVDEP
      for (int i = 0; i < n; ++i) to[i] = factor * sum[i];
    }
  });
  Host().fence();
}

void Comm::reduce_scatter(const Exec& exec, const Vec& v, Real factor) {
  const Index n = static_cast<Index>(v.extent(0));
  ensure(is_tree(), "a tree over ", size_, " ranks");
  const std::vector<Stretch> held = halvings(n, rank_);
  const std::vector<Real*>* const node = node_ == nullptr ? nullptr : node_->all(v.data());
  const int within = node == nullptr ? 1 : node_->size();
  const Place at = place(exec, v, {0, n}, within < size_ ? held[log2_of(within)].size() / 2 + kStretchAlign : 0);
  if (node != nullptr) {
    node_->barrier();
    sum_on_node(*node, node_->rank(), held[log2_of(within)], within == size_ ? factor : 1, false);
    node_->barrier();
  }
  scatter_levels(at, held, within);
  if (node == nullptr || within < size_) at.scale(held.back(), factor);
  back(at, v, held.back());
}

void Comm::all_gather(const Exec& exec, const Vec& v) {
  if (size_ == 1) return;
  const Index n = static_cast<Index>(v.extent(0));
  if (!is_tree()) return gather_any(exec, v);
  const std::vector<Stretch> held = halvings(n, rank_);
  const std::vector<Real*>* const node = node_ == nullptr ? nullptr : node_->all(v.data());
  const int within = node == nullptr ? 1 : node_->size();
  const Place at = place(exec, v, held.back(), 0);
  gather_levels(at, held, within);
  if (node != nullptr) {
    const Stretch mine = held[log2_of(within)];
    node_->barrier();  // nobody still reads what was there
    for (int r = 0; r < within; ++r)
      if (r != node_->rank()) copy_words(v.data() + mine.begin, mine.size(), (*node)[static_cast<size_t>(r)] + mine.begin);
    node_->barrier();
  }
  back(at, v, {0, n});
}

/// Where every rank's stretch begins, and its length, as MPI counts. Errors (70): more numbers than that.
std::pair<std::vector<int>, std::vector<int>> Comm::stretches(Index n) const {
  require(n <= std::numeric_limits<int>::max(), Exit::internal, "MPI: ", n, " numbers are too many to gather from ", size_, " ranks");
  std::pair<std::vector<int>, std::vector<int>> out;
  for (int r = 0; r < size_; ++r) {
    const Stretch s = stretch_of(n, r);
    out.first.push_back(static_cast<int>(s.begin));
    out.second.push_back(static_cast<int>(s.size()));
  }
  return out;
}

/// Stretches of any number of ranks.
void Comm::gather_any(const Exec& exec, const Vec& v) {
  const Index n = static_cast<Index>(v.extent(0));
  const auto [begins, sizes] = stretches(n);
  const Place at = place(exec, v, own(n), 0);
  check_mpi(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_FLOAT, at.data, sizes.data(), begins.data(), MPI_FLOAT, comm_), "gather of stretches");
  back(at, v, {0, n});
}

std::vector<float> Comm::join(const std::vector<float>& own, Index n, bool everywhere) const {
  if (size_ == 1) return own;
  const auto [begins, sizes] = stretches(n);
  std::vector<float> all(everywhere || is_first() ? static_cast<size_t>(n) : 0);
  const int count = static_cast<int>(own.size());
  check_mpi(everywhere ? MPI_Allgatherv(own.data(), count, MPI_FLOAT, all.data(), sizes.data(), begins.data(), MPI_FLOAT, comm_)
                       : MPI_Gatherv(own.data(), count, MPI_FLOAT, all.data(), sizes.data(), begins.data(), MPI_FLOAT, 0, comm_),
            "gather of stretches");
  return all;
}

void Comm::tree_sum(const Exec& exec, const Vec& v, Real factor) {
  const Index n = static_cast<Index>(v.extent(0));
  if (n == 0) return;
  ensure(is_tree(), "a tree over ", size_, " ranks");
  const std::vector<Real*>* const node = node_ == nullptr ? nullptr : node_->all(v.data());
  if (node != nullptr && node_->size() == size_) {  // in one pass
    exec.fence();
    node_->barrier();
    sum_on_node(*node, rank_, own(n), factor, true);
    return node_->barrier();
  }
  if (node != nullptr || n > kWhole) {
    reduce_scatter(exec, v, factor);
    return all_gather(exec, v);
  }
  // Few numbers: all are exchanged and added at every level, which takes half as many messages.
  const Place at = place(exec, v, {0, n}, n);
  for (int mask = 1; mask < size_; mask <<= 1) {
    exchange(comm_, rank_ ^ mask, at.data, n, at.room, n);
    at.add(n, at.room, at.data);
  }
  at.scale({0, n}, factor);
  back(at, v, {0, n});
}

void Comm::sum(const Exec& exec, const Vec& v, Real factor) {
  const Stretch all{0, static_cast<Index>(v.extent(0))};
  const Place at = place(exec, v, all, 0);
  if (size_ > 1) reduce(at.data, v.extent(0));
  at.scale(all, factor);
  back(at, v, all);
}

void Comm::reduce(Real* data, size_t n) const {
  for (size_t at = 0; at < n; at += kChunk)
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, data + at, static_cast<int>(std::min(kChunk, n - at)), MPI_FLOAT, MPI_SUM, comm_), "sum");
}

void Comm::sum(std::vector<double>& values) const {
  if (size_ > 1)
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, values.data(), static_cast<int>(values.size()), MPI_DOUBLE, MPI_SUM, comm_), "sum");
}

void Comm::sum(std::vector<float>& values) const {
  if (size_ > 1) reduce(values.data(), values.size());
}

std::uint64_t Comm::any(std::uint64_t bits) const {
  if (size_ > 1) check_mpi(MPI_Allreduce(MPI_IN_PLACE, &bits, 1, MPI_UINT64_T, MPI_BOR, comm_), "status");
  return bits;
}

std::string Comm::from_first(std::string text) const {
  if (size_ == 1) return text;
  std::uint64_t size = text.size();
  check_mpi(MPI_Bcast(&size, 1, MPI_UINT64_T, 0, comm_), "broadcast");
  text.resize(size);
  for (size_t at = 0; at < size; at += kChunk)
    check_mpi(MPI_Bcast(&text[at], static_cast<int>(std::min(kChunk, static_cast<size_t>(size) - at)), MPI_CHAR, 0, comm_), "broadcast");
  return text;
}

void Comm::from_first(std::vector<float>& values) const {
  if (size_ == 1) return;
  std::uint64_t size = values.size();
  check_mpi(MPI_Bcast(&size, 1, MPI_UINT64_T, 0, comm_), "broadcast");
  values.resize(size);
  for (size_t at = 0; at < size; at += kChunk)
    check_mpi(MPI_Bcast(values.data() + at, static_cast<int>(std::min(kChunk, static_cast<size_t>(size) - at)), MPI_FLOAT, 0, comm_), "broadcast");
}

std::vector<std::string> Comm::gather(const std::string& text) const {
  std::vector<std::string> out(static_cast<size_t>(size_), text);
  if (size_ == 1) return out;
  std::vector<int> sizes(out.size()), at(out.size());
  const int own = static_cast<int>(text.size());
  check_mpi(MPI_Allgather(&own, 1, MPI_INT, sizes.data(), 1, MPI_INT, comm_), "gather");
  int total = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    at[i] = total;
    total += sizes[i];
  }
  std::string all(static_cast<size_t>(total), ' ');
  check_mpi(MPI_Allgatherv(text.data(), own, MPI_CHAR, &all[0], sizes.data(), at.data(), MPI_CHAR, comm_), "gather");
  for (size_t i = 0; i < out.size(); ++i) out[i] = all.substr(static_cast<size_t>(at[i]), static_cast<size_t>(sizes[i]));
  return out;
}

std::vector<std::string> Comm::swap_texts(const std::vector<std::string>& to) const {
  if (size_ == 1) return to;
  const auto ranks = static_cast<size_t>(size_);
  std::vector<int> sends(ranks), from(ranks), gets(ranks), at(ranks);
  std::string out;
  for (size_t r = 0; r < ranks; ++r) {
    from[r] = static_cast<int>(out.size());
    sends[r] = static_cast<int>(to[r].size());
    out += to[r];
    require(out.size() <= kMostBytes, Exit::internal, "MPI: ", out.size(), " bytes are too many to exchange");
  }
  check_mpi(MPI_Alltoall(sends.data(), 1, MPI_INT, gets.data(), 1, MPI_INT, comm_), "exchange");
  size_t total = 0;
  for (size_t r = 0; r < ranks; ++r) {
    at[r] = static_cast<int>(total);
    total += static_cast<size_t>(gets[r]);
    require(total <= kMostBytes, Exit::internal, "MPI: ", total, " bytes are too many to exchange");
  }
  std::string in(total, ' ');
  check_mpi(MPI_Alltoallv(out.data(), sends.data(), from.data(), MPI_CHAR, &in[0], gets.data(), at.data(), MPI_CHAR, comm_), "exchange");
  std::vector<std::string> texts;
  for (size_t r = 0; r < ranks; ++r) texts.push_back(in.substr(static_cast<size_t>(at[r]), static_cast<size_t>(gets[r])));
  return texts;
}

void Comm::barrier() const {
  if (size_ > 1) check_mpi(MPI_Barrier(comm_), "barrier");
}

}  // namespace varion
