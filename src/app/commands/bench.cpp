#include "bench/bench.hpp"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "app/command.hpp"
#include "backends/backend.hpp"
#include "io/commit_file.hpp"

namespace varion {

int bench_command(const std::vector<std::string>& words) {
  const Arguments a = parse_arguments(words, {"json", "precision", "repeats", "seconds", "quick", "dir"});
  if (!a.words.empty() && a.words[0] == "compare") {
    require(a.words.size() == 3, Exit::usage, "use: bench compare A.json B.json");
    std::printf("%s", bench_compare(a.words[1], a.words[2]).c_str());
    return 0;
  }
  BenchOptions options;
  options.chosen = a.words;
  const auto repeats = parse_real(a.flag("repeats", "9")), seconds = parse_real(a.flag("seconds", "0.1"));
  require(repeats && *repeats >= 1 && *repeats <= 1e4 && *repeats == std::floor(*repeats), Exit::usage,
          "--repeats must be a whole number from 1 to 10000");
  require(seconds && *seconds >= 0 && *seconds <= 3600, Exit::usage, "--seconds must be from 0 to 3600");
  const std::string quick = a.flag("quick", "no");
  require(quick == "yes" || quick == "no", Exit::usage, "--quick must be yes or no");
  options.repeats = static_cast<int>(*repeats);
  options.seconds = *seconds;
  options.quick = quick == "yes";
  options.dir = a.flag("dir", std::filesystem::temp_directory_path().string());
  const std::string precision = a.flag("precision", "fp32");
  require(precision == "fp32" || precision == "tf32" || precision == "bf16", Exit::usage, "--precision must be fp32, tf32 or bf16");
  backend::use_precision(precision, "--precision");
  const bool speaks = Comm::world().is_first();
  const nlohmann::json machine = bench_machine();
  for (const auto& [key, value] : machine.items())
    if (speaks) std::printf("%-10s %s\n", key.c_str(), value.get<std::string>().c_str());
  if (speaks) std::printf("%s\n", bench_header().c_str());
  Bench bench(options);
  bench.told = [speaks](const Measurement& m) {
    if (!speaks) return;
    std::printf("%s\n", bench_line(m).c_str());
    std::fflush(stdout);
  };
  bench.run();
  for (const std::string& part : options.chosen) {
    bool found = false;
    for (const Measurement& m : bench.results()) found = found || m.name.find(part) != std::string::npos;
    require(found, Exit::usage, "no benchmark's name contains '", part, "'; `varion bench` runs all");
  }
  const std::filesystem::path json = a.flag("json", "");
  if (!json.empty() && speaks)
    io::commit_file(json.has_parent_path() ? json.parent_path().string() : ".", json.filename().string(),
                    bench_json(bench).dump(1) + "\n");
  return 0;
}

namespace {
const bool registered_bench = Commands::of().add(
    "bench", {"time kernels and training steps against this machine's ceilings",
              "bench [PART_OF_NAME ...] [--json=FILE] [--repeats=9] [--seconds=0.1] [--quick=yes] [--precision=fp32|tf32|bf16] [--dir=FOLDER for files] | compare A.json B.json",
              true, bench_command, true});
}  // namespace

}  // namespace varion
