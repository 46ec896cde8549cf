// Posterior files: what is in them, and as safetensors for other programs.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <sstream>

#include "app/command.hpp"
#include "core/error.hpp"
#include "core/suggest.hpp"
#include "io/posterior_file.hpp"
#include "io/safetensors.hpp"

namespace varion {

namespace {
const char* const kPosteriorUsage = "posterior info|layers FILE.h5 | export FILE.h5 --out=FILE.safetensors [--states=hess,momentum|all] [--force]";

/// The mean under the tensors' names, the states asked for under name.state; the optimizer's numbers as metadata.
io::Safetensors exported(const io::PosteriorFile& f, const std::string& states) {
  io::Safetensors out;
  const auto add = [&](const std::vector<float>& flat, const std::string& suffix) {
    for (const io::TensorInfo& t : f.tensors)
      out.tensors.push_back({t.name + suffix, t.shape, {flat.begin() + t.offset, flat.begin() + t.offset + t.size}});
  };
  add(f.mean, "");
  std::vector<std::string> known, wanted;
  for (const auto& [name, flat] : f.states) known.push_back(name);
  std::istringstream in(states);
  for (std::string word; std::getline(in, word, ',');) {
    require(word == "all" || std::count(known.begin(), known.end(), word) > 0, Exit::usage, "--states: the file has no '", word, "', it has ",
            known.empty() ? "none" : join(known));
    wanted.push_back(word);
  }
  std::vector<std::string> written;
  for (const auto& [name, flat] : f.states)
    if (std::count(wanted.begin(), wanted.end(), name) > 0 || std::count(wanted.begin(), wanted.end(), "all") > 0) {
      add(flat, "." + name);
      written.push_back(name);
    }
  out.metadata = {{"format", "pt"}, {"software", "varion"}, {"optimizer", f.optimizer}, {"step", std::to_string(f.step)}};
  for (const auto& [key, value] : f.optim) out.metadata["optim." + key] = shortest(value);
  if (!written.empty()) out.metadata["varion_states"] = join(written, ",");
  return out;
}
}  // namespace

int posterior_command(const std::vector<std::string>& words) {
  const auto [plain, force] = without_force(words);
  const Arguments a = parse_arguments(plain, {"out", "states"});
  const std::string verb = a.words.empty() ? "" : a.words[0];
  require(a.words.size() == 2 && (verb == "info" || verb == "layers" || verb == "export") && (verb == "export" || (a.flags.empty() && !force)),
          Exit::usage, "use: ", kPosteriorUsage);
  const io::PosteriorFile f = verb == "info" ? io::load_attributes(a.words[1]) : io::load_posterior(a.words[1]);
  if (verb == "export") {
    const std::filesystem::path out = a.flag("out", "");
    require(out.has_filename(), Exit::usage, "use: ", kPosteriorUsage);
    const auto [folder, name] = place_for(out, force, a.words[1]);
    const io::Safetensors content = exported(f, a.flag("states", ""));
    io::save_safetensors(folder, name, content);
    std::printf("%s: %zu tensors\n", out.c_str(), content.tensors.size());
    return 0;
  }
  if (verb == "info") {
    for (const auto* group : {&f.root, &f.model, &f.data, &f.rng})
      for (const auto& [k, v] : *group)
        if (k != "config_ini" && k != "env_json") std::printf("%-18s %s\n", k.c_str(), v.c_str());
    std::printf("%-18s %s\n%-18s %ld\n", "optimizer", f.optimizer.c_str(), "step", f.step);
    for (const auto& [k, v] : f.optim) std::printf("%-18s %s\n", k.c_str(), shortest(v).c_str());
    return 0;
  }
  const std::vector<float>* hess = nullptr;
  for (const auto& [name, flat] : f.states)
    if (name == "hess") hess = &flat;
  std::printf("%-34s %10s %12s %12s %12s %12s\n", "tensor", "numel", "|mean|", "hess", "sigma", "|mean|/sigma");
  for (const io::TensorInfo& t : f.tensors) {
    const double decay = hess == nullptr ? 0 : f.optim.at(t.shape.size() >= 2 ? "weight_decay" : "weight_decay_1d");
    double size = 0, curvature = 0, sd = 0, snr = 0;
    for (long i = t.offset; i < t.offset + t.size; ++i) {
      const auto k = static_cast<size_t>(i);
      size += std::abs(static_cast<double>(f.mean[k]));
      if (hess == nullptr) continue;
      const double sigma = 1 / std::sqrt(f.optim.at("ess") * (static_cast<double>((*hess)[k]) + decay));
      curvature += static_cast<double>((*hess)[k]);
      sd += sigma;
      snr += std::abs(static_cast<double>(f.mean[k])) / sigma;
    }
    const double n = static_cast<double>(t.size);
    std::printf("%-34s %10ld %12.4g", t.name.c_str(), t.size, size / n);
    if (hess != nullptr) std::printf(" %12.4g %12.4g %12.4g", curvature / n, sd / n, snr / n);
    std::printf("\n");
  }
  return 0;
}

namespace {
const bool registered_posterior =
    Commands::of().add("posterior", {"look into a posterior file, or export it", kPosteriorUsage, false, posterior_command});
}  // namespace

}  // namespace varion
