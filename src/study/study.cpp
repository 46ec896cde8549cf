#include "study/study.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.hpp"
#include "core/suggest.hpp"
#include "io/commit_file.hpp"
#include "io/input_file.hpp"
#include "train/run.hpp"

namespace varion {

namespace {
std::string trim(const std::string& s) {
  const size_t b = s.find_first_not_of(" \t\r"), e = s.find_last_not_of(" \t\r");
  return b == std::string::npos ? "" : s.substr(b, e - b + 1);
}

std::vector<std::string> split(const std::string& s, char by) {
  std::vector<std::string> out;
  std::stringstream in(s);
  for (std::string part; std::getline(in, part, by);)
    if (!trim(part).empty()) out.push_back(trim(part));
  return out;
}

/// "1,2,5-8" as numbers.
std::vector<int> parse_seeds(const std::string& s, const std::string& path) {
  std::vector<int> out;
  for (const std::string& part : split(s, ',')) {
    const size_t dash = part.find('-', 1);
    const auto low = parse_real(part.substr(0, dash));
    const auto high = dash == std::string::npos ? low : parse_real(part.substr(dash + 1));
    const bool whole = low && high && *low == std::floor(*low) && *high == std::floor(*high);
    require(whole && *low >= 0 && *low <= *high && *high < *low + 10000 && *high < 1e9, Exit::config, path, ": seeds '", part,
            "' must be a whole number or a range such as 1-20");
    for (int k = static_cast<int>(*low); k <= static_cast<int>(*high); ++k) {
      require(std::count(out.begin(), out.end(), k) == 0, Exit::config, path, ": seed ", k, " stands twice: it would count as two runs");
      out.push_back(k);
    }
  }
  require(!out.empty(), Exit::config, path, ": no seeds");
  return out;
}

nlohmann::json status_of(const StudyRun& run) {
  try {
    return nlohmann::json::parse(io::read_file(run.dir + "/status.json", size_t(1) << 20), nullptr, false);
  } catch (const Error&) {
    return nullptr;  // not started
  }
}
}  // namespace

Study load_study(const std::string& folder, const Pairs& changes) {
  const std::string path = folder + "/study.ini";
  std::istringstream in(io::read_file(path, 1 << 20));
  Study study;
  study.folder = folder;
  std::string base, seeds = "1", section;
  std::vector<std::pair<std::string, Pairs>> arms{{"", {}}};
  bool cases = false, vary = false;
  std::vector<std::string> axes;
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    const std::string where = path + ":" + std::to_string(++number);
    line = config_line(line);
    if (line.empty()) continue;
    if (line.front() == '[') {
      section = line.substr(1, line.size() - 2);
      require(section == "study" || section == "cases" || section == "vary", Exit::config, where,
              ": unknown section [", section, "]", did_you_mean(section, {"study", "cases", "vary"}));
      continue;
    }
    const size_t equal = line.find('=');
    require(equal != std::string::npos && !section.empty(), Exit::config, where, ": no key = value");
    const std::string key = trim(line.substr(0, equal)), value = trim(line.substr(equal + 1));
    if (section == "study") {
      if (key == "question") study.question = value;
      else if (key == "base") base = value;
      else if (key == "seeds") seeds = value;
      else if (key == "report") study.report = split(value, ',');
      else fail(Exit::config, where, ": unknown key '", key, "'",
                did_you_mean(key, {"question", "base", "seeds", "report"}));
    } else if (section == "cases") {
      require(!vary, Exit::config, where, ": a study has [cases] or [vary], not both");
      if (!cases) arms.clear();
      cases = true;
      Pairs settings;
      for (const std::string& word : split(value, ' ')) {
        const size_t e = word.find('=');
        require(e != std::string::npos, Exit::config, where, ": '", word, "' is no key=value");
        settings.emplace_back(word.substr(0, e), word.substr(e + 1));
      }
      arms.emplace_back(key, settings);
    } else {
      require(!cases, Exit::config, where, ": a study has [cases] or [vary], not both");
      vary = true;
      require(key != "run.seed", Exit::config, where, ": seeds are no axis: name them in [study] seeds");
      require(std::count(axes.begin(), axes.end(), key) == 0, Exit::config, where, ": '", key, "' is an axis already");
      axes.push_back(key);
      std::vector<std::pair<std::string, Pairs>> next;
      for (const auto& [name, settings] : arms)
        for (const std::string& choice : split(value, ',')) {
          next.emplace_back(name + (name.empty() ? "" : " ") + key + "=" + choice, settings);
          next.back().second.emplace_back(key, choice);
        }
      arms = std::move(next);
    }
  }
  require(!study.report.empty(), Exit::config, path, ": [study] names no metrics to report");
  for (const auto& [arm, settings] : arms) {
    require(std::count(study.arms.begin(), study.arms.end(), arm) == 0, Exit::config, path, ": the arm '", arm, "' stands twice");
    study.arms.push_back(arm);
    for (const int number_of_seed : parse_seeds(seeds, path)) {
      const std::string seed = std::to_string(number_of_seed);
      StudyRun run;
      run.arm = arm;
      run.seed = number_of_seed;
      if (!base.empty()) run.config.read_file(folder + "/" + base);
      for (const auto& [k, v] : settings) run.config.set(k, v, path + " arm " + arm);
      run.config.set("run.seed", seed, path);
      for (const auto& [k, v] : changes) run.config.set(k, v, "command line");
      Config resolved = run.config;
      for (const std::string& note : resolved.resolve()) fail(Exit::config, "arm ", arm, ": ", note);
      resolved.set("data.root", "", "not part of a run's name");
      const std::string ini = resolved.ini(false);
      std::string name;
      for (const char c : arm) name += std::isalnum(static_cast<unsigned char>(c)) || (c == '.' && !name.empty()) ? c : '-';
      name = name.substr(0, 60) + "-" + io::sha256(ini.data(), ini.size()).substr(0, 8) + "-s" + seed;
      run.dir = folder + "/runs/" + name;
      run.config.set("run.name", name, path);
      run.config.set("run.dir", run.dir, path);
      run.config.resolve();
      study.runs.push_back(std::move(run));
    }
  }
  return study;
}

