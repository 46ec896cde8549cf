#include "train/resume_check.hpp"

#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "core/error.hpp"
#include "train/run.hpp"

namespace varion {

bool resumes_exactly(Config config, Index steps) {
  require(steps >= 2, Exit::usage, "verify resume needs at least 2 steps");
  const auto root = std::filesystem::temp_directory_path() / ("varion-verify-" + std::to_string(::getpid()));
  struct Removed {
    std::filesystem::path path;
    ~Removed() {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
  } const guard{root};
  const auto train = [&](const char* name, Index stop) {
    for (const auto& [key, value] : std::initializer_list<std::pair<const char*, std::string>>{
             {"run.dir", (root / name).string()}, {"run.resume", "auto"}, {"train.steps", std::to_string(steps)},
             {"train.stop_after", std::to_string(stop)}, {"eval.samples", "1"}, {"eval.every", "0st"}})
      config.set(key, value, "verify resume");
    return train_run(config, true).code;
  };
  require(train("whole", 0) == Exit::ok && train("part", steps / 2) == Exit::stopped && train("part", 0) == Exit::ok,
          Exit::stopped, "verify resume was interrupted");
  const io::PosteriorFile a = io::load_posterior((root / "whole/final.h5").string());
  const io::PosteriorFile b = io::load_posterior((root / "part/final.h5").string());
  const auto same = [](const std::vector<float>& x, const std::vector<float>& y) {
    return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
  };
  bool equal = same(a.mean, b.mean) && a.states.size() == b.states.size();
  for (size_t k = 0; equal && k < a.states.size(); ++k) equal = same(a.states[k].second, b.states[k].second);
  return equal;
}

}  // namespace varion
