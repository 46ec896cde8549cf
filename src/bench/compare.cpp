#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
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

std::string name_of(const nlohmann::json& row) { return row.at("name").get<std::string>(); }
/// A text of an object, or `otherwise` where it has none: files of other programs leave some out.
std::string text_of(const nlohmann::json& object, const char* key, const char* otherwise) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : otherwise;
}
std::string provider_of(const nlohmann::json& row) { return text_of(row, "provider", "-"); }

/// The rows of every name, in their order.
std::map<std::string, std::vector<nlohmann::json>> by_name(const nlohmann::json& file) {
  std::map<std::string, std::vector<nlohmann::json>> rows;
  for (const auto& row : file.at("results")) rows[name_of(row)].push_back(row);
  return rows;
}

/// What is another measurement with another number of ranks.
const char* const kOfRanks[]{"step/", "allreduce/", "files/shares/", "files/collective/"};

/// Errors (78): the rows, which have a name in common, are not of the same work.
void require_equal_work(const nlohmann::json& a, const nlohmann::json& b, const std::string& ranks_a, const std::string& ranks_b) {
  const std::string name = name_of(a);
  if (name.rfind("ceiling/", 0) == 0) return;  // takes what size suits its machine
  const bool of_ranks = std::any_of(std::begin(kOfRanks), std::end(kOfRanks), [&](const char* kind) { return name.rfind(kind, 0) == 0; });
  require(!of_ranks || ranks_a == ranks_b, Exit::config, "'", name, "' ran on unequal numbers of ranks: ", ranks_a,
          " and ", ranks_b);
  for (const char* key : {"flops", "items"})
    require(a.at(key) == b.at(key), Exit::config, "'", name, "' is not the same work in both files: ", key, " ", a.at(key).dump(), " and ",
            b.at(key).dump());
}
}  // namespace

std::string bench_compare(const std::string& a, const std::string& b) {
  const nlohmann::json one = read_bench(a), two = read_bench(b);
  require(one.at("machine").value("precision", "") == two.at("machine").value("precision", ""), Exit::config,
          "the files differ in precision: ", one.at("machine").value("precision", "?"), " and ",
          two.at("machine").value("precision", "?"));
  std::string out;
  char line[320];
  std::map<std::string, std::pair<std::string, std::string>> facts;
  const auto as_text = [](const nlohmann::json& v) { return v.is_string() ? v.get<std::string>() : v.dump(); };
  for (const auto& [key, value] : one.at("machine").items()) facts[key].first = as_text(value);
  for (const auto& [key, value] : two.at("machine").items()) facts[key].second = as_text(value);
  for (const auto& [key, values] : facts) out += text(key, ": A ", values.first, " | B ", values.second, "\n");
  const std::string ranks_a = text_of(one.at("machine"), "ranks", "1"), ranks_b = text_of(two.at("machine"), "ranks", "1");
  const auto rows_a = by_name(one), rows_b = by_name(two);
  std::snprintf(line, sizeof line, "%-40s %12s %12s %8s %10s %10s  %s\n", "benchmark", "A ms", "B ms", "A / B", "A ratio", "B ratio",
                "provider");
  out += line;
  bool shared = false;
  for (const auto& row : two.at("results")) {
    const std::string name = name_of(row);
    const auto it = rows_a.find(name);
    if (it == rows_a.end()) continue;
    shared = true;
    const std::string provider = provider_of(row);
    const bool preferred = provider == provider_of(rows_b.at(name).back());
    for (const nlohmann::json& other : it->second) {
      const std::string others = provider_of(other);
      if (others != provider && !(preferred && others == provider_of(it->second.back()))) continue;
      require_equal_work(other, row, ranks_a, ranks_b);
      const double x = other.at("median_s"), y = row.at("median_s");
      const double limit_x = other.at("limit_s"), limit_y = row.at("limit_s");
      std::snprintf(line, sizeof line, "%-40s %12.4f %12.4f %8.2f %10.2f %10.2f  %s\n", name.c_str(), 1e3 * x, 1e3 * y, x / y,
                    limit_x / x, limit_y / y, (others == provider ? provider : others + " | " + provider).c_str());
      out += line;
    }
  }
  require(shared, Exit::config, "the files share no benchmark");
  return out;
}

}  // namespace varion
