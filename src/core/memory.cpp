#include "core/memory.hpp"

#include "core/blocks.hpp"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace varion {

void wish_huge_pages(void* data, size_t bytes) {
#ifdef __linux__
  constexpr std::uintptr_t page = std::uintptr_t(1) << 21;
  const auto begin = (reinterpret_cast<std::uintptr_t>(data) + page - 1) / page * page;
  const auto end = (reinterpret_cast<std::uintptr_t>(data) + bytes) / page * page;
  if (end > begin) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // may be refused
#else
  static_cast<void>(data), static_cast<void>(bytes);
#endif
}

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
