// Checkpoints are written beside the steps that follow: each holds the state of its own step, and none changes the run.
#include <filesystem>

#include "io/commit_file.hpp"
#include "io/input_file.hpp"
#include "support/catch.hpp"
#include "support/config.hpp"
#include "train/checkpoint.hpp"
#include "train/run.hpp"
#include "train/state_hash.hpp"

#include <nlohmann/json.hpp>
#include <sstream>

using namespace varion;

namespace {
/// Copying the state takes about as long as a step.
RunOutcome train(const std::string& dir, const std::string& every, const std::string& policy) {
  Config c = config_of({{"data.name", "moons"}, {"model.sizes", "1200,1200"}, {"data.global_batch", "2"}, {"data.train_size", "64"},
                        {"data.test_size", "8"}, {"optim.ess", "1e6"}, {"optim.lr", "0.01"}, {"train.steps", "12"}, {"eval.samples", "1"},
                        {"eval.every", "0st"}, {"checkpoint.keep", "100"}, {"log.state_hash_every", "1st"}});
  c.set("run.dir", dir, "test");
  c.set("checkpoint.every", every, "test");
  c.set("train.spike_policy", policy, "test");
  c.resolve();
  return train_run(c, true);
}

std::map<std::uint64_t, std::string> recorded(const std::string& dir) {
  std::map<std::uint64_t, std::string> out;
  std::istringstream records(io::read_file(dir + "/metrics.jsonl", 1 << 26));
  for (std::string line; std::getline(records, line);) {
    const auto row = nlohmann::json::parse(line);
    if (row.contains("state_hash")) out[row["step"]] = row["state_hash"];
  }
  return out;
}
}  // namespace

TEST_CASE("every checkpoint holds the state of its step, and saving changes none") {
  const std::string root = "overlap-test";
  std::filesystem::remove_all(root);
  for (const std::string policy : {"off", "skip"}) {
    REQUIRE(train(root + "/plain", "0st", policy).code == Exit::ok);
    REQUIRE(train(root + "/saving", "1st", policy).code == Exit::ok);
    const auto hashes = recorded(root + "/saving");
    REQUIRE(hashes.size() == 12);
    CHECK(hashes == recorded(root + "/plain"));
    const auto names = io::list_files(root + "/saving/checkpoints");
    REQUIRE(names.size() == 12);
    for (const std::string& name : names) {
      const auto r = restore(root + "/saving/checkpoints/" + name, {});
      const RunPosition at = position_of(r->file, name);
      CHECK(at.state_hash == hashes.at(at.step));
      CHECK(state_hash(Exec(), *r->optimizer, at.step, at.samples, 0, Comm()) == at.state_hash);
    }
    std::filesystem::remove_all(root);
  }
}
