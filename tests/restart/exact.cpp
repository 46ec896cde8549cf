// A run that was stopped and resumed ends with the bits of the unbroken one (test ids E1, E2, E9).
#include <filesystem>

#include "core/random.hpp"
#include "io/commit_file.hpp"
#include "io/input_file.hpp"
#include "models/model.hpp"
#include "support/catch.hpp"
#include "support/config.hpp"
#include "support/tier.hpp"
#include "train/run.hpp"

using namespace varion;

namespace {
/// Vectors, records, history and counts of a finished run, without the time it took.
struct Outcome {
  std::vector<std::vector<float>> state;
  std::string records;
  std::map<std::string, std::vector<double>> history;
  std::map<std::string, std::string> counts;
  bool operator==(const Outcome& o) const {
    return state == o.state && records == o.records && history == o.history && counts == o.counts;
  }
};

Outcome outcome(const std::string& dir) {
  const io::PosteriorFile f = io::load_posterior(dir + "/final.h5");
  Outcome out{{f.mean}, io::read_file(dir + "/metrics.jsonl", 1 << 26), f.history, {}};
  for (const auto& [name, flat] : f.states) out.state.push_back(flat);
  const size_t at = out.records.find("\"seconds_per_step\":");
  REQUIRE(at != std::string::npos);
  out.records.erase(at, out.records.find(',', at) - at);
  for (const char* key : {"step", "samples_seen", "nonpositive", "best"}) out.counts[key] = f.train.at(key);
  if (std::filesystem::exists(dir + "/best.h5")) out.counts["best.h5"] = std::to_string(io::load_posterior(dir + "/best.h5").step);
  return out;
}

/// A folder of CIFAR-10 files with a few random records, so that augmentation takes part.
std::string tiny_cifar() {
  const std::string folder = "tiny-cifar";
  io::make_folder(folder);
  const auto key = RandomKey::make(3, Stream::test, 0);
  for (const char* name : {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
                           "data_batch_5.bin", "test_batch.bin"}) {
    std::string bytes;
    for (Index i = 0; i < 4 * 3073; ++i)
      bytes += static_cast<char>(i % 3073 == 0 ? i / 3073 % 10 : key.words(i + 100000 * name[11]).w[0] & 255);
    io::commit_file(folder, name, bytes);
  }
  return folder;
}

/// `model` is its name, or encoder and its task.
Config run_of(const std::string& what, const std::string& optimizer, const std::string& dir, int steps, int stop) {
  const std::string model = what.substr(0, what.find(' '));
  Config c = config_of({{"model.name", model},
                        {"optim.name", optimizer},
                        {"optim.warmup", "3st"},
                        {"optim.lr", "0.01"},
                        {"run.dir", dir},
                        {"train.steps", std::to_string(steps)},
                        {"train.stop_after", std::to_string(stop)},
                        {"eval.samples", "2"},
                        {"eval.every", "4st"},
                        {"eval.batch", "8"},
                        {"log.every", "1st"},
                        {"log.hess_stats_every", "3st"},
                        {"checkpoint.every", "0st"}});
  const auto set = [&](const char* k, const std::string& v) { c.set(k, v, "test"); };
  if (optimizer == "ivon" || optimizer == "von") set("optim.ess", "1e5");  // else a few examples mean huge noise
  if (model == "mlp") {
    set("data.name", "moons");
    set("model.sizes", "8");
    set("model.dropout", "0.1");
    set("data.global_batch", "24");  // does not divide the 400 examples
  } else if (model == "gpt2" || model == "encoder") {
    set("data.name", "sentences");
    if (what == "encoder classify") {
      set("data.name", "slips");
      set("model.task", "classify");
      set("data.val_size", "4");
    }
    set("data.length", "16");
    set("data.train_size", "30");
    set("data.test_size", "5");
    set("data.global_batch", "4");
    set("model.dropout", "0.1");
    set("data.windows", optimizer == "ivon" ? "random" : "epoch");
    for (const auto& [key, value] : Models::of().find(model).small) set(key.c_str(), value);
  } else if (model == "lenet") {
    set("data.name", "glyphs");
    set("data.train_size", "30");
    set("data.test_size", "10");
    set("data.global_batch", "8");
  } else {
    set("data.name", "cifar10");
    set("data.path", tiny_cifar());
    set("data.global_batch", "6");
    set("data.val_size", "3");
  }
  for (const auto& [key, value] : Models::of().find(model).small) set(key.c_str(), value);
  c.resolve();
  return c;
}
}  // namespace

