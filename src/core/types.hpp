// The types every folder uses: element types, execution space, flat vectors, shapes.
#pragma once

#include <Kokkos_Core.hpp>
#include <array>
#include <cstdint>
#include <string>

namespace varion {

using Real = float;
using Index = std::int64_t;

using Exec = Kokkos::DefaultExecutionSpace;
using Memory = Exec::memory_space;

// Flat device vectors. Kernels take these and plain sizes; nothing in the program owns a
// multi-dimensional View, so that one vector can serve as parameter, gradient, file and message.
using Vec = Kokkos::View<Real*, Memory>;
using ConstVec = Kokkos::View<const Real*, Memory>;
using IntVec = Kokkos::View<std::int32_t*, Memory>;
using ConstIntVec = Kokkos::View<const std::int32_t*, Memory>;
using HostVec = Vec::HostMirror;
using HostPart = Kokkos::View<Real*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>;  // of memory that something else holds

using Range = Kokkos::RangePolicy<Exec, Kokkos::IndexType<Index>>;
using Team = Kokkos::TeamPolicy<Exec, Kokkos::IndexType<Index>>;
using Member = Team::member_type;

/// True where kernels run on the host, so that work per item should be a vector's worth.
inline constexpr bool kHostExec =
    Kokkos::SpaceAccessibility<Kokkos::HostSpace, Memory>::accessible &&
    std::is_same_v<Memory, Kokkos::HostSpace>;

/// `[begin, begin + count)` of `v`, without ownership.
template <class V>
inline V slice(const V& v, Index begin, Index count) {
  return V(v, Kokkos::make_pair(static_cast<size_t>(begin), static_cast<size_t>(begin + count)));
}

/// Up to four extents, C order. Images are [N, H, W, C]; convolution weights [out, in, kh, kw].
struct Shape {
  std::array<Index, 4> dims{1, 1, 1, 1};
  int rank = 0;

  Shape() = default;
  Shape(std::initializer_list<Index> extents) {
    for (const Index e : extents) dims[static_cast<size_t>(rank++)] = e;
  }
  Index operator[](int axis) const { return dims[static_cast<size_t>(axis)]; }
  Index size() const { return rank == 0 ? 0 : dims[0] * dims[1] * dims[2] * dims[3]; }
  /// Elements of one example: the size without the leading (batch) extent.
  Index stride0() const { return dims[1] * dims[2] * dims[3]; }
  bool operator==(const Shape& o) const { return rank == o.rank && dims == o.dims; }
  bool operator!=(const Shape& o) const { return !(*this == o); }
  std::string text() const {
    std::string s = "[";
    for (int i = 0; i < rank; ++i) s += (i ? ", " : "") + std::to_string((*this)[i]);
    return s + "]";
  }
};

}  // namespace varion
