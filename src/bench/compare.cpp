#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "bench/bench.hpp"

namespace varion {

namespace {
nlohmann::json read_bench(const std::string& path) {
  std::ifstream in(path);
  require(in.good(), Exit::no_input, "'", path, "' cannot be read");
  const nlohmann::json j = nlohmann::json::parse(in, nullptr, false);
  const bool ok = j.is_object() && j.value("schema", nlohmann::json()) == "varion-bench-1" && j.contains("machine") &&
                  j.at("machine").is_object() && j.contains("results") && j.at("results").is_array();
  require(ok, Exit::data, "'", path, "' is not a file of `varion bench --json` (schema varion-bench-1)");
  require(j.value("quick", false) == false, Exit::config, "'", path, "' is of a --quick run: it measures nothing");
  for (const auto& row : j.at("results"))
    for (const char* key : {"bytes", "flops", "items", "median_s", "limit_s"})
      require(row.is_object() && row.contains("name") && row.at("name").is_string() && row.contains(key) && row.at(key).is_number(),
              Exit::data, "'", path, "': a result without a name or the number ", key);
  return j;
}
}  // namespace

std::string bench_compare(const std::string& a, const std::string& b) {
  const nlohmann::json one = read_bench(a), two = read_bench(b);
  require(one.at("machine").value("precision", "") == two.at("machine").value("precision", ""), Exit::config,
          "the files differ in precision: ", one.at("machine").value("precision", "?"), " and ",
          two.at("machine").value("precision", "?"));
  std::string out;
  char line[256];
  std::map<std::string, std::pair<std::string, std::string>> facts;
  const auto as_text = [](const nlohmann::json& v) { return v.is_string() ? v.get<std::string>() : v.dump(); };
  for (const auto& [key, value] : one.at("machine").items()) facts[key].first = as_text(value);
  for (const auto& [key, value] : two.at("machine").items()) facts[key].second = as_text(value);
  for (const auto& [key, values] : facts) out += text(key, ": A ", values.first, " | B ", values.second, "\n");
  std::map<std::string, nlohmann::json> old;
  for (const auto& row : one.at("results")) old[row.at("name").get<std::string>()] = row;
  std::snprintf(line, sizeof line, "%-40s %12s %12s %8s %10s %10s\n", "benchmark", "A ms", "B ms", "A / B", "A ratio", "B ratio");
  out += line;
  int shared = 0;
  for (const auto& row : two.at("results")) {
    const std::string name = row.at("name").get<std::string>();
    const auto it = old.find(name);
    if (it == old.end()) continue;
    ++shared;
    // A ceiling takes what size suits its machine; everything else must be the same work.
    const bool is_ceiling = name.rfind("ceiling/", 0) == 0;
    for (const char* key : {"bytes", "flops", "items"})
      require(is_ceiling || it->second.at(key) == row.at(key), Exit::config, "'", name, "' is not the same work in both files: ",
              key, " ", it->second.at(key).dump(), " and ", row.at(key).dump());
    const double x = it->second.at("median_s"), y = row.at("median_s");
    const double limit_x = it->second.at("limit_s"), limit_y = row.at("limit_s");
    std::snprintf(line, sizeof line, "%-40s %12.4f %12.4f %8.2f %10.2f %10.2f\n", name.c_str(), 1e3 * x, 1e3 * y, x / y,
                  limit_x / x, limit_y / y);
    out += line;
  }
  require(shared > 0, Exit::config, "the files share no benchmark");
  return out;
}

}  // namespace varion
