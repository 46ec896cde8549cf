// Whole training steps on made-up data: gather, forward, backward, optimizer. The models say which (models/*.cpp).
#include "backends/backend.hpp"
#include "backends/capture.hpp"
#include "bench/bench.hpp"
#include "core/random.hpp"
#include "train/network.hpp"

namespace varion {

/// Tokens drawn by counter.
class MadeUpTokens : public TokenStream {
 public:
  MadeUpTokens(Index size, Index vocabulary) : size_(size), vocabulary_(vocabulary) {}
  Index size() const override { return size_; }
  void read(Index first, Index count, std::int32_t* to) const override {
    const RandomKey key = RandomKey::make(1, Stream::test, 6);
    for (Index i = 0; i < count; ++i) to[i] = static_cast<std::int32_t>(below(key.words(first + i).w[0], static_cast<std::uint32_t>(vocabulary_)));
  }
  std::uint64_t digest() const override { return 0; }

 private:
  Index size_, vocabulary_;
};

DataSet made_up_data(const StepCase& c, Index count) {
  const bool images = c.example.rank == 3;
  DataSet d;
  d.name = "made-up";
  d.classes = 10;
  d.train.example = c.example;
  d.train.count = count;
  if (c.vocabulary > 0) {
    d.classes = d.vocabulary = c.vocabulary;
    d.train.tokens = std::make_shared<MadeUpTokens>(count * c.example.size() + 1, c.vocabulary);
    return d;
  }
  const Index size = count * c.example.size();
  for (Index i = 0; i < count; ++i) d.train.labels.push_back(static_cast<std::int32_t>(i % 10));
  const RandomKey key = RandomKey::make(1, Stream::test, 5);
  for (Index i = 0; i < size; i += 4) {
    const Words4 w = key.words(i / 4);
    for (Index k = 0; k < 4 && i + k < size; ++k) {
      if (images) d.train.pixels.push_back(static_cast<std::uint8_t>(w.w[k] >> 24));
      else d.train.x.push_back(unit_interval(w.w[k]));
    }
  }
  if (images) {
    d.train.pixel_mean.assign(static_cast<size_t>(c.example[2]), 0.5f);
    d.train.pixel_std.assign(static_cast<size_t>(c.example[2]), 0.25f);
    d.flip = true;
    d.crop_pad = 4;
  }
  return d;
}

/// An optimizer and how ranks go about it.
struct StepVariant {
  std::string name, suffix;
  std::vector<std::pair<std::string, std::string>> settings;
};

std::vector<StepVariant> variants(int ranks) {
  std::vector<StepVariant> all{{"sgd", "", {}}, {"adamw", "", {}}, {"ivon", "", {}}};
  if (ranks == 1) return all;
  all.push_back({"ivon", "/shared-noise", {{"parallel.noise", "shared"}}});
  for (const char* name : {"adamw", "ivon"})
    all.push_back({name, "/sharded", {{"parallel.noise", "shared"}, {"parallel.shard_posterior", "true"}}});
  all.push_back({"sgd", "/fast", {{"parallel.mode", "fast"}}});
  return all;
}

void run_steps(Bench& bench) {
  const Comm comm = Comm::world();
  for (const auto& [model, entry] : Models::of().all())
    for (const StepCase& c : entry.timed)
      for (const Index full : c.batches)
        for (const StepVariant& variant : variants(comm.size())) {
          const Index batch = bench.size(full, 4);
          const std::string label = text("step/", c.label, "/", full, "/", variant.name, variant.suffix);
          if (!bench.wants(label)) continue;
          const bool text = c.vocabulary > 0;
          Config config;
          config.set("model.name", model, "bench");
          for (const auto& [key, value] : c.settings) config.set(key, value, "bench");
          if (bench.options().quick)
            for (const auto& [key, value] : entry.small) config.set(key, value, "bench");
          for (const auto& [key, value] : variant.settings) config.set(key, value, "bench");
          config.set("optim.name", variant.name, "bench");
          config.set("train.precision", backend::precision_name(), "bench");
          config.set("data.global_batch", std::to_string(batch * comm.size()), "bench");  // a rank's share is `batch`
          config.resolve();
          if (config.has("optim.ess")) config.set("optim.ess", "50000", "bench");
          StepCase sized = c;
          if (text) sized.example = {bench.size(c.example[0], 8)};
          const DataSet data = made_up_data(sized, 4 * batch * comm.size());
          Layout layout;
          const Exec exec = backend::separate_exec();  // as in training
          Trainer trainer(layout, config, data, exec, comm);
          std::uint64_t step = 0;
          const double items = static_cast<double>(trainer.batch() * (text ? sized.example.size() : 1));
          const double parameters = static_cast<double>(layout.size());
          bench.measure(label, {0, trainer.flops(), items, text ? "token" : "image", parameters}, [&] {
            ++step;
            trainer.step(step, (step - 1) * static_cast<std::uint64_t>(trainer.batch()), 1e-3, false);
          });
        }
}

namespace {
const bool registered_steps = BenchCases::of().add("steps", {"training steps of the models that name some", 2, run_steps});
}

}  // namespace varion
