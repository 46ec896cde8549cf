// Sub-commands: one file each under commands/.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/options.hpp"
#include "core/registry.hpp"

namespace varion {

struct Command {
  static const char* kind() { return "command"; }
  std::string help, usage;
  bool needs_device;  // starts Kokkos first
  std::function<int(const std::vector<std::string>& arguments)> run;
  bool parallel = false;  // runs on many ranks together
  bool stops = false;     // when signalled, at the end of a step
};
using Commands = Registry<Command>;

/// What stands behind a command: files, `key.name=value` settings, `--flag=value` flags, other words.
struct Arguments {
  std::vector<std::string> words;
  std::vector<std::pair<std::string, std::string>> settings, flags;
  std::string flag(const std::string& name, const std::string& fallback) const;
};

/// Errors (64): a flag that is not in `known`.
Arguments parse_arguments(const std::vector<std::string>& arguments,
                          const std::vector<std::string>& known);

/// The arguments without --force, and whether it was there.
std::pair<std::vector<std::string>, bool> without_force(const std::vector<std::string>& arguments);

/// Folder and name of a file to write. Errors (73): it is the `input`, or is there and may not be replaced.
std::pair<std::string, std::string> place_for(const std::filesystem::path& path, bool force, const std::string& input);

/// -q was given.
bool is_quiet();
void set_quiet();

/// On stderr, from the first rank, a line each.
void tell(const std::vector<std::string>& notes);
/// Files in order, then VARION_SECTION_KEY, then the command line; resolved. Notes go to stderr.
Config make_config(const Arguments& a);

}  // namespace varion
