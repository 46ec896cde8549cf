// Recording queued work: a host says that it cannot, a GPU launches again what it recorded.
#include "backends/capture.hpp"

#include "backends/backend.hpp"
#include "core/error.hpp"
#include "core/random.hpp"
#include "ops/ops.hpp"
#include "support/catch.hpp"
#include "support/config.hpp"
#include "train/network.hpp"

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
  CHECK_FALSE((kHostExec && backend::Capture::supported()));
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

TEST_CASE("steps launched as one piece have the bits of steps queued kernel by kernel") {
  using Settings = std::vector<std::pair<std::string, std::string>>;
  std::vector<Settings> models{{{"data.name", "moons"}, {"model.sizes", "33,17"}},
                               {{"data.name", "glyphs"}, {"model.name", "lenet"}, {"data.train_size", "40"}, {"data.test_size", "4"}, {"data.global_batch", "8"}}};
  Settings text{{"data.name", "sentences"}, {"data.length", "24"}, {"data.global_batch", "8"}, {"model.name", "gpt2"},
                {"model.layers", "2"},      {"model.heads", "2"},  {"model.width", "32"}};
  models.push_back(text);
  text.push_back({"model.dropout", "0.2"});  // masks differ from step to step
  models.push_back(text);
  if (backend::rounds_factors()) {
    text.push_back({"train.precision", "bf16"});
    models.push_back(text);
  }
  for (const Settings& model : models) {
    std::vector<std::vector<float>> means;
    for (const std::string how : {"auto", "never"}) {
      Settings all = model;
      all.insert(all.end(), {{"train.capture", how}, {"optim.ess", "1000"}});
      const Config config = config_of(all);
      const DataSet data = load_data(config);
      Layout layout;
      Trainer trainer(layout, config, data, backend::separate_exec());
      for (std::uint64_t step = 1; step <= 7; ++step) {
        trainer.step(step, (step - 1) * static_cast<std::uint64_t>(trainer.batch()), 0.1, false);
        CHECK(trainer.is_recorded() == (backend::Capture::supported() && how == "auto" && step > 1));
        CHECK(trainer.news().loss > 0);  // waits, after which Kokkos begins its places for arguments anew
      }
      const auto mean = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), trainer.optimizer().mean());
      means.emplace_back(mean.data(), mean.data() + mean.extent(0));
    }
    CHECK(means[0] == means[1]);
  }
  backend::use_precision("fp32", "test");
}

TEST_CASE("a graph says whether its nodes draw") {
  for (const Real rate : {Real(0), Real(0.5)}) {
    Layout layout;
    Graph g(layout);
    const Node x = g.input({2, 3});
    dropout(g, x, rate);
    CHECK((g.drawing_nodes() > 0) == (rate > 0));
  }
}
