// Named regions for profilers (Kokkos Tools): varion/<name>.
#pragma once

#include <Kokkos_Core.hpp>
#include <string>

namespace varion {

/// Pushes a profiling region for the life of the object.
class Region {
 public:
  explicit Region(const char* name) { Kokkos::Profiling::pushRegion(std::string("varion/") + name); }
  ~Region() { Kokkos::Profiling::popRegion(); }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
};

}  // namespace varion