TEST_CASE("E1: every optimizer and model resumes exactly") {
  const std::string root = "exact-test";
  std::filesystem::remove_all(root);
  constexpr int steps = 8;
  for (const std::string model : {"mlp", "lenet", "resnet20", "gpt2", "encoder", "encoder classify", "vit"})
    for (const std::string optimizer : {"ivon", "von", "adamw", "sgd"}) {
      const std::string whole = root + "/whole-" + model + optimizer;
      REQUIRE(train_run(run_of(model, optimizer, whole, steps, 0), true).code == Exit::ok);
      for (const int stop : {1, 5, steps - 1}) {
        const std::string part = root + "/part-" + model + optimizer + std::to_string(stop);
        REQUIRE(train_run(run_of(model, optimizer, part, steps, stop), true).code == Exit::stopped);
        REQUIRE(train_run(run_of(model, optimizer, part, steps, 0), true).code == Exit::ok);
        INFO(model << " " << optimizer << " stopped after " << stop);
        CHECK(outcome(part) == outcome(whole));
      }
    }
}

TEST_CASE("E2: stopped after every step of a 200-step run") {
  const std::string root = "every-step-test";
  std::filesystem::remove_all(root);
  constexpr int steps = 200;
  REQUIRE(train_run(run_of("mlp", "ivon", root + "/whole", steps, 0), true).code == Exit::ok);
  const Outcome expected = outcome(root + "/whole");
  const int stride = by_tier(9, 1, 1);
  int equal = 0, tried = 0;
  for (int stop = 1; stop < steps; stop += stride, ++tried) {
    const std::string part = root + "/part";
    std::filesystem::remove_all(part);
    REQUIRE(train_run(run_of("mlp", "ivon", part, steps, stop), true).code == Exit::stopped);
    REQUIRE(train_run(run_of("mlp", "ivon", part, steps, 0), true).code == Exit::ok);
    equal += outcome(part) == expected;
  }
  CHECK(equal == tried);
}

TEST_CASE("E6: resumed after every single step, in one chain") {
  const std::string root = "chain-test";
  std::filesystem::remove_all(root);
  constexpr int steps = 60;
  train_run(run_of("mlp", "von", root + "/whole", steps, 0), true);
  for (int stop = 1; stop < steps; ++stop)
    REQUIRE(train_run(run_of("mlp", "von", root + "/chain", steps, stop), true).code == Exit::stopped);
  REQUIRE(train_run(run_of("mlp", "von", root + "/chain", steps, 0), true).code == Exit::ok);
  CHECK(outcome(root + "/chain") == outcome(root + "/whole"));
  CHECK(io::list_files(root + "/chain/checkpoints").size() == 2);
}

TEST_CASE("E8: counts of refused updates, the best value and the parent go on over a stop") {
  const std::string root = "counts-test";
  std::filesystem::remove_all(root);
  // Few examples, little weight on the prior: von refuses updates. Its rate is so large that validation is far worse than at first by
  // the stop and after it, however a device rounds.
  const auto config = [&](const char* dir, int stop) {
    Config c = run_of("mlp", "von", root + dir, 30, stop);
    for (const auto& [key, value] : std::initializer_list<std::pair<const char*, const char*>>{
             {"optim.ess", "100"}, {"optim.beta2", "0.5"}, {"optim.hess_init", "0.01"}, {"optim.lr", "4"}, {"data.val_size", "40"}, {"eval.every", "2st"}})
      c.set(key, value, "test");
    c.resolve();
    return c;
  };
  REQUIRE(train_run(config("/whole", 0), true).code == Exit::ok);
  const Outcome whole = outcome(root + "/whole");
  REQUIRE(whole.counts.at("nonpositive") != "0");
  REQUIRE(std::stoi(whole.counts.at("best.h5")) < 16);  // an evaluation after the stop would replace it where the best were forgotten
  REQUIRE(train_run(config("/part", 16), true).code == Exit::stopped);
  std::vector<std::string> refused;
  const io::PosteriorFile stopped = io::newest_checkpoint(root + "/part/checkpoints", refused).file;
  REQUIRE(stopped.train.at("nonpositive") != "0");
  REQUIRE(train_run(config("/part", 0), true).code == Exit::ok);
  CHECK(outcome(root + "/part") == whole);
  CHECK(io::load_posterior(root + "/part/final.h5").root.at("parent_uuid") == stopped.root.at("uuid"));
}

