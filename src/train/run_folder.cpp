#include "train/run_folder.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <sstream>

#include "core/suggest.hpp"
#include "io/commit_file.hpp"
#include "io/input_file.hpp"

namespace varion {

namespace {
std::vector<nlohmann::json> parse_rows(const std::string& records) {
  std::vector<nlohmann::json> rows;
  std::stringstream in(records);
  for (std::string line; std::getline(in, line);) {
    auto row = nlohmann::json::parse(line, nullptr, false);
    if (row.is_object()) rows.push_back(std::move(row));
  }
  return rows;
}
}  // namespace

RunFolder::RunFolder(std::string dir, bool quiet, bool writes) : dir_(std::move(dir)), quiet_(quiet), writes_(writes) {
  if (!writes_) return;
  io::make_folder(dir_ + "/checkpoints");
  lock_ = std::make_unique<io::FolderLock>(dir_);
  const bool alone = lock_->note().empty();
  io::remove_leftovers(dir_, alone);
  io::remove_leftovers(checkpoints(), alone);
}

void RunFolder::start() {
  if (!writes_) return;
  io::commit_file(dir_, "metrics.jsonl", "");
  io::commit_file(dir_, "log.txt", "");
}

void RunFolder::resume(const RecordMark& mark, std::uint64_t step) {
  if (!writes_) return;
  // Deleted is another content, handled below; what only cannot be read now must not be taken for that.
  const auto files = io::list_files(dir_, true);
  const auto has = [&](const char* name) { return std::count(files.begin(), files.end(), name) > 0; };
  require(has(".lock"), Exit::io, "folder '", dir_, "' does not show the file that was just made in it");
  const bool gone = !has("metrics.jsonl");
  const std::string found = gone ? "" : io::read_file(dir_ + "/metrics.jsonl", size_t(1) << 30);
  const bool same = found.size() >= mark.bytes && io::sha256(found.data(), mark.bytes) == mark.sha256;
  records_ = same ? found.substr(0, mark.bytes) : "";
  if (!same)  // keep what can be read and lies before the checkpoint
    for (const auto& row : parse_rows(found))
      if (row.value("step", std::uint64_t(0)) <= step) records_ += row.dump() + "\n";
  rows_ = parse_rows(records_);
  if (gone || records_ != found) io::commit_file(dir_, "metrics.jsonl", records_);
  io::append_file(dir_, "log.txt", text("--- continued from step ", step, "\n"));
  if (!same) say("note: metrics.jsonl was changed since the checkpoint; kept what can be read up to its step");
}

RecordMark RunFolder::mark() const { return {records_.size(), io::sha256(records_.data(), records_.size())}; }

void RunFolder::say(const std::string& line) {
  if (!writes_) return;
  io::append_file(dir_, "log.txt", line + "\n");
  if (quiet_) return;
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

void RunFolder::record(const nlohmann::json& row) {
  if (!writes_) return;
  const std::string line = row.dump() + "\n";
  io::append_file(dir_, "metrics.jsonl", line);
  records_ += line;
  rows_.push_back(row);
}

void RunFolder::sync() const {
  if (writes_) io::sync_file(dir_ + "/metrics.jsonl");
}

void RunFolder::write_csv(const std::string& records) const {
  if (!writes_) return;
  const std::vector<nlohmann::json> rows = parse_rows(records);
  std::vector<std::string> keys;
  for (const auto& row : rows)
    for (const auto& [key, value] : row.items())
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  std::string csv = join(keys, ",") + "\n";
  for (const auto& row : rows) {
    for (size_t k = 0; k < keys.size(); ++k)
      csv += (k ? "," : "") + (row.contains(keys[k]) ? row[keys[k]].dump() : std::string());
    csv += "\n";
  }
  io::commit_file(dir_, "metrics.csv", csv);
}

void RunFolder::status(const std::string& state, std::uint64_t step, Exit code, const Metrics& metrics) const {
  if (!writes_) return;
  nlohmann::json j{{"state", state}, {"step", step}, {"exit_code", static_cast<int>(code)}};
  for (const auto& [k, v] : metrics) j["metrics"][k] = v;
  io::commit_file(dir_, "status.json", j.dump(1) + "\n");
}

std::vector<double> RunFolder::column(const std::string& key, const std::vector<std::string>& keys) const {
  std::vector<double> out;
  for (const auto& row : rows_) {
    bool all = true;
    for (const std::string& k : keys) all = all && row.contains(k) && row[k].is_number();
    if (all) out.push_back(row[key].get<double>());
  }
  return out;
}

std::string run_directory(const Config& config) {
  const std::string name = config.text("run.name");
  require(!name.empty() && name.size() < 200 && name[0] != '.', Exit::config, "run.name = '", name,
          "' must be 1 to 199 characters and not start with a dot");
  for (const char c : name)
    require(std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-',
            Exit::config, "run.name = '", name, "': use letters, digits, '.', '_' and '-' only");
  std::string dir = config.text("run.dir");
  if (const size_t at = dir.find("{name}"); at != std::string::npos) dir.replace(at, 6, name);
  return dir;
}

}  // namespace varion
