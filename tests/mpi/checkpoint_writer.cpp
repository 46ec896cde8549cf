// Files written by all ranks are those that the first rank writes, byte for byte (4 ranks; the test is started by mpirun).
#include "train/checkpoint_writer.hpp"

#include <filesystem>

#include "core/error.hpp"
#include "io/commit_file.hpp"
#include "io/input_file.hpp"
#include "support/catch.hpp"
#include "support/config.hpp"
#include "train/checkpoint.hpp"
#include "train/network.hpp"

using namespace varion;

namespace {
struct Job {
  Comm comm;
  Config config;
  DataSet data;
  Layout layout;
  Exec exec;
  std::unique_ptr<Trainer> trainer;
  explicit Job(const Comm& ranks, bool sharded) : comm(ranks) {
    // 27 MB of state: several segments, of which every rank holds some.
    config = config_of({{"data.name", "moons"}, {"model.sizes", "1500,1500"}, {"data.global_batch", "4"}, {"optim.ess", "1000"},
                        {"parallel.noise", "shared"}});
    config.set("parallel.shard_posterior", sharded ? "true" : "false", "test");
    config.set("parallel.slots", std::to_string(comm.size()), "test");
    config.resolve();
    data = load_data(config);
    trainer = std::make_unique<Trainer>(layout, config, data, exec, comm);
    for (std::uint64_t k = 1; k <= 2; ++k) trainer->step(k, (k - 1) * 4, 0.01, false);
    exec.fence();
  }
  FileOrder order(const std::string& dir, const std::string& name) {
    RunPosition at;
    at.step = 2;
    FileOrder o{dir, name, to_file(layout, trainer->optimizer(), config, data, at, ""), 2, 8, 0, true, [] {}, [] {}};
    o.file.root = {{"kind", "checkpoint"}, {"uuid", "one and the same"}};
    o.file.model["config_ini"] = "";
    return o;
  }
  /// The file's bytes, on the first rank.
  std::string written(const std::string& dir, bool parallel) {
    CheckpointWriter writer(trainer->optimizer(), exec, comm, parallel);
    const std::string name = parallel ? "all.h5" : "first.h5";
    writer.begin(order(dir, name));
    writer.finish();
    return comm.is_first() ? io::read_file(dir + "/" + name, 1 << 28) : "";
  }
};
}  // namespace

TEST_CASE("all ranks write the file of the first one") {
  Comm world = Comm::world();
  for (const int ranks : {1, 2, 4}) {
    if (ranks > world.size()) continue;
    const Comm comm = world.block(ranks);
    std::vector<std::string> all;
    const std::string dir = text("writer-test/", ranks, "-", world.rank() / ranks);
    if (comm.is_first()) io::make_folder(dir);
    comm.barrier();
    for (const bool sharded : {false, true}) {
      Job job(comm, sharded);
      for (const bool parallel : {false, true}) all.push_back(job.written(dir, parallel));
    }
    INFO(ranks << " ranks, rank " << world.rank());
    if (!comm.is_first()) continue;
    CHECK(all[0].size() > 27000000);
    for (const std::string& bytes : all) CHECK(bytes == all[0]);
    const io::PosteriorFile f = io::decode_posterior(all[3], "test");
    CHECK(f.step == 2);
    CHECK(io::list_files(dir) == std::vector<std::string>{"all.h5", "first.h5"});
  }
}

TEST_CASE("ranks with different states write nothing, and one that cannot write ends all alike") {
  Comm comm = Comm::world();
  const std::string dir = "writer-faults-test";
  if (comm.is_first()) {
    std::filesystem::remove_all(dir);
    io::make_folder(dir);
  }
  comm.barrier();
  Job job(comm, false);
  const auto code_of = [&](bool parallel) {
    CheckpointWriter writer(job.trainer->optimizer(), job.exec, comm, parallel);
    try {
      writer.begin(job.order(dir, "x.h5"));
      writer.finish();
    } catch (const Error& e) {
      return e.code();
    }
    return Exit::ok;
  };
  const Vec mean = job.trainer->optimizer().mean();
  if (comm.rank() == 1) Kokkos::deep_copy(slice(mean, 5, 1), Real(1e-9));
  for (const bool parallel : {false, true})
    if (comm.size() > 1) CHECK(code_of(parallel) == Exit::internal);
  // Not finite, on the last rank's stretch.
  const Index last = comm.stretch_of(job.layout.size(), comm.size() - 1).begin;
  Kokkos::deep_copy(slice(mean, 5, 1), Real(1e-9));
  Kokkos::deep_copy(slice(mean, last, 1), std::numeric_limits<Real>::infinity());
  if (comm.size() > 1) CHECK(code_of(true) == Exit::diverged);
  comm.barrier();
  if (comm.is_first()) CHECK(io::list_files(dir).empty());
}
