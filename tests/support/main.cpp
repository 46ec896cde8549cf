// The tests' main: Kokkos around a Catch2 session. Without a device a test is skipped, which ctest is told.
#define CATCH_CONFIG_RUNNER
#include "support/catch.hpp"

#include <Kokkos_Core.hpp>
#include <cstdio>

#include "backends/backend.hpp"
#include "comm/mpi_session.hpp"
#include "io/posterior_file.hpp"

int main(int argc, char** argv) {
  const std::string missing = varion::backend::missing_device();
  if (!missing.empty()) {
    std::printf("[skipped] %s\n", missing.c_str());
    return 69;
  }
  varion::io::open_hdf5();
  const varion::MpiSession session;  // where mpirun started the tests
  const Kokkos::ScopeGuard guard;
  const int code = Catch::Session().run(argc, argv);
  varion::MpiSession::may_end();
  return code;
}
