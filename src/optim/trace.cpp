#include "optim/trace.hpp"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "optim/optimizer.hpp"

namespace varion {

namespace {
Vec device_vector(const nlohmann::json& values, Index size) {
  require(values.is_array() && static_cast<Index>(values.size()) == size, Exit::data,
          "trace: a vector has ", values.size(), " entries, not ", size);
  const Vec out("varion::trace::vector", static_cast<size_t>(size));
  const auto host = Kokkos::create_mirror_view(out);
  for (Index i = 0; i < size; ++i) host(i) = static_cast<Real>(values[static_cast<size_t>(i)].get<double>());
  Kokkos::deep_copy(out, host);
  return out;
}

/// JSON's option as the option table's text.
std::string option_text(const nlohmann::json& v) {
  if (v.is_null()) return "inf";
  if (v.is_boolean()) return v.get<bool>() ? "true" : "false";
  if (v.is_string()) return v.get<std::string>();
  return shortest(v.get<double>());
}
}  // namespace

namespace {
std::map<std::string, double> replay(const nlohmann::json& t, const std::string& path);
}

std::map<std::string, double> replay_trace(const std::string& path) {
  std::error_code none;
  require(!std::filesystem::is_directory(path, none), Exit::data, "trace '", path, "' is a folder");
  std::ifstream in(path);
  require(in.good(), Exit::no_input, "cannot open trace '", path, "'");
  const auto t = nlohmann::json::parse(in, nullptr, false);
  require(t.is_object() && t.value("format", "") == "varion-optimizer-trace-1", Exit::data, "'", path,
          "' is no varion-optimizer-trace-1");
  try {
    return replay(t, path);
  } catch (const nlohmann::json::exception& e) {
    fail(Exit::data, "'", path, "': ", e.what());
  }
}

namespace {
std::map<std::string, double> replay(const nlohmann::json& t, const std::string& path) {
  const auto name = t.at("optimizer").get<std::string>();
  const Index size = t.at("size").get<Index>();
  Config config;
  config.set("optim.name", name, path);
  for (const auto& [k, v] : t.at("options").items()) config.set("optim." + k, option_text(v), path);
  if (t.at("mc_samples").get<int>() > 1)
    config.set("optim.mc_samples", std::to_string(t.at("mc_samples").get<int>()), path);
  config.resolve();
  if (config.has("optim.ess") && config.text("optim.ess") == "auto")
    config.set("optim.ess", "1", "trace without ess");

  Layout layout;
  layout.add("flat", {1, size}, {});
  layout.finish();
  const Exec exec;
  const auto optimizer = Optimizers::of().find(name).make(layout, config);
  Kokkos::deep_copy(optimizer->mean(), device_vector(t.at("mean0"), size));
  optimizer->start(exec);
  const Vec weights("varion::trace::weights", static_cast<size_t>(size));
  std::map<std::string, double> errors;
  const auto& after = t.at("after");
  for (size_t step = 0; step < after.size(); ++step) {
    const size_t samples = t.at("gradient").at(step).size();
    for (size_t s = 0; s < samples; ++s) {
      const Noise noise{{}, device_vector(t.at("noise").at(step).at(s), size)};
      const Vec gradient = device_vector(t.at("gradient").at(step).at(s), size);
      if (s + 1 < samples)
        optimizer->collect(exec, static_cast<int>(s), noise, weights, gradient);
      else
        optimizer->finish(exec, static_cast<int>(s), noise, gradient, step + 1, t.at("lr").at(step).get<double>(), {},
                          weights);
    }
    for (const StateVector& state : optimizer->state()) {
      if (!after[step].contains(state.name)) continue;
      const auto& expected = after[step][state.name];
      const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), state.data);
      double largest = 1e-30, error = 0;
      for (Index i = 0; i < size; ++i) {
        const double e = expected.at(static_cast<size_t>(i)).get<double>();
        largest = std::max(largest, std::abs(e));
        error = std::max(error, std::abs(static_cast<double>(host(i)) - e));
      }
      double& worst = errors[state.name];
      worst = std::max(worst, error / largest);
    }
  }
  require(errors.size() >= 2, Exit::data, "'", path, "' compares fewer than two state vectors of ", name);
  return errors;
}
}  // namespace

}  // namespace varion
