// Recording queued work: a host says that it cannot, a GPU launches again what it recorded.
#include "backends/capture.hpp"

#include "core/error.hpp"
#include "core/random.hpp"
#include "support/catch.hpp"

using namespace varion;

void add_one(const Exec& exec, Vec v) {
  Kokkos::parallel_for(
      "varion::test::add_one", Range(exec, 0, static_cast<Index>(v.extent(0))), KOKKOS_LAMBDA(const Index i) { v(i) += 1; });
}

TEST_CASE("work is recorded where the back end can") {
  const Exec exec = backend::separate_exec();
  const Vec v("varion::test::v", 1000);
  const auto first = [&] {
    Real out = -1;
    exec.fence();  // the host reads it
    Kokkos::deep_copy(Kokkos::View<Real, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(&out), Kokkos::subview(v, 0));
    return out;
  };
  backend::Capture capture;
  CHECK_FALSE(capture.ready());
  CHECK(backend::Capture::supported() == !kHostExec);
  CHECK_THROWS_AS(capture.launch(exec), Error);
  CHECK_THROWS_AS(capture.end(), Error);
  if (!backend::Capture::supported()) {
    CHECK_THROWS_AS(capture.begin(exec), Error);
    return;
  }
  add_one(exec, v);  // once before: Kokkos allocates at the first launch
  CHECK(first() == 1);
  for (int again = 0; again < 2; ++again) {
    capture.begin(exec);
    add_one(exec, v);
    add_one(exec, v);
    capture.end();
    CHECK(capture.ready());
    const Real before = first();  // recording does not run
    CHECK(before == Real(1 + 6 * again));
    for (int i = 0; i < 3; ++i) capture.launch(exec);
    CHECK(first() == before + 6);
  }
}
