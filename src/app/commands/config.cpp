#include <cstdio>
#include <map>

#include "app/command.hpp"
#include "backends/backend.hpp"
#include "build_info.hpp"
#include "comm/mpi_session.hpp"
#include "core/error.hpp"
#include "data/dataset.hpp"
#include "io/posterior_file.hpp"
#include "models/model.hpp"
#include "optim/schedule.hpp"
#include "optim/optimizer.hpp"

namespace varion {

int config_command(const std::vector<std::string>& words) {
  Arguments a = parse_arguments(words, {});
  const std::string verb = a.words.empty() ? "" : a.words[0];
  if (!a.words.empty()) a.words.erase(a.words.begin());
  if (verb == "template") {
    std::string section;
    std::map<std::string, std::vector<const OptionSpec*>> by_key;
    for (const OptionSpec& o : option_table()) by_key[o.key].push_back(&o);
    for (const auto& [key, specs] : by_key) {
      const size_t dot = key.find('.');
      if (key.substr(0, dot) != section) std::printf("%s[%s]\n", section.empty() ? "" : "\n", (section = key.substr(0, dot)).c_str());
      for (const OptionSpec* o : specs)
        std::printf("# %s%s%s%s\n", o->help.c_str(), o->choices.empty() ? "" : (": " + join(o->choices, "|")).c_str(),
                    o->owner.empty() ? "" : (" (" + o->owner + ": " + o->value + ")").c_str(), "");
      std::printf("#%s = %s\n", key.substr(dot + 1).c_str(), specs[0]->value.c_str());
    }
    return 0;
  }
  if (verb == "show") {
    std::printf("%s", make_config(a).ini(true).c_str());
    return 0;
  }
  require(verb == "diff" && a.words.size() == 2, Exit::usage,
          "use: config template | show [FILE.ini] [key=value] | diff A.ini B.ini");
  Config one, two;
  one.read_file(a.words[0]);
  two.read_file(a.words[1]);
  one.resolve();
  two.resolve();
  std::map<std::string, std::pair<std::string, std::string>> rows;
  for (const auto& [k, v] : one.values()) rows[k].first = v.text;
  for (const auto& [k, v] : two.values()) rows[k].second = v.text;
  for (const auto& [k, v] : rows)
    if (v.first != v.second)
      std::printf("%-28s %s  |  %s\n", k.c_str(), v.first.c_str(), v.second.c_str());
  return 0;
}

int info_command(const std::vector<std::string>& words) {
  require(words.empty(), Exit::usage, "use: info");
  std::printf("varion %s %s\ncompiler   %s, %s, %s\nKokkos     %s\n", VARION_VERSION, VARION_GIT,
              VARION_COMPILER, VARION_BUILD_TYPE, VARION_BUILD_FLAGS, VARION_KOKKOS_VERSION);
  std::printf("MPI        %s\nHDF5       %s\n", MpiSession::library().c_str(), io::hdf5_version().c_str());
  const std::string missing = backend::missing_device();
  if (!missing.empty()) std::printf("device     none: %s\n", missing.c_str());
  for (const std::string& d : backend::devices()) std::printf("device     %s\n", d.c_str());
  std::printf("precision  fp32%s\n", backend::rounds_factors() ? ", tf32, bf16" : "");
  for (const auto* p : backend::providers())
    std::printf("provider   %s (%s)%s\n", p->name().c_str(), p->description().c_str(),
                p == &backend::provider() ? ", in use" : "");
  std::vector<std::string> recipes;
  for (const auto& [name, ini] : presets()) recipes.push_back(name);
  std::printf("presets    %s\n", join(recipes).c_str());
  std::printf("ops        %s\n", join(Ops::of().names()).c_str());
  std::printf("models     %s\noptimizers %s\nschedules  %s\ndata sets  %s\n",
              join(Models::of().names()).c_str(), join(Optimizers::of().names()).c_str(),
              join(Schedules::of().names()).c_str(), join(DataSets::of().names()).c_str());
  std::printf("%s\n", missing.empty() ? "all good" : ("missing: " + missing).c_str());
  return 0;
}

namespace {
const bool registered_config =
    Commands::of().add("config", {"the options", "config template | show [FILE.ini] [key=value] | diff A.ini B.ini",
                                  false, config_command}) &&
    Commands::of().add("info", {"build, device, what is registered", "info", false, info_command});
}  // namespace

}  // namespace varion