std::string run_state(const StudyRun& run) {
  const nlohmann::json j = status_of(run);
  return j.is_object() ? j.value("state", "missing") : "missing";
}

void run_study(const Study& study) {
  Exit code = Exit::ok;
  std::string first;
  int number = 0, failed = 0;
  for (const StudyRun& run : study.runs) {
    ++number;
    std::printf("[%d/%zu] %s seed %d: ", number, study.runs.size(), run.arm.c_str(), run.seed);
    std::fflush(stdout);
    if (run_state(run) == "done") {
      std::printf("done before\n");
      continue;
    }
    try {
      const RunOutcome outcome = train_run(run.config, true);
      if (outcome.code != Exit::ok) {
        std::printf("stopped; the same command continues\n");
        fail(outcome.code, "study stopped early");
      }
      std::string line;
      for (const std::string& metric : study.report)
        if (outcome.metrics.count(metric) != 0) line += text(metric, " ", outcome.metrics.at(metric), "  ");
      std::printf("%s\n", line.c_str());
    } catch (const Error& e) {
      if (e.code() == Exit::stopped) throw;
      if (++failed == 1) {
        code = e.code();
        first = text(run.arm, " seed ", run.seed, ": ", e.what());
      }
      std::printf("failed: %s\n", e.what());
    }
  }
  require(failed == 0, code, failed, " of ", study.runs.size(), " runs failed, the first: ", first);
}

