// What a run finds in its directory.
#pragma once

#include <string>
#include <vector>

#include "comm/comm.hpp"
#include "core/options.hpp"
#include "io/posterior_file.hpp"
#include "train/run_folder.hpp"

namespace varion {

/// The newest valid checkpoint.
struct FoundCheckpoint {
  std::string path;  // empty: none
  io::PosteriorFile file;
  std::vector<std::string> refused;  // why others were not taken; on the first rank
  bool holds_run = false;            // there are files; on the first rank
};

/// Read by the first rank, sent to all. Collective. parallel.slots becomes a number: `auto` is the checkpoint's, for the
/// number of slots belongs to the run, not to the ranks that happen to continue it.
FoundCheckpoint find_checkpoint(Config& config, const RunFolder& folder, const Comm& comm);

/// What a checkpoint was trained with against what it shall go on with. Some keys must match, changes of the
/// others are told. Errors: 78.
std::vector<std::string> changes_since(const Config& now, const io::PosteriorFile& file, const std::string& path);

}  // namespace varion
