#include "core/memory.hpp"

#include "core/blocks.hpp"
#include "core/huge_pages.hpp"

namespace varion {

void fill(const Exec& exec, const Vec& v, Real value) {
  for_streams("varion::memory::fill", exec, 0, static_cast<Index>(v.extent(0)), reads(), updates(), writes(v),
              KOKKOS_LAMBDA(const Streams<0, 0, 1>& s, int lo, int hi) {
                Real* const to = s.write[0];
                VARION_IVDEP
                for (int i = lo; i < hi; ++i) to[i] = value;
              });
}

Vec long_vector(const std::string& label, Index words) {
  const Vec v(Kokkos::view_alloc(Kokkos::WithoutInitializing, label), static_cast<size_t>(words));
  if constexpr (kHostExec) wish_huge_pages(v.data(), static_cast<size_t>(words) * sizeof(Real));
  Kokkos::deep_copy(v, Real(0));
  return v;
}

}  // namespace varion
