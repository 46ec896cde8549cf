#include "core/memory.hpp"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace varion {

Vec long_vector(const std::string& label, Index words) {
  const Vec v(Kokkos::view_alloc(Kokkos::WithoutInitializing, label), static_cast<size_t>(words));
#ifdef __linux__
  if constexpr (kHostExec) {
    constexpr std::uintptr_t page = std::uintptr_t(1) << 21;
    const auto begin = (reinterpret_cast<std::uintptr_t>(v.data()) + page - 1) / page * page;
    const auto end = (reinterpret_cast<std::uintptr_t>(v.data()) + static_cast<std::uintptr_t>(words) * sizeof(Real)) / page * page;
    if (end > begin) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // a wish: may be refused
  }
#endif
  Kokkos::deep_copy(v, Real(0));
  return v;
}

}  // namespace varion
