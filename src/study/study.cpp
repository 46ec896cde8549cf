#include "study/study.hpp"

#include <cmath>
#include <cstdio>
#include <fstream>
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
    for (int k = static_cast<int>(*low); k <= static_cast<int>(*high); ++k) out.push_back(k);
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
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    const std::string where = path + ":" + std::to_string(++number);
    line = trim(line.substr(0, line.find('#')));
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
      for (const char c : arm) name += std::isalnum(static_cast<unsigned char>(c)) || c == '.' ? c : '-';
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

int run_study(const Study& study) {
  int failed = 0, number = 0;
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
      ++failed;
      std::printf("failed: %s\n", e.what());
    }
  }
  return failed;
}

std::string report_study(const Study& study, const std::string& format) {
  require(format == "text" || format == "csv", Exit::usage, "--format must be text or csv");
  const bool csv = format == "csv";
  std::string out = csv ? "arm,n" : study.question + "\nmean +- standard error over seeds\n\n";
  char cell[80];
  if (csv) {
    for (const std::string& m : study.report) out += "," + m + "," + m + "_se";
    out += "\n";
  } else {
    std::snprintf(cell, sizeof cell, "%-22s %2s", "arm", "n");
    out += cell;
    for (const std::string& m : study.report) {
      std::snprintf(cell, sizeof cell, "  %20s", m.c_str());
      out += cell;
    }
    out += "\n";
  }
  for (const std::string& arm : study.arms) {
    std::vector<nlohmann::json> done;
    int lost = 0;
    bool variational = false;
    for (const StudyRun& run : study.runs) {
      if (run.arm != arm) continue;
      const nlohmann::json j = status_of(run);
      if (j.is_object() && j.value("state", "") == "done") {
        done.push_back(j["metrics"]);
        variational = variational || Optimizers::of()
                                         .find(run.config.text("optim.name"))
                                         .variational;
      } else {
        ++lost;
      }
    }
    for (int row = 0; row < (variational ? 2 : 1); ++row) {
      const std::string label = arm + (row == 1 ? " at the mean" : "");
      std::snprintf(cell, sizeof cell, csv ? "%s,%zu" : "%-22s %2zu", label.c_str(), done.size());
      out += cell;
      for (std::string metric : study.report) {
        if (row == 1 && metric.rfind("test/", 0) == 0) metric = "mean/" + metric.substr(5);
        std::vector<double> values;
        for (const auto& m : done)
          if (m.contains(metric)) values.push_back(m[metric].get<double>());
        const double n = static_cast<double>(values.size());
        double mean = 0, squares = 0;
        for (const double v : values) mean += v / n;
        for (const double v : values) squares += (v - mean) * (v - mean);
        const double error = n > 1 ? std::sqrt(squares / (n - 1) / n) : 0;
        if (csv)
          std::snprintf(cell, sizeof cell, ",%.8g,%.8g", mean, error);
        else if (values.empty())
          std::snprintf(cell, sizeof cell, "  %20s", "-");
        else
          std::snprintf(cell, sizeof cell, "  %11.5f +-%7.5f", mean, error);
        out += cell;
      }
      if (lost > 0 && !csv) out += text("  (", lost, " missing or diverged)");
      out += "\n";
    }
  }
  return out;
}

}  // namespace varion