namespace {
/// A cell of a CSV file.
std::string quoted(const std::string& s) {
  if (s.find_first_of(",\"\n") == std::string::npos) return s;
  std::string out = "\"";
  for (const char c : s) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string padded(const std::string& s, size_t width, bool right) {
  const std::string blanks(width > s.size() ? width - s.size() : 0, ' ');
  return right ? blanks + s : s + blanks;
}

std::string formatted(const char* format, double v) {
  char s[40];
  std::snprintf(s, sizeof s, format, v);
  return s;
}

/// Mean and standard error. Of no value there is neither, of one no error.
struct Estimate {
  size_t count;
  double mean = 0, error = 0;
  explicit Estimate(const std::vector<double>& values) : count(values.size()) {
    const auto n = static_cast<double>(count);
    double squares = 0;
    for (const double v : values) mean += v / n;
    for (const double v : values) squares += (v - mean) * (v - mean);
    if (count > 1) error = std::sqrt(squares / (n - 1) / n);
  }
  std::string csv() const {
    return "," + (count > 0 ? formatted("%.8g", mean) : "") + "," + (count > 1 ? formatted("%.8g", error) : "");
  }
  std::string text() const {
    if (count == 0) return padded("-", 22, true);
    return padded(formatted("%.5f", mean) + (count > 1 ? " +-" + formatted("%.5f", error) : "          "), 22, true);
  }
};

/// A metric that is not finite stands in the file as null.
double value_of(const nlohmann::json& j) { return j.is_number() ? j.get<double>() : std::numeric_limits<double>::quiet_NaN(); }
}  // namespace

std::string report_study(const Study& study, const std::string& format) {
  require(format == "text" || format == "csv", Exit::usage, "--format must be text or csv");
  const bool csv = format == "csv";
  struct Row {
    std::string label;
    std::vector<nlohmann::json> done;
    int lost = 0;
    bool at_mean = false;
  };
  std::vector<Row> rows;
  std::vector<std::string> known;
  for (const std::string& arm : study.arms) {
    Row row{arm, {}, 0, false};
    bool variational = false;
    for (const StudyRun& run : study.runs) {
      if (run.arm != arm) continue;
      const nlohmann::json j = status_of(run);
      if (!j.is_object() || j.value("state", "") != "done") {
        ++row.lost;
        continue;
      }
      row.done.push_back(j["metrics"]);
      for (const auto& [name, value] : j["metrics"].items()) known.push_back(name);
      variational = variational || Optimizers::of().find(run.config.text("optim.name")).variational;
    }
    rows.push_back(row);
    if (!variational) continue;
    rows.push_back(row);
    rows.back().label += " at the mean";
    rows.back().at_mean = true;
  }
  for (const std::string& m : study.report)
    require(known.empty() || std::count(known.begin(), known.end(), m) > 0, Exit::config, study.folder, "/study.ini: report: no run has a '", m, "'",
            did_you_mean(m, known));
  size_t width = 22;
  for (const Row& row : rows) width = std::max(width, row.label.size());
  std::string out = csv ? "arm,n" : study.question + "\nmean +- standard error over seeds\n\n" + padded("arm", width, false) + "  n";
  for (const std::string& m : study.report) out += csv ? "," + quoted(m) + "," + quoted(m + "_se") : padded(m, 22, true);
  out += "\n";
  for (const Row& row : rows) {
    const std::string n = std::to_string(row.done.size());
    out += csv ? quoted(row.label) + "," + n : padded(row.label, width, false) + padded(n, 3, true);
    for (std::string metric : study.report) {
      for (const auto& [averaged, at_mean] : {std::pair("test/", "mean/"), std::pair("val/", "val_at_mean/")})
        if (row.at_mean && metric.rfind(averaged, 0) == 0) metric = at_mean + metric.substr(std::string(averaged).size());
      std::vector<double> values;
      for (const auto& m : row.done)
        if (m.contains(metric)) values.push_back(value_of(m[metric]));
      const Estimate estimate(values);
      out += csv ? estimate.csv() : estimate.text();
    }
    if (row.lost > 0 && !csv) out += text("  (", row.lost, " missing or diverged)");
    out += "\n";
  }
  return out;
}

}  // namespace varion
