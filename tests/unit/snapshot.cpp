// The state is copied while a step runs: the step asks before it changes anything, whatever its way to the update.
#include "train/snapshot.hpp"

#include <cstring>
#include <thread>

#include "support/catch.hpp"
#include "support/config.hpp"
#include "train/network.hpp"
#include "train/state_hash.hpp"

using namespace varion;

namespace {
using Numbers = std::vector<std::vector<float>>;

Numbers state_of(const Optimizer& o) {
  Numbers out;
  for (const StateVector& s : o.state()) {
    const auto h = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), s.data);
    out.emplace_back(h.data(), h.data() + h.extent(0));
  }
  return out;
}

Numbers copy_of(const Snapshot& s) {
  Numbers out;
  for (const io::Stretch& v : s.vectors()) out.emplace_back(v.data, v.data + v.count);
  return out;
}
}  // namespace

TEST_CASE("a copy begun before a step is of the state before it") {
  const std::vector<std::pair<std::string, std::string>> ways[] = {
      {{"optim.name", "ivon"}},
      {{"optim.name", "ivon"}, {"optim.mc_samples", "2"}},
      {{"optim.name", "ivon"}, {"parallel.slots", "2"}},
      {{"optim.name", "ivon"}, {"parallel.slots", "2"}, {"parallel.noise", "shared"}},
      {{"optim.name", "adamw"}},
      {{"optim.name", "sgd"}, {"parallel.slots", "2"}}};
  for (const auto& way : ways)
    for (const bool judged : {false, true}) {
      Config config = config_of({{"data.name", "moons"}, {"model.sizes", "9"}, {"data.global_batch", "32"}, {"optim.lr", "0.01"}});
      for (const auto& [key, value] : way) config.set(key, value, "test");
      config.resolve();
      if (config.has("optim.ess")) config.set("optim.ess", "1000", "test");
      const DataSet data = load_data(config);
      Layout layout;
      const Exec exec;
      Trainer trainer(layout, config, data, exec);
      const Optimizer& optimizer = trainer.optimizer();
      const auto step = [&](std::uint64_t k) {
        trainer.step(k, (k - 1) * 32, 0.01, false, judged ? std::function<bool()>([] { return true; }) : std::function<bool()>());
      };
      step(1);
      Snapshot snapshot;
      int asked = 0;
      trainer.before_update = [&] {
        snapshot.wait();  // nobody has begun to copy before
        ++asked;
      };
      const Numbers before = state_of(optimizer);
      const std::string hash = state_hash(exec, optimizer, 1, 32, 0, Comm());
      snapshot.take(exec, optimizer, {0, optimizer.size()});
      step(2);
      INFO(way.back().first << " = " << way.back().second << (judged ? ", judged" : ""));
      CHECK(asked == 1);
      CHECK(copy_of(snapshot) == before);
      CHECK(state_of(optimizer) != before);
      CHECK(state_hash(snapshot.sum(), optimizer, 1, 32, 0, Comm()) == hash);
    }
}

TEST_CASE("several threads make one copy, of a stretch or of nothing, with the hash of all") {
  Config config = config_of({{"optim.ess", "1000"}});
  Layout layout;
  layout.add("weight", {997, 301}, {Init::Kind::uniform, Real(0.05)});
  layout.finish();
  const auto optimizer = Optimizers::of().find("ivon").make(layout, config);
  const Exec exec;
  layout.initialise(exec, 1, optimizer->mean());
  optimizer->start(exec);
  const Numbers all = state_of(*optimizer);
  const std::uint64_t sum = state_sum(exec, *optimizer);
  Snapshot snapshot;
  for (const Stretch part : {Stretch{0, 997 * 301}, {0, 0}, {65536, 200001}, {7, 65537}, {0, 997 * 301}}) {
    snapshot.take(exec, *optimizer, part);
    std::thread helper([&] { snapshot.work(); });
    snapshot.wait();
    helper.join();
    CHECK(snapshot.sum() == sum);
    const Numbers copy = copy_of(snapshot);
    for (size_t k = 0; k < all.size(); ++k)
      CHECK(copy[k] == std::vector<float>(all[k].begin() + part.begin, all[k].begin() + part.end));
  }
}
