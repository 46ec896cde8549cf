// A Slurm script for a run: printed, never submitted.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "app/command.hpp"
#include "core/error.hpp"
#include "study/study.hpp"

namespace varion {

namespace {
/// A word as a shell reads it back.
std::string shell_word(const std::string& word) {
  const bool plain = !word.empty() && std::all_of(word.begin(), word.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || std::string("._-=/:,+@%").find(c) != std::string::npos;
  });
  if (plain) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

int whole(const Arguments& a, const std::string& flag, const std::string& fallback) {
  const auto v = parse_real(a.flag(flag, fallback));
  require(v && *v >= 0 && *v < 1e6 && *v == std::floor(*v), Exit::usage, "--", flag, " must be a whole number");
  return static_cast<int>(*v);
}
}  // namespace

int submit_command(const std::vector<std::string>& words) {
  const Arguments a = parse_arguments(words, {"ranks", "threads", "gpus", "time", "partition", "account"});
  const bool train = !a.words.empty() && a.words[0] == "train";
  const bool study = a.words.size() == 3 && a.words[0] == "study" && a.words[1] == "run";
  require(train || study, Exit::usage,
          "use: submit [--ranks=1] [--threads=8] [--gpus=0|1 a rank] [--time=HH:MM:SS] [--partition=P] [--account=A] "
          "train [FILE.ini ...] [key=value ...] | study run FOLDER");
  const int ranks = whole(a, "ranks", "1"), threads = whole(a, "threads", "8"), gpus = whole(a, "gpus", "0");
  require(ranks >= 1 && threads >= 1, Exit::usage, "--ranks and --threads must be at least 1");
  require(ranks == 1 || train, Exit::usage, "a study runs on one rank");
  const std::string time = a.flag("time", "04:00:00");
  require(time.find_first_not_of("0123456789:-") == std::string::npos && time.find_first_of("0123456789") == 0, Exit::usage, "--time = '", time,
          "' must be HH:MM:SS, or another time that sbatch takes");
  if (study) load_study(a.words[2], a.settings);
  std::string command, name = study ? "study" : "run";
  Arguments rest = a;
  if (train) {
    rest.words.erase(rest.words.begin());
    name = make_config(rest).text("run.name");  // a mistake is told here, not in the queue
  }
  for (const std::string& word : a.words) command += " " + shell_word(word);
  for (const auto& [key, value] : a.settings) command += " " + shell_word(key + "=" + value);
  std::printf("#!/bin/bash\n"
              "#SBATCH --job-name=%s\n#SBATCH --ntasks=%d\n#SBATCH --cpus-per-task=%d\n#SBATCH --time=%s\n",
              shell_word(name).c_str(), ranks, threads, time.c_str());
  if (gpus > 0) std::printf("#SBATCH --gpus-per-task=%d\n", gpus);
  for (const char* flag : {"partition", "account"})
    if (!a.flag(flag, "").empty()) std::printf("#SBATCH --%s=%s\n", flag, a.flag(flag, "").c_str());
  std::printf("#SBATCH --signal=USR1@300 --requeue --open-mode=append\n\n"
              "export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK OMP_PROC_BIND=close OMP_PLACES=cores\n"
              "srun --kill-on-bad-exit=1 --cpus-per-task=$SLURM_CPUS_PER_TASK ${VARION:-varion}%s\n"
              "code=$?\n"
              "# 75: stopped early with a complete checkpoint; the same job goes on.\n"
              "[ $code -eq 75 ] && scontrol requeue \"$SLURM_JOB_ID\"\n"
              "exit $code\n",
              command.c_str());
  return 0;
}

namespace {
const bool registered_submit = Commands::of().add(
    "submit", {"print a Slurm script for a run or study (never submits)",
               "submit [--ranks=1] [--threads=8] [--gpus=0] [--time=04:00:00] [--partition=P] [--account=A] train ... | study run FOLDER",
               false, submit_command});
}  // namespace

}  // namespace varion
