// Sums over ranks, where mpirun started several: the fixed tree beside MPI's own.
#include "bench/bench.hpp"
#include "comm/comm.hpp"

namespace varion {

void run_comm(Bench& bench) {
  Comm comm = Comm::world();
  if (comm.size() == 1) return;
  const Exec exec;
  for (const Index full : {Index(272474), Index(1863690), Index(10000000), Index(124000000)}) {
    const Index n = bench.size(full, full / 1000);
    const Work work{4 * static_cast<double>(n), 0, static_cast<double>(n), "parameter", 0};
    const std::string tree = text("allreduce/tree/", n), own = text("allreduce/mpi/", n);
    if (!bench.wants(tree) && !bench.wants(own)) continue;
    const KeptVec v = comm.vector("varion::bench::sum", n);  // as a gradient; zeros stay what they are
    bench.measure(tree, work, [&] { comm.tree_sum(exec, v); });
    bench.measure(own, work, [&] { comm.sum(exec, v); });
  }
}

namespace {
const bool registered_comm = BenchCases::of().add("comm", {"sums of a gradient over ranks", 1, run_comm});
}  // namespace

}  // namespace varion
