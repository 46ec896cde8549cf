// After the first steps training allocates nothing on the device: counted by Kokkos' own profiling hooks.
#include <Kokkos_Core.hpp>

#include <mutex>

#include "support/catch.hpp"
#include "support/config.hpp"
#include "train/network.hpp"

using namespace varion;

namespace {
long allocated = 0;
std::string last;
std::mutex counting;  // Kokkos' threads make room for teams each for itself
void count(Kokkos::Profiling::SpaceHandle, const char* label, const void*, std::uint64_t) {
  const std::lock_guard<std::mutex> one(counting);
  ++allocated;
  last = label;
}
}  // namespace

TEST_CASE("training allocates nothing after its first step") {
  for (const std::string what : {"mlp", "lenet", "resnet20", "gpt2", "encoder", "encoder classify", "vit"})
    for (const std::string optimizer : {"ivon", "von", "adamw", "sgd"}) {
      const std::string model = what.substr(0, what.find(' '));
      const bool classifies = what == "encoder classify", text = model == "gpt2" || model == "encoder";
      Config c = config_of({{"model.name", model}, {"optim.name", optimizer}, {"data.name", classifies ? "slips" : text ? "sentences" : "glyphs"},
                            {"data.train_size", "20"}, {"data.test_size", "4"}, {"data.global_batch", "8"},
                            {"optim.grad_clip", "0.01"}});
      for (const auto& [key, value] : Models::of().find(model).small) c.set(key, value, "test");
      if (classifies) c.set("model.task", "classify", "test");
      const DataSet data = load_data(c);
      if (c.has("optim.ess")) c.set("optim.ess", "20", "test");
      Layout layout;
      const Exec exec;
      allocated = 0;
      Kokkos::Tools::Experimental::set_allocate_data_callback(count);
      Trainer trainer(layout, c, data, exec);
      CHECK(allocated > 5);  // the hook counts
      trainer.step(1, 0, 0.1, true);
      trainer.news();
      allocated = 0;
      for (std::uint64_t step = 2; step < 6; ++step) {
        trainer.step(step, step * 8, 0.1, true);
        trainer.news();
      }
      Kokkos::Tools::Experimental::set_allocate_data_callback(nullptr);
      INFO(what << " with " << optimizer << ": " << last);
      CHECK(allocated == 0);
    }
}
