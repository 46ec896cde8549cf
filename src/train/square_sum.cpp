#include "train/square_sum.hpp"

#include <algorithm>
#include <vector>

namespace varion {

/// sum = the parts, one after another on a host, by a team's threads on a GPU.
void add_parts(const Exec& exec, Kokkos::View<const double*, Memory> parts, Kokkos::View<double, Memory> sum) {
  const Index n = static_cast<Index>(parts.extent(0));
  Kokkos::parallel_for(
      "varion::train::norm", Team(exec, 1, kHostExec ? 1 : 256), KOKKOS_LAMBDA(const Member& team) {
        double total = 0;
        Kokkos::parallel_reduce(
            Kokkos::TeamThreadRange(team, n), [&](const Index i, double& t) { t += parts(i); }, total);
        Kokkos::single(Kokkos::PerTeam(team), [&] { sum() = total; });
      });
}

void square_chunks_host(const Real* x, Index begin, Index end, double* parts) {
  using Host = Kokkos::DefaultHostExecutionSpace;
  Kokkos::parallel_for(
      "varion::train::squares",
      Kokkos::RangePolicy<Host, Kokkos::IndexType<Index>>(begin / kStretchAlign, (end + kStretchAlign - 1) / kStretchAlign), [=](const Index chunk) {
        constexpr int lanes = 16;
        const Index hi = std::min(end, (chunk + 1) * kStretchAlign);
        double part[lanes] = {};
        Index i = chunk * kStretchAlign;
        for (; i + lanes <= hi; i += lanes)
          for (int k = 0; k < lanes; ++k) part[k] += double(x[i + k]) * double(x[i + k]);
        for (int k = 0; i < hi; ++i, ++k) part[k] += double(x[i]) * double(x[i]);
        double sum = 0;
        for (const double p : part) sum += p;
        parts[chunk] = sum;
      });
}

void square_chunks_team(const Exec& exec, ConstVec v, Index begin, Index end, Kokkos::View<double*, Memory> parts) {
  const Index first = begin / kStretchAlign;
  Kokkos::parallel_for(
      "varion::train::squares", Team(exec, static_cast<int>((end + kStretchAlign - 1) / kStretchAlign - first), kHostExec ? 1 : 128),
      KOKKOS_LAMBDA(const Member& team) {
        const Index chunk = first + team.league_rank(), lo = chunk * kStretchAlign;
        const Index hi = lo + kStretchAlign < end ? lo + kStretchAlign : end;
        double sum = 0;
        Kokkos::parallel_reduce(
            Kokkos::TeamThreadRange(team, hi - lo), [&](const Index i, double& s) { s += double(v(lo + i)) * double(v(lo + i)); }, sum);
        Kokkos::single(Kokkos::PerTeam(team), [&] { parts(chunk) = sum; });
      });
}

void SquareSum::take(const Exec& exec, ConstVec v, Index begin, Index end) {
  const auto chunks = static_cast<size_t>((static_cast<Index>(v.extent(0)) + kStretchAlign - 1) / kStretchAlign);
  if (parts_.extent(0) != chunks) parts_ = Kokkos::View<double*, Memory>("varion::train::square_parts", chunks);
  else if (begin > 0 || end < static_cast<Index>(v.extent(0))) Kokkos::deep_copy(exec, parts_, 0.0);
  if (end > begin) {
    if (kHostExec) square_chunks_host(v.data(), begin, end, parts_.data());
    else square_chunks_team(exec, v, begin, end, parts_);
  }
  add_parts(exec, parts_, value_);
}

double SquareSum::over_ranks(const Exec& exec, const Comm& comm) const {
  std::vector<double> parts(parts_.extent(0));
  if (parts.empty()) return 0;
  Kokkos::deep_copy(exec, Kokkos::View<double*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(parts.data(), parts.size()), parts_);
  exec.fence();  // read here
  comm.sum(parts);
  double sum = 0;
  for (const double p : parts) sum += p;
  return sum;
}

}  // namespace varion
