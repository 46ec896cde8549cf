// D5: every key of the option table is classed, and a checkpoint under another value of it is refused, told of, or taken.
#include <map>
#include <set>

#include "core/error.hpp"
#include "support/catch.hpp"
#include "support/config.hpp"
#include "train/resume.hpp"

using namespace varion;

namespace {
enum class Change { refused, told, free };

/// A new key has to be put here, by whoever adds it: must it match, may it change what is computed, or not even that?
const std::map<std::string, Change> kClasses{
    {"run.name", Change::free}, {"run.dir", Change::free}, {"run.seed", Change::refused}, {"run.resume", Change::free},
    {"run.overwrite", Change::free}, {"run.walltime", Change::free}, {"run.watchdog", Change::free},
    {"model.name", Change::refused}, {"model.preset", Change::refused}, {"model.sizes", Change::refused},
    {"model.dropout", Change::refused}, {"model.activation", Change::refused}, {"model.size", Change::refused},
    {"model.width", Change::refused}, {"model.layers", Change::refused}, {"model.heads", Change::refused},
    {"model.positions", Change::refused}, {"model.lora_rank", Change::refused}, {"model.bias", Change::refused}, {"model.gelu", Change::refused}, {"model.patch", Change::refused}, {"model.pool", Change::refused},
    {"model.task", Change::refused}, {"model.masked", Change::refused},
    {"model.init", Change::refused}, {"model.freeze", Change::refused}, {"model.init_skip", Change::refused}, {"model.init_hess", Change::refused},
    {"data.name", Change::refused}, {"data.global_batch", Change::refused}, {"data.train_size", Change::refused},
    {"data.val_size", Change::refused}, {"data.test_size", Change::told}, {"data.path", Change::free}, {"data.root", Change::free},
    {"data.ood_path", Change::told}, {"data.split", Change::told}, {"data.classes", Change::told}, {"data.mean", Change::told},
    {"data.std", Change::told}, {"data.augment", Change::told}, {"data.windows", Change::refused}, {"data.crop_pad", Change::told},
    {"data.length", Change::refused}, {"data.tokenizer", Change::refused}, {"data.vocab", Change::free},
    {"data.val_share", Change::told}, {"data.vocab_size", Change::refused}, {"data.val_path", Change::told},
    {"optim.name", Change::refused}, {"optim.lr", Change::told}, {"optim.schedule", Change::told}, {"optim.warmup", Change::told},
    {"optim.final_lr_frac", Change::told}, {"optim.grad_clip", Change::told}, {"optim.beta1", Change::told},
    {"optim.beta2", Change::told}, {"optim.clip_radius", Change::told}, {"optim.debias", Change::told}, {"optim.eps", Change::told},
    {"optim.ess", Change::told}, {"optim.hess_approx", Change::told}, {"optim.hess_init", Change::told},
    {"optim.hess_init_1d", Change::told}, {"optim.mc_samples", Change::told}, {"optim.momentum", Change::told},
    {"optim.rescale_lr", Change::told}, {"optim.weight_decay", Change::told}, {"optim.weight_decay_1d", Change::told},
    {"train.epochs", Change::told}, {"train.steps", Change::told}, {"train.precision", Change::told}, {"train.capture", Change::told},
    {"train.stop_on_nonfinite", Change::told}, {"train.stop_after", Change::free},
    {"train.spike_policy", Change::told}, {"train.spike_sigma", Change::told}, {"train.spike_window", Change::told},
    {"train.spike_limit", Change::told},
    {"parallel.slots", Change::refused}, {"parallel.noise", Change::refused}, {"parallel.mode", Change::told},
    {"parallel.share_devices", Change::free}, {"parallel.shard_posterior", Change::free}, {"parallel.gpu_aware_mpi", Change::free},
    {"eval.every", Change::free}, {"eval.samples", Change::free}, {"eval.batch", Change::free},
    {"checkpoint.every", Change::free}, {"checkpoint.best", Change::free}, {"checkpoint.keep", Change::free}, {"checkpoint.parallel_io", Change::free},
    {"log.every", Change::free}, {"log.hess_stats_every", Change::free},
    {"log.state_hash_every", Change::free}};

/// Another value that fits the option.
std::string other(const OptionSpec& o, const std::string& value) {
  using T = OptionSpec::Type;
  switch (o.type) {
    case T::flag: return value == "true" ? "false" : "true";
    case T::choice: return o.choices[0] == value ? o.choices[1] : o.choices[0];
    case T::sizes: return value == "7" ? "8" : "7";
    case T::text: return value == "3" ? "4" : "3";
    default: break;
  }
  for (const double v : {1., 2., 0.5, 0.25, 3., o.low, o.high})
    if (v >= o.low && v <= o.high && shortest(v) != value) return shortest(v);
  return "";
}
}  // namespace

TEST_CASE("D5: a checkpoint under another value of every key") {
  std::set<std::string> seen;
  for (const OptionSpec& o : option_table()) {
    INFO(o.key << " (" << o.owner << ")");
    const auto at = kClasses.find(o.key);
    REQUIRE(at != kClasses.end());  // a new key: put it above
    seen.insert(o.key);
    // A run to which the key belongs. What the names mean plays no part here.
    Config before;
    for (const char* owner : {"model.name", "optim.name", "data.name"})
      before.set(owner, o.owner.empty() ? (owner == std::string("data.name") ? "moons" : owner == std::string("optim.name") ? "ivon" : "mlp") : o.owner, "test");
    before.set(o.key, o.key.find(".name") != std::string::npos && o.key != "run.name" ? before.text(o.key) : o.value, "test");
    Config now = before;
    now.set(o.key, other(o, o.value), "test");
    REQUIRE(now.text(o.key) != before.text(o.key));
    io::PosteriorFile file;
    file.model["config_ini"] = before.ini(false);
    CHECK(changes_since(before, file, "x.h5").empty());
    std::vector<std::string> notes;
    std::string refusal;
    try {
      notes = changes_since(now, file, "x.h5");
    } catch (const Error& e) {
      CHECK(e.code() == Exit::config);
      refusal = e.what();
    }
    CHECK((at->second == Change::refused) == (refusal.rfind(o.key + " = ", 0) == 0));
    CHECK((at->second == Change::told) == (notes.size() == 1 && notes[0].find(o.key + " ") != std::string::npos));
    if (at->second == Change::free) CHECK((notes.empty() && refusal.empty()));
  }
  CHECK(seen.size() == kClasses.size());  // nor does the table here name keys that are gone
  CHECK(seen.size() >= 40);
}
