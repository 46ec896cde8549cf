// A trainer whose state is replaced goes on as one that was made with it.
#include "support/catch.hpp"
#include "support/config.hpp"
#include "support/vectors.hpp"
#include "train/network.hpp"

using namespace varion;

namespace {
struct Run {
  // Every slot has weights of its own, and the last step leaves those of the next.
  const Config config = config_of({{"data.name", "moons"}, {"model.sizes", "9"}, {"data.global_batch", "32"}, {"parallel.slots", "2"}, {"optim.ess", "1000"}});
  const DataSet data = load_data(config);
  Layout layout;
  Trainer trainer{layout, config, data, Exec()};
  void step(std::uint64_t k) { trainer.step(k, (k - 1) * 32, 0.1, false); }
  std::vector<std::vector<double>> state() {
    std::vector<std::vector<double>> out;
    for (const StateVector& s : trainer.optimizer().state()) out.push_back(host(s.data));
    return out;
  }
  void take_up(Run& from) {
    const auto own = trainer.optimizer().state(), other = from.trainer.optimizer().state();
    for (size_t k = 0; k < own.size(); ++k) Kokkos::deep_copy(own[k].data, other[k].data);
    trainer.state_replaced();
  }
};
}  // namespace

TEST_CASE("after a state was replaced, the next step's weights are drawn from it") {
  Run first, back, fresh;
  first.step(1);
  back.step(1);
  back.step(2);  // leaves the weights of step 3, from a state that is given up
  back.take_up(first);
  fresh.take_up(first);
  back.step(3);
  fresh.step(3);
  CHECK(back.state() == fresh.state());
}
