#include "train/host_copy.hpp"

namespace varion {

std::vector<float> to_host(const Vec& v) {
  std::vector<float> into(v.extent(0));
  Kokkos::deep_copy(Kokkos::View<float*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(into.data(), into.size()), v);
  return into;
}

std::vector<float> whole(const Vec& v, const Optimizer& optimizer, const Comm& comm, bool everywhere) {
  if (optimizer.own_size() == optimizer.size()) return to_host(v);
  return comm.join(to_host(v), optimizer.size(), everywhere);
}

}  // namespace varion
