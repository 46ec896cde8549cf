#include "train/backend_check.hpp"

#include <algorithm>
#include <cmath>

#include "backends/backend.hpp"
#include "backends/capture.hpp"
#include "core/error.hpp"
#include "train/checkpoint.hpp"

namespace varion {

namespace {
const char* const kReference = "reference";

/// The rate at which the steps are taken, as a share of optim.lr: so small that what is compared is the arithmetic, not how
/// fast a network makes large differences out of roundings (resnet20 at the rate of its recipe: threefold a step).
constexpr double kRate = 1e-3;

/// What a tensor may differ by. First weights are mean + noise and differ by a few roundings. Gradients, and all that is made
/// of them, differ by the order of sums, 1e-6, and by activations within a rounding of a kink, which pass the
/// gradient on one side only: 3e-3 in resnet20. With factors of 10 bits more of them do, with 7 bits more still (0.5 is reckoned, not measured).
/// AdamW divides an entry's gradient by its own size: where that is rounding, its first steps go one way or the other, and all that
/// follows with them (resnet20: mean 0.05, moments 0.14). Its first gradient is held to the rest.
double tolerance_of(const std::string& state, bool adam) {
  if (state == "first_weights") return 1e-5;
  const double least = adam && state != "first_gradient" ? 0.3 : 0;
  switch (backend::precision()) {
    case backend::Precision::tf32: return std::max(0.2, least);
    case backend::Precision::bf16: return std::max(0.5, least);
    default: return std::max(2e-2, least);
  }
}

const std::vector<float>* find(const io::PosteriorFile& f, const std::string& state) {
  if (state == "mean") return &f.mean;
  for (const auto& [name, flat] : f.states)
    if (name == state) return &flat;
  return nullptr;
}
}  // namespace

FirstSteps first_steps(Config config, Index steps, const Comm& comm) {
  const DataSet data = load_data(config);
  resolve_ess(config, data);
  const Exec exec = backend::separate_exec();  // as in training
  Layout layout;
  Trainer trainer(layout, config, data, exec, comm);
  Optimizer& optimizer = trainer.optimizer();
  FirstSteps out;
  for (const StateVector& s : optimizer.state()) out.start[s.name] = whole(s.data, optimizer, comm, true);
  std::vector<float> weights, gradient;
  const auto own = [&](const Vec& v) { return slice(v, optimizer.own_begin(), optimizer.own_size()); };
  if (optimizer.is_variational()) {
    const Vec w("varion::verify::weights", static_cast<size_t>(layout.size()));
    optimizer.perturb(exec, trainer.noise(1, 0), w);
    weights = whole(own(w), optimizer, comm, true);
  }
  RunPosition at;
  while (at.step < static_cast<std::uint64_t>(steps)) {
    trainer.step(++at.step, at.samples, kRate * config.real("optim.lr"), false);
    at.samples += static_cast<std::uint64_t>(trainer.batch());
    if (at.step == 1) gradient = whole(own(trainer.gradient()), optimizer, comm, true);
  }
  const StepNews news = trainer.news();
  require(news.report.nonfinite == 0 && std::isfinite(news.loss), Exit::diverged, "step ",
          news.report.first_bad > 0 ? news.report.first_bad : steps, ": not finite; lower optim.lr");
  out.file = to_file(layout, optimizer, config, data, at, "");
  for (const StateVector& s : optimizer.state()) {
    std::vector<float> values = whole(s.data, optimizer, comm, true);
    if (s.name == "mean") out.file.mean = std::move(values);
    for (auto& [name, flat] : out.file.states)
      if (name == s.name) flat = std::move(values);
  }
  out.file.root["kind"] = kReference;
  for (auto& [name, flat] : {std::pair{"first_weights", &weights}, {"first_gradient", &gradient}}) {
    if (flat->empty()) continue;
    out.start[name] = name == std::string("first_weights") ? out.start.at("mean") : std::vector<float>(flat->size());
    out.file.states.emplace_back(name, std::move(*flat));
  }
  return out;
}

std::pair<Config, Index> reference_config(const io::PosteriorFile& f, const std::string& name,
                                          const std::vector<std::pair<std::string, std::string>>& changes) {
  const auto kind = f.root.find("kind"), ini = f.model.find("config_ini");
  require(kind != f.root.end() && kind->second == kReference && ini != f.model.end() && f.step >= 1, Exit::data, name,
          ": no reference: write one with verify backend --record=FILE");
  Config config;
  config.read_text(ini->second, name + ":config_ini");
  for (const auto& [k, v] : changes) config.set(k, v, "command line");
  config.resolve();
  return {config, f.step};
}

std::vector<BackendDifference> compare_first_steps(const FirstSteps& ours, const io::PosteriorFile& reference,
                                                   const std::string& name) {
  require(reference.data.count("digest") != 0 && reference.data.at("digest") == ours.file.data.at("digest"), Exit::data,
          name, ": computed on other data (its digest differs)");
  std::vector<std::string> states;
  for (const char* first : {"first_weights", "first_gradient", "mean"})
    if (find(ours.file, first) != nullptr) states.push_back(first);
  for (const auto& [state, flat] : ours.file.states)
    if (std::find(states.begin(), states.end(), state) == states.end()) states.push_back(state);
  require(reference.tensors.size() == ours.file.tensors.size() && reference.states.size() == ours.file.states.size(),
          Exit::data, name, ": holds other tensors or vectors than this run");
  const bool adam = find(reference, "exp_avg_sq") != nullptr;
  std::vector<BackendDifference> out;
  for (size_t k = 0; k < reference.tensors.size(); ++k) {
    const io::TensorInfo &t = ours.file.tensors[k], &r = reference.tensors[k];
    require(t.name == r.name && t.shape == r.shape && t.offset == r.offset, Exit::data, name, ": holds '", r.name,
            "' where this run has '", t.name, "' or another shape of it");
    for (const std::string& state : states) {
      const std::vector<float>* theirs = find(reference, state);
      require(theirs != nullptr, Exit::data, name, ": no optim/", state);
      const std::vector<float>&a = *find(ours.file, state), &start = ours.start.at(state);
      double difference = 0, change = 0, size = 0;
      for (long i = t.offset; i < t.offset + t.size; ++i) {
        const auto at = static_cast<size_t>(i);
        const double x = static_cast<double>(a[at]), y = static_cast<double>((*theirs)[at]);
        const double begin = static_cast<double>(start[at]);
        difference += (x - y) * (x - y);
        change += (y - begin) * (y - begin);
        size += y * y;
      }
      // Changes close to the rounding of the numbers themselves say nothing.
      const double scale = std::max(std::sqrt(change), 1e-4 * std::sqrt(size));
      out.push_back({t.name, state, difference > 0 ? std::sqrt(difference) / scale : difference, tolerance_of(state, adam)});
    }
  }
  return out;
}

}  // namespace varion