TEST_CASE("a finished run is left alone, and more steps continue it") {
  const std::string root = "finished-test";
  std::filesystem::remove_all(root);
  const RunOutcome first = train_run(run_of("mlp", "ivon", root + "/a", 20, 0), true);
  const std::string records = io::read_file(root + "/a/metrics.jsonl", 1 << 26);
  const RunOutcome again = train_run(run_of("mlp", "ivon", root + "/a", 20, 0), true);
  CHECK(again.metrics == first.metrics);
  CHECK(io::read_file(root + "/a/metrics.jsonl", 1 << 26) == records);
  REQUIRE(train_run(run_of("mlp", "ivon", root + "/a", 30, 0), true).code == Exit::ok);
  CHECK(io::load_posterior(root + "/a/final.h5").step == 30);
}

TEST_CASE("E9: records torn or changed behind the checkpoint's back are cut or told") {
  const std::string root = "records-test";
  std::filesystem::remove_all(root);
  train_run(run_of("mlp", "ivon", root + "/whole", 20, 0), true);
  train_run(run_of("mlp", "ivon", root + "/torn", 20, 10), true);
  io::append_file(root + "/torn", "metrics.jsonl", "{\"step\":11,\"train_lo");
  train_run(run_of("mlp", "ivon", root + "/torn", 20, 0), true);
  CHECK(outcome(root + "/torn") == outcome(root + "/whole"));
  train_run(run_of("mlp", "ivon", root + "/clean", 20, 10), true);
  train_run(run_of("mlp", "ivon", root + "/clean", 20, 0), true);
  CHECK(io::read_file(root + "/clean/log.txt", 1 << 26).find("was changed since") == std::string::npos);
  train_run(run_of("mlp", "ivon", root + "/gone", 20, 10), true);
  io::remove_file(root + "/gone/metrics.jsonl");
  train_run(run_of("mlp", "ivon", root + "/gone", 20, 0), true);
  CHECK(outcome(root + "/gone").state == outcome(root + "/whole").state);
  train_run(run_of("mlp", "ivon", root + "/changed", 20, 10), true);
  io::commit_file(root + "/changed", "metrics.jsonl", "{\"step\":3,\"x\":1}\nnonsense\n{\"step\":12}\n");
  train_run(run_of("mlp", "ivon", root + "/changed", 20, 0), true);
  CHECK(outcome(root + "/changed").state == outcome(root + "/whole").state);
  CHECK(io::read_file(root + "/changed/metrics.jsonl", 1 << 26).rfind("{\"step\":3,\"x\":1}\n{\"epoch\"", 0) == 0);
  CHECK(io::read_file(root + "/changed/log.txt", 1 << 26).find("was changed since the checkpoint") != std::string::npos);
}

TEST_CASE("keys that must match the checkpoint are refused, others are told") {
  const std::string root = "compare-test";
  std::filesystem::remove_all(root);
  train_run(run_of("mlp", "ivon", root, 20, 10), true);
  const std::pair<const char*, const char*> musts[] = {{"run.seed", "2"}, {"model.sizes", "9"},
      {"optim.name", "sgd"}, {"data.global_batch", "25"}, {"data.val_size", "5"}, {"model.dropout", "0"}};
  for (const auto& [key, value] : musts) {
    Config c = run_of("mlp", "ivon", root, 20, 0);
    c.set(key, value, "test");
    c.resolve();
    INFO(key);
    try {
      train_run(c, true);
      FAIL("accepted");
    } catch (const Error& e) {
      CHECK(e.code() == Exit::config);
      CHECK(std::string(e.what()).find(key) != std::string::npos);
    }
  }
  Config c = run_of("mlp", "ivon", root, 20, 0);
  c.set("optim.lr", "0.05", "test");
  REQUIRE(train_run(c, true).code == Exit::ok);
  CHECK(io::read_file(root + "/log.txt", 1 << 26).find("changed since the checkpoint: optim.lr 0.01 -> 0.05") != std::string::npos);
}
