#include "train/resume.hpp"

#include <cstdint>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "io/commit_file.hpp"
#include "train/network.hpp"

namespace varion {

namespace {
/// What the file's run was configured with. Errors (65).
Config config_of(const io::PosteriorFile& f, const std::string& path) {
  const auto ini = f.model.find("config_ini");
  require(ini != f.model.end(), Exit::data, path, ": no model/config_ini");
  Config config;
  config.read_text(ini->second, path + ":config_ini");
  return config;
}

/// The first rank's file on every rank but for its history, which the first rank's records hold: attributes as text, vectors as they are.
void share(io::PosteriorFile& f, const Comm& comm) {
  nlohmann::json all;
  if (comm.is_first()) {
    for (const io::TensorInfo& t : f.tensors) all["tensors"].push_back({t.name, t.shape, t.offset, t.size});
    for (const auto& [name, values] : f.states) all["states"].push_back(name);
    all["texts"] = {f.root, f.model, f.train, f.rng, f.data};
    all["optimizer"] = f.optimizer;
    all["optim"] = f.optim;
    all["step"] = f.step;
  }
  const std::vector<std::uint8_t> packed = comm.is_first() ? nlohmann::json::to_msgpack(all) : std::vector<std::uint8_t>();  // of any bytes and numbers
  const std::string sent = comm.from_first(std::string(packed.begin(), packed.end()));
  if (!comm.is_first()) {
    all = nlohmann::json::from_msgpack(sent);
    for (const auto& t : all["tensors"]) f.tensors.push_back({t[0], t[1], t[2], t[3]});
    for (const auto& name : all["states"]) f.states.emplace_back(name, std::vector<float>());
    size_t k = 0;
    for (auto* texts : {&f.root, &f.model, &f.train, &f.rng, &f.data}) *texts = all["texts"][k++].get<std::map<std::string, std::string>>();
    f.optimizer = all["optimizer"];
    f.optim = all["optim"].get<std::map<std::string, double>>();
    f.step = all["step"];
  }
  comm.from_first(f.mean);
  for (auto& [name, values] : f.states) comm.from_first(values);
}
}  // namespace

FoundCheckpoint find_checkpoint(Config& config, const RunFolder& folder, const Comm& comm) {
  FoundCheckpoint found;
  if (comm.is_first()) {
    for (const std::string& dir : {folder.checkpoints(), folder.dir()})
      for (const std::string& name : io::list_files(dir, true)) found.holds_run = found.holds_run || name[0] != '.';
    if (config.text("run.resume") != "never") {
      io::Checkpoint newest = io::newest_checkpoint(folder.checkpoints(), found.refused);
      found.path = newest.path;
      found.file = std::move(newest.file);
    }
  }
  found.path = comm.from_first(found.path);
  if (!found.path.empty() && comm.size() > 1) share(found.file, comm);
  if (config.text("parallel.slots") == "auto" && !found.path.empty()) {
    const Config before = config_of(found.file, found.path);
    config.set("parallel.slots", before.has("parallel.slots") ? before.text("parallel.slots") : "1", found.path);
  }
  config.set("parallel.slots", std::to_string(slots_of(config, comm)), config.values().at("parallel.slots").source);
  return found;
}

std::vector<std::string> changes_since(const Config& now, const io::PosteriorFile& f, const std::string& path) {
  const Config before = config_of(f, path);
  std::vector<std::string> notes;
  for (const auto& [key, value] : before.values()) {
    const std::string section = key.substr(0, key.find('.'));
    const bool must = section == "model" || key == "run.seed" || key == "optim.name" || key == "data.name" ||
                      key == "data.global_batch" || key == "data.windows" || key == "data.train_size" || key == "data.val_size" ||
                      key == "data.length" || key == "data.tokenizer" || key == "data.vocab_size" ||
                      key == "parallel.slots" || key == "parallel.noise";
    const bool free = section == "run" || section == "eval" || section == "log" || section == "checkpoint" ||
                      key == "data.path" || key == "data.root" || key == "data.vocab" || key == "train.stop_after" || key == "parallel.share_devices" ||
                      key == "parallel.shard_posterior" || key == "parallel.gpu_aware_mpi";
    if (!now.has(key) || now.text(key) == value.text || (free && !must)) continue;
    require(!must, Exit::config, key, " = ", now.text(key), " (", now.values().at(key).source, "), but '", path,
            "' was trained with ", value.text, ": take another run.name, or run.resume=never run.overwrite=true");
    notes.push_back(text("changed since the checkpoint: ", key, " ", value.text, " -> ", now.text(key)));
  }
  return notes;
}

}  // namespace varion
