#include "ops/gradient_check.hpp"

#include "ops/ops.hpp"
#include "support/catch.hpp"

using namespace varion;

TEST_CASE("every registered op's gradient is its finite difference") {
  for (const GradientResult& r : check_op_gradients()) {
    INFO(r.name << " " << r.label << ": error " << r.error << " of " << r.tolerance);
    CHECK(r.ok);
  }
  for (const auto& [name, op] : Ops::of().all()) {
    INFO(name);
    CHECK(!op.cases.empty());
  }
}

TEST_CASE("a gradient that is 5 % off is found in every case") {
  for (const GradientResult& r : check_op_gradients(1.05)) {
    INFO(r.name << " " << r.label << ": error " << r.error);
    CHECK(!r.ok);
  }
}
