// Damage to a checkpoint is refused, and a resumed run equals the unbroken one bit for bit.
#include "io/posterior_file.hpp"

#include <filesystem>

#include "core/error.hpp"
#include "io/commit_file.hpp"
#include "support/catch.hpp"
#include "train/run.hpp"

using namespace varion;

namespace {
io::PosteriorFile small_file() {
  io::PosteriorFile p;
  p.tensors = {{"fc.weight", {2, 3}, 0, 6}, {"fc.bias", {2}, 6, 2}};
  p.mean = {1, 2, 3, 4, 5, 6, 7, 8};
  p.states = {{"hess", std::vector<float>(8, 0.5f)}, {"momentum", std::vector<float>(8, -1.f)}};
  p.optimizer = "ivon";
  p.optim = {{"ess", 100}, {"weight_decay", 0.1}};
  p.model = {{"name", "mlp"}};
  p.step = 7;
  return p;
}

bool refused(const std::string& bytes) {
  try {
    io::decode_posterior(bytes, "test");
  } catch (const Error& e) {
    return e.code() == Exit::data;
  }
  return false;
}

Config run_config(const std::string& dir, const std::string& optimizer, int stop) {
  Config c;
  c.read_text("[model]\nname = mlp\nsizes = 16\ndropout = 0.1\n[data]\nname = moons\nglobal_batch = 32\n"
              "[train]\nsteps = 40\n[checkpoint]\nevery = 10st\n[eval]\nsamples = 4\nevery = 0st\n[optim]\nwarmup = 5st\n",
              "test");
  c.set("optim.name", optimizer, "test");
  c.set("run.dir", dir, "test");
  c.set("train.stop_after", std::to_string(stop), "test");
  c.resolve();
  return c;
}

std::vector<std::vector<float>> state_of(const std::string& dir) {
  const io::PosteriorFile f = io::load_posterior(dir + "/final.h5");
  std::vector<std::vector<float>> out{f.mean};
  for (const auto& [name, flat] : f.states) out.push_back(flat);
  return out;
}
}  // namespace

TEST_CASE("a posterior file reads back as written") {
  const io::PosteriorFile p = small_file(), q = io::decode_posterior(io::encode_posterior(p), "test");
  CHECK(q.mean == p.mean);
  CHECK(q.states == p.states);
  CHECK(q.step == 7);
  CHECK(q.optim == p.optim);
  REQUIRE(q.tensors.size() == 2);
  CHECK(q.tensors[0].shape == std::vector<long>{2, 3});
}

TEST_CASE("every truncation and every single-bit flip is refused") {
  const std::string bytes = io::encode_posterior(small_file());
  REQUIRE(!refused(bytes));
  long accepted = 0;
  for (size_t n = 0; n < bytes.size(); ++n) accepted += !refused(bytes.substr(0, n));
  CHECK(accepted == 0);
  std::string damaged = bytes;
  for (size_t i = 0; i < bytes.size(); ++i)
    for (int bit = 0; bit < 8; ++bit) {
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      accepted += !refused(damaged);
      damaged[i] = bytes[i];
    }
  CHECK(accepted == 0);
}

TEST_CASE("values that are not finite are refused") {
  io::PosteriorFile p = small_file();
  p.mean[3] = std::numeric_limits<float>::quiet_NaN();
  CHECK(refused(io::encode_posterior(p)));
}

TEST_CASE("stopped and resumed equals unbroken, bit for bit") {
  const std::string root = "restart-test";
  std::filesystem::remove_all(root);
  for (const std::string optimizer : {"ivon", "von", "adamw", "sgd"}) {
    const std::string whole = root + "/whole-" + optimizer;
    REQUIRE(train_run(run_config(whole, optimizer, 0), true).code == Exit::ok);
    for (const int stop : {1, 20, 39}) {
      const std::string part = root + "/part-" + optimizer + std::to_string(stop);
      REQUIRE(train_run(run_config(part, optimizer, stop), true).code == Exit::stopped);
      REQUIRE(train_run(run_config(part, optimizer, 0), true).code == Exit::ok);
      CHECK(state_of(part) == state_of(whole));
    }
  }
}

TEST_CASE("each field dropped on load changes the resumed run") {
  const std::string root = "forget-test";
  std::filesystem::remove_all(root);
  for (const std::string optimizer : {"ivon", "adamw", "sgd"}) {
    const std::string whole = root + "/whole-" + optimizer, part = root + "/part-" + optimizer;
    train_run(run_config(whole, optimizer, 0), true);
    train_run(run_config(part, optimizer, 20), true);
    std::vector<std::string> why;
    const std::string newest = io::newest_checkpoint(part + "/checkpoints", why);
    const io::PosteriorFile saved = io::load_posterior(newest);
    const size_t vectors = saved.states.size();
    for (size_t k = 0; k < vectors + 3; ++k) {
      io::PosteriorFile f = saved;
      std::string field = k < vectors ? saved.states[k].first : k == vectors ? "step" : k == vectors + 1 ? "samples_seen" : "mean";
      if (field == "step") {
        f.step = 19;
        f.train["step"] = "19";
      } else if (field == "samples_seen") {
        f.train["samples_seen"] = "0";
      } else if (field == "mean") {
        f.mean.assign(f.mean.size(), 0.f);
      } else {
        for (float& v : f.states[k].second) v = field == "hess" ? 0.1f : 0.f;
      }
      const std::string copy = root + "/copy-" + optimizer + std::to_string(k);
      io::make_folder(copy + "/checkpoints");
      io::save_posterior(copy + "/checkpoints", "step-0000000020.h5", f);
      train_run(run_config(copy, optimizer, 0), true);
      INFO(optimizer << " without " << field);
      CHECK(state_of(copy) != state_of(whole));
    }
  }
}

TEST_CASE("a damaged newest checkpoint gives way to the one before") {
  const std::string root = "damage-test";
  std::filesystem::remove_all(root);
  train_run(run_config(root, "ivon", 20), true);
  const std::string newest = root + "/checkpoints/step-0000000020.h5";
  std::string bytes = io::read_file(newest, 1 << 26);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  io::commit_file(root + "/checkpoints", "step-0000000020.h5", bytes);
  std::vector<std::string> why;
  CHECK(io::newest_checkpoint(root + "/checkpoints", why) == root + "/checkpoints/step-0000000010.h5");
  CHECK(why.size() == 1);
}
