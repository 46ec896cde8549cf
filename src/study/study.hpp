// Studies: a question, a base configuration, arms, seeds. Runs are named by arm, hash and seed; finished
// ones are skipped.
#pragma once

#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/options.hpp"

namespace varion {

using Pairs = std::vector<std::pair<std::string, std::string>>;

struct StudyRun {
  std::string arm;  // "ivon" or "optim.lr=0.1, optim.mc_samples=4"
  int seed;
  Config config;    // resolved, with run.name and run.dir
  std::string dir;
};

struct Study {
  std::string folder, question;
  std::vector<std::string> report;  // metric names
  std::vector<std::string> arms;    // in file order
  std::vector<StudyRun> runs;       // arms times seeds
};

/// Reads FOLDER/study.ini and checks every configuration. Errors (66, 78).
///   [study] question, base (an INI file, relative), seeds = 1,2,3, report = test/acc, test/nll
///           (seeds may hold ranges: 1-20)
///   [cases] NAME = key=value key=value      or   [vary] key = a, b   (the product)
/// `changes` are set in every run, above the study's own settings.
Study load_study(const std::string& folder, const Pairs& changes = {});

/// "running", "done", "diverged", "interrupted", "missing": from the run's status.json.
std::string run_state(const StudyRun& run);

/// Trains what is not done. Errors: that of the first run that failed, once all have been tried; 75 stopped.
void run_study(const Study& study);

/// Mean and standard error over seeds, one row an arm, variational arms also at their mean.
/// `format`: text or csv.
std::string report_study(const Study& study, const std::string& format);

}  // namespace varion
