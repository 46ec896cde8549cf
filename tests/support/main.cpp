// The tests' main: Kokkos around a Catch2 session.
#define CATCH_CONFIG_RUNNER
#include "support/catch.hpp"

#include <Kokkos_Core.hpp>

int main(int argc, char** argv) {
  const Kokkos::ScopeGuard guard;
  return Catch::Session().run(argc, argv);
}
