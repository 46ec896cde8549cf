// Optimizer traces of a folder named by VARION_TEST_GOLDEN, each state vector within 1e-5 relative.
#include <cstdlib>

#include "io/commit_file.hpp"
#include "optim/trace.hpp"
#include "support/catch.hpp"

using namespace varion;

TEST_CASE("golden traces replay within 1e-5") {
  const char* dir = std::getenv("VARION_TEST_GOLDEN");
  if (dir == nullptr) {
    WARN("[skipped] set VARION_TEST_GOLDEN to a folder of optimizer traces");
    return;
  }
  int traces = 0;
  for (const std::string& name : io::list_files(dir)) {
    if (name.size() < 5 || name.substr(name.size() - 5) != ".json") continue;
    ++traces;
    for (const auto& [state, error] : replay_trace(std::string(dir) + "/" + name)) {
      INFO(name << " " << state);
      CHECK(error <= 1e-5);
    }
  }
  CHECK(traces > 0);
}
