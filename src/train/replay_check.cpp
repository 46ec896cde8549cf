#include "train/replay_check.hpp"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <tuple>

#include "core/error.hpp"
#include "io/commit_file.hpp"
#include "io/input_file.hpp"
#include "train/run.hpp"

namespace varion {

namespace {
namespace fs = std::filesystem;

/// A folder that is there as long as this lives.
struct Folder {
  explicit Folder(fs::path p) : path(std::move(p)) {}
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  fs::path path;
};

/// What a run has left: checkpoints by step, and hashes of the state by step.
struct Found {
  std::map<std::uint64_t, std::string> checkpoints, hashes;
};

Found look(const std::string& dir) {
  Found found;
  const std::string folder = dir + "/checkpoints";
  require(fs::is_directory(folder), Exit::no_input, "'", dir, "' holds no run: ", folder, " is no folder");
  for (const std::string& name : io::list_files(folder)) {
    if (name.rfind("step-", 0) != 0) continue;
    const io::PosteriorFile f = io::load_attributes(folder + "/" + name);
    const RunPosition at = position_of(f, folder + "/" + name);
    found.checkpoints[at.step] = folder + "/" + name;
    if (!at.state_hash.empty()) found.hashes[at.step] = at.state_hash;
  }
  if (!fs::exists(dir + "/metrics.jsonl")) return found;
  std::istringstream records(io::read_file(dir + "/metrics.jsonl", size_t(1) << 30));
  for (std::string line; std::getline(records, line);) {
    const auto row = nlohmann::json::parse(line, nullptr, false);
    if (row.is_object() && row.contains("state_hash") && row["state_hash"].is_string() && row.contains("step") && row["step"].is_number_unsigned())
      found.hashes[row["step"].get<std::uint64_t>()] = row["state_hash"].get<std::string>();
  }
  return found;
}

/// The steps that can be compared, in words.
std::string comparable(const Found& found) {
  std::string list;
  for (const auto& [step, hash] : found.hashes)
    if (!found.checkpoints.empty() && step > found.checkpoints.begin()->first) list += (list.empty() ? "" : ", ") + std::to_string(step);
  return list.empty() ? "none: log.state_hash_every makes them, checkpoint.keep keeps where to begin" : list;
}

/// The step to compare, its hash, the checkpoint before it, and what names the settings of the steps between: the checkpoint behind
/// them, or what the run was started with last. Errors: 65.
std::pair<std::string, std::string> choose(const Found& found, const std::string& dir, ReplayResult& r) {
  if (r.step == 0)
    for (const auto& [step, hash] : found.hashes)
      if (!found.checkpoints.empty() && step > found.checkpoints.begin()->first) r.step = step;
  const auto hash = found.hashes.find(r.step);
  auto before = found.checkpoints.lower_bound(r.step);
  require(hash != found.hashes.end() && before != found.checkpoints.begin(), Exit::data, "step ", r.step, ": ",
          hash == found.hashes.end() ? "the run has recorded no hash of the state there" : "no checkpoint lies before it",
          "; steps that can be replayed: ", comparable(found));
  r.recorded = hash->second;
  const std::string settings = before == found.checkpoints.end() ? dir + "/config.ini" : before->second;
  r.from = (--before)->first;
  return {before->second, settings};
}
}  // namespace

ReplayResult replay_step(const std::string& dir, std::uint64_t step, const Comm& comm) {
  ReplayResult r;
  r.step = step;
  std::string path, place, settings;
  std::unique_ptr<Folder> folder;
  if (comm.is_first()) {
    std::string source;
    std::tie(path, source) = choose(look(dir), dir, r);
    if (source == dir + "/config.ini") {
      settings = io::read_file(source, size_t(1) << 20);
    } else {
      const io::PosteriorFile f = io::load_attributes(source);
      require(f.model.count("config_ini") != 0, Exit::data, source, ": no model/config_ini");
      settings = f.model.at("config_ini");
    }
    folder = std::make_unique<Folder>(fs::temp_directory_path() / ("varion-replay-" + std::to_string(::getpid())));
    place = folder->path.string();
    fs::create_directories(folder->path / "checkpoints");
    io::commit_file(place + "/checkpoints", fs::path(path).filename().string(), io::read_file(path, ~size_t(0)));
  }
  path = comm.from_first(path);
  place = comm.from_first(place);
  r.step = std::stoull(comm.from_first(std::to_string(r.step)));
  r.from = std::stoull(comm.from_first(std::to_string(r.from)));
  Config config;
  config.read_text(comm.from_first(settings), "settings of '" + dir + "'");
  config.resolve();
  for (const auto& [key, value] : std::initializer_list<std::pair<const char*, std::string>>{
           {"run.dir", place}, {"run.resume", "must"}, {"run.walltime", "off"}, {"train.stop_after", std::to_string(r.step)},
           {"checkpoint.every", "0st"}, {"checkpoint.best", "none"}, {"eval.every", "0st"}, {"eval.samples", "1"},
           {"log.state_hash_every", "0st"}, {"log.hess_stats_every", "0st"}})
    config.set(key, value, "verify replay");
  const Exit code = train_run(config, true, comm).code;
  if (comm.is_first()) {
    const std::string name = io::checkpoint_name(r.step);
    require(code == Exit::stopped || code == Exit::ok, code, "verify replay was interrupted");
    r.replayed = position_of(io::load_attributes(place + "/checkpoints/" + name), name).state_hash;
  }
  r.recorded = comm.from_first(r.recorded);
  r.replayed = comm.from_first(r.replayed);
  return r;
}

}  // namespace varion
