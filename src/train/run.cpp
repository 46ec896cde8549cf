#include "train/run.hpp"

#include <csignal>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "backends/backend.hpp"
#include "build_info.hpp"
#include "core/error.hpp"
#include "io/commit_file.hpp"
#include "optim/schedule.hpp"

namespace varion {

namespace {
volatile std::sig_atomic_t stop_requested = 0;
extern "C" void on_signal(int) { stop_requested = 1; }

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

std::vector<float> to_host(const Vec& v) {
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), v);
  return {host.data(), host.data() + host.extent(0)};
}

void to_vec(const std::vector<float>& from, const Vec& to) {
  Kokkos::deep_copy(to, Kokkos::View<const float*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(
                            from.data(), from.size()));
}
}  // namespace

void install_signal_handlers() {
  for (const int s : {SIGUSR1, SIGTERM, SIGINT}) std::signal(s, on_signal);
  std::signal(SIGXFSZ, SIG_IGN);  // a file-size limit becomes an error that we report
}

std::string run_directory(const Config& config) {
  const std::string name = config.text("run.name");
  require(!name.empty() && name.size() < 200 && name[0] != '.', Exit::config, "run.name = '", name,
          "' must be 1 to 199 characters and not start with a dot");
  for (const char c : name)
    require(std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-',
            Exit::config, "run.name = '", name, "': use letters, digits, '.', '_' and '-' only");
  std::string dir = config.text("run.dir");
  if (const size_t at = dir.find("{name}"); at != std::string::npos) dir.replace(at, 6, name);
  return dir;
}

void resolve_ess(Config& config, const DataSet& data) {
  if (config.has("optim.ess") && config.text("optim.ess") == "auto")
    config.set("optim.ess", std::to_string(data.train.count), "auto: training examples");
}

io::PosteriorFile to_file(const Layout& layout, const Optimizer& optimizer, const Config& config,
                          const DataSet& data, std::uint64_t step) {
  io::PosteriorFile f;
  for (const Parameter& p : layout.parameters()) {
    io::TensorInfo t;
    t.name = p.name;
    for (int i = 0; i < p.shape.rank; ++i) t.shape.push_back(p.shape[i]);
    t.offset = p.offset;
    t.size = p.size();
    f.tensors.push_back(t);
  }
  for (const StateVector& s : optimizer.state()) {
    if (s.name == "mean")
      f.mean = to_host(s.data);
    else
      f.states.emplace_back(s.name, to_host(s.data));
  }
  f.optimizer = optimizer.name();
  for (const auto& [k, v] : optimizer.attributes()) f.optim[k] = v;
  f.step = static_cast<long>(step);
  f.root = {{"kind", "checkpoint"}, {"run_name", config.text("run.name")}};
  f.model = {{"name", config.text("model.name")},
             {"n_params", std::to_string(layout.size())},
             {"config_ini", config.ini(false)}};
  f.train = {{"step", std::to_string(step)}};
  f.rng = {{"generator", "philox4x32-10"}, {"seed", config.text("run.seed")}};
  f.data = {{"name", data.name}, {"digest", std::to_string(digest(data))}};
  return f;
}

void from_file(const io::PosteriorFile& f, const std::string& name, const Layout& layout,
               Optimizer& optimizer, const DataSet& data, bool any_data) {
  require(f.tensors.size() == layout.parameters().size(), Exit::data, name, ": holds ",
          f.tensors.size(), " tensors, the model has ", layout.parameters().size());
  for (const io::TensorInfo& t : f.tensors) {
    const int i = layout.find(t.name);
    require(i >= 0, Exit::data, name, ": the model has no parameter '", t.name, "'");
    const Shape& s = layout[i].shape;
    bool same = static_cast<int>(t.shape.size()) == s.rank && t.offset == layout[i].offset;
    for (int k = 0; same && k < s.rank; ++k) same = t.shape[static_cast<size_t>(k)] == s[k];
    require(same, Exit::data, name, ": '", t.name, "' has another shape than the model's ", s.text());
  }
  require(f.optimizer == optimizer.name(), Exit::data, name, ": written by optimizer ", f.optimizer,
          ", not ", optimizer.name());
  require(any_data || f.data.at("digest") == std::to_string(digest(data)), Exit::data, name,
          ": the training data has changed since it was written");
  for (const StateVector& s : optimizer.state()) {
    const std::vector<float>* values = s.name == "mean" ? &f.mean : nullptr;
    for (const auto& [state, flat] : f.states)
      if (state == s.name) values = &flat;
    require(values != nullptr, Exit::data, name, ": no optim/", s.name);
    require(values->size() == s.data.extent(0), Exit::data, name, ": ", s.name, " has ",
            values->size(), " entries, not ", s.data.extent(0));
    to_vec(*values, s.data);
  }
  const Vec sigma = optimizer.sigma(Exec());
  if (sigma.extent(0) > 0) {
    const auto host = to_host(sigma);
    for (size_t i = 0; i < host.size(); ++i)
      require(host[i] > 0 && std::isfinite(host[i]), Exit::data, name,
              ": hess + weight_decay is not positive at index ", i);
  }
}

std::unique_ptr<Restored> restore(const std::string& path) {
  auto r = std::make_unique<Restored>();
  r->file = io::load_posterior(path);
  require(r->file.model.count("config_ini") != 0, Exit::data, path, ": no model/config_ini");
  r->config.read_text(r->file.model["config_ini"], path + ":config_ini");
  r->config.resolve();
  r->data = load_data(r->config);
  resolve_ess(r->config, r->data);
  r->evaluator = std::make_unique<Evaluator>(r->layout, r->config, r->data, Exec());
  r->optimizer =
      Optimizers::of().find(r->config.text("optim.name")).make(r->layout, r->config);
  from_file(r->file, path, r->layout, *r->optimizer, r->data, false);
  return r;
}

Metrics final_metrics(Evaluator& evaluator, const Optimizer& optimizer, const DataSet& data,
                      const Config& config) {
  Metrics out;
  const auto seed = static_cast<std::uint64_t>(config.integer("run.seed"));
  const int samples = static_cast<int>(config.integer("eval.samples"));
  for (const auto& [k, v] : evaluator.at(data.test, optimizer.mean())) out["mean/" + k] = v;
  const auto confidence = [&] {  // largest probability of every example
    std::vector<double> c;
    const auto& p = evaluator.last_probabilities;
    const auto w = static_cast<size_t>(data.classes);
    for (size_t i = 0; i < p.size(); i += w)
      c.push_back(*std::max_element(p.begin() + static_cast<long>(i), p.begin() + static_cast<long>(i + w)));
    return c;
  };
  const bool shifted = data.classes > 0 && data.shifted.count > 0;
  const auto ood = [&](const std::string& key, const auto& evaluate) {
    // In-domain is the positive class, the score is the largest probability (paper, section 5).
    std::vector<double> score = confidence();
    std::vector<char> inside(score.size(), 1);
    evaluate();
    for (const double c : confidence()) score.push_back(c);
    inside.resize(score.size(), 0);
    out[key] = auroc(score, inside);
  };
  if (shifted) ood("mean/ood_auroc", [&] { evaluator.at(data.shifted, optimizer.mean()); });
  for (const auto& [k, v] : evaluator.averaged(data.test, optimizer, seed, samples)) out["test/" + k] = v;
  const auto diagram = evaluator.reliability;
  if (shifted)
    ood("test/ood_auroc", [&] { evaluator.averaged(data.shifted, optimizer, seed + 1, samples); });
  evaluator.reliability = diagram;
  return out;
}

namespace {
/// Files of the run directory.
class RunFolder {
 public:
  RunFolder(std::string dir, bool quiet) : dir_(std::move(dir)), quiet_(quiet) {
    io::make_folder(dir_ + "/checkpoints");
  }
  const std::string& dir() const { return dir_; }
  std::string checkpoints() const { return dir_ + "/checkpoints"; }
  void say(const std::string& line) {
    log_ += line + "\n";
    if (!quiet_) {
      std::printf("%s\n", line.c_str());
      std::fflush(stdout);
    }
  }
  void record(const nlohmann::json& row) { rows_.push_back(row); }
  /// Rows of an earlier part of the run, up to the step it continues from.
  void recover(std::uint64_t step) {
    if (io::list_files(dir_).empty()) return;
    try {
      const std::string old = io::read_file(dir_ + "/metrics.jsonl", size_t(1) << 30);
      std::stringstream in(old);
      for (std::string line; std::getline(in, line);) {
        const auto row = nlohmann::json::parse(line, nullptr, false);
        if (!row.is_discarded() && row.value("step", std::uint64_t(0)) <= step) rows_.push_back(row);
      }
      log_ = io::read_file(dir_ + "/log.txt", size_t(1) << 30) + "--- continued from step " +
             std::to_string(step) + "\n";
    } catch (const Error&) {
      // No records yet: the run stopped before its first one.
    }
  }
  void flush() const {
    std::string lines;
    for (const auto& row : rows_) lines += row.dump() + "\n";
    io::commit_file(dir_, "metrics.jsonl", lines);
    io::commit_file(dir_, "log.txt", log_);
  }
  void status(const std::string& state, std::uint64_t step, Exit code, const Metrics& metrics) const {
    nlohmann::json j{{"state", state}, {"step", step}, {"exit_code", static_cast<int>(code)}};
    for (const auto& [k, v] : metrics) j["metrics"][k] = v;
    io::commit_file(dir_, "status.json", j.dump(1) + "\n");
  }

 private:
  std::string dir_, log_;
  bool quiet_;
  std::vector<nlohmann::json> rows_;
};

double median(std::vector<float> v) {
  const auto middle = v.begin() + static_cast<long>(v.size() / 2);
  std::nth_element(v.begin(), middle, v.end());
  return static_cast<double>(*middle);
}
}  // namespace

RunOutcome train_run(Config config, bool quiet) {
  const std::string dir = run_directory(config);
  const DataSet data = load_data(config);
  resolve_ess(config, data);
  const Schedule& schedule = Schedules::of().find(config.text("optim.schedule"));
  const Exec exec;
  Layout layout;
  Trainer trainer(layout, config, data, exec);
  Evaluator evaluator(layout, config, data, exec);
  Optimizer& optimizer = trainer.optimizer();
  const Index per_epoch = trainer.steps_per_epoch();
  const Index total = config.integer("train.steps") > 0
                          ? config.integer("train.steps")
                          : static_cast<Index>(std::llround(config.real("train.epochs") *
                                                            static_cast<double>(per_epoch)));
  const Index eval_every = interval_steps(config, "eval.every", per_epoch);
  const Index save_every = interval_steps(config, "checkpoint.every", per_epoch);
  const Index log_every = interval_steps(config, "log.every", per_epoch);
  const Index warmup = interval_steps(config, "optim.warmup", per_epoch);
  const Index stop_after = config.integer("train.stop_after");

  const std::string resume = config.text("run.resume");
  RunFolder folder(dir, quiet);
  std::vector<std::string> refused;
  const std::string newest =
      resume == "never" ? "" : io::newest_checkpoint(folder.checkpoints(), refused);
  for (const std::string& why : refused) folder.say("skipped: " + why);
  require(resume != "must" || !newest.empty(), Exit::no_input, "run.resume = must, but '",
          folder.checkpoints(), "' has no valid checkpoint");
  require(resume != "never" || config.flag("run.overwrite") || io::list_files(dir).empty(),
          Exit::cant_create, "'", dir, "' already holds a run: take another run.name, or run.overwrite=true");
  std::uint64_t step = 0;
  if (!newest.empty()) {
    const io::PosteriorFile f = io::load_posterior(newest);
    from_file(f, newest, layout, optimizer, data, false);
    step = static_cast<std::uint64_t>(f.step);
    folder.recover(step);
  }
  io::commit_file(dir, "config.ini", config.ini(false));
  const nlohmann::json env{{"version", VARION_VERSION}, {"git", VARION_GIT}, {"compiler", VARION_COMPILER},
                           {"build", VARION_BUILD_TYPE}, {"flags", VARION_BUILD_FLAGS},
                           {"device", backend::devices()[0]}, {"provider", backend::provider().name()}};
  io::commit_file(dir, "env.json", env.dump(1) + "\n");
  folder.status("running", step, Exit::ok, {});

  folder.say(text("varion ", VARION_VERSION, " ", VARION_GIT, ", ", backend::devices()[0], ", ",
                  backend::provider().description()));
  folder.say(text(config.text("model.name"), ": ", layout.size(), " parameters; ", data.name, ": ",
                  data.train.count, " examples; ", optimizer.name(), ", lr ", config.text("optim.lr"),
                  optimizer.is_variational() ? ", ess " + config.text("optim.ess") : "",
                  "; ", total, " steps of ", std::min(config.integer("data.global_batch"), data.train.count)));
  if (step > 0) folder.say(text("continuing from ", newest, " at step ", step));

  const auto save = [&] {
    char name[40];
    std::snprintf(name, sizeof name, "step-%010llu.h5", static_cast<unsigned long long>(step));
    io::save_posterior(folder.checkpoints(), name, to_file(layout, optimizer, config, data, step));
    io::prune_checkpoints(folder.checkpoints(), static_cast<int>(config.integer("checkpoint.keep")));
    folder.flush();
  };
  const double seed_hess = optimizer.is_variational() ? config.real("optim.hess_init") : 0;
  double refused_updates = 0, trained = 0;
  std::uint64_t timed = 0;
  while (step < static_cast<std::uint64_t>(total)) {
    const Progress progress{static_cast<Index>(step), total, per_epoch, warmup,
                            config.real("optim.final_lr_frac")};
    const double lr = config.real("optim.lr") * schedule.factor(progress);
    const auto begin = Clock::now();
    const double loss = trainer.step(++step, lr);
    const StepReport report = optimizer.take_report(exec);
    trained += seconds_since(begin);
    ++timed;
    refused_updates += report.nonpositive;
    const Index now = static_cast<Index>(step);
    if ((report.nonfinite > 0 || !std::isfinite(loss)) && config.flag("train.stop_on_nonfinite")) {
      const std::string message = text("step ", step, ": loss ", loss, ", ", report.nonfinite,
                                       " non-finite entries in the optimizer's state");
      folder.say(message);
      folder.flush();
      folder.status("diverged", step, Exit::diverged, {});
      fail(Exit::diverged, message, "; lower optim.lr or raise optim.hess_init");
    }
    if (log_every > 0 && now % log_every == 0) {
      nlohmann::json row{{"step", step}, {"epoch", static_cast<double>(now) / static_cast<double>(per_epoch)},
                         {"train_loss", loss}, {"lr", lr}, {"grad_norm", trainer.gradient_norm()}};
      std::string health;
      for (const StateVector& s : optimizer.state())
        if (s.name == "hess") {
          const std::vector<float> h = to_host(s.data);
          double unmoved = 0;
          for (const float v : h) unmoved += std::abs(static_cast<double>(v) / seed_hess - 1) < 1e-3;
          unmoved /= static_cast<double>(h.size());
          row["hess_median"] = median(h);
          row["sigma_median"] = median(to_host(optimizer.sigma(exec)));
          row["hess_unmoved"] = unmoved;
          row["nonpositive"] = refused_updates;
          health = text("  hess ", row["hess_median"].get<double>(), "  sigma ",
                        row["sigma_median"].get<double>());
          if (unmoved > 0.99 && now * 2 > total)
            health += "  hint: the Hessian has not moved; lower optim.beta2 or optim.hess_init";
        }
      folder.record(row);
      char line[160];
      std::snprintf(line, sizeof line, "step %8lld  epoch %7.2f  loss %8.4f  |g| %8.3g  %8.0f examples/s",
                    static_cast<long long>(now), static_cast<double>(now) / static_cast<double>(per_epoch), loss,
                    trainer.gradient_norm(),
                    static_cast<double>(timed) * static_cast<double>(config.integer("data.global_batch")) / trained);
      folder.say(line + health);
    }
    if (eval_every > 0 && now % eval_every == 0 && now < total) {
      nlohmann::json row{{"step", step}};
      std::string line = text("step ", step, " at the mean:");
      for (const auto& [k, v] : evaluator.at(data.test, optimizer.mean())) {
        row["val/" + k] = v;
        line += text("  ", k, " ", v);
      }
      folder.record(row);
      folder.say(line);
    }
    if ((stop_requested != 0 || now == stop_after) && now < total) {
      save();
      folder.status("interrupted", step, Exit::stopped, {});
      folder.say(text("stopped at step ", step, " with a complete checkpoint; the same command continues"));
      return {Exit::stopped, {}};
    }
    if (save_every > 0 && now % save_every == 0 && now < total) save();
  }
  RunOutcome outcome;
  outcome.metrics = final_metrics(evaluator, optimizer, data, config);
  outcome.metrics["seconds_per_step"] = timed > 0 ? trained / static_cast<double>(timed) : 0;
  outcome.metrics["nonpositive"] = refused_updates;
  nlohmann::json row{{"step", step}};
  for (const auto& [k, v] : outcome.metrics) {
    row[k] = v;
    folder.say(text("  ", k, " ", v));
  }
  if (refused_updates > 0)
    folder.say(text(refused_updates, optimizer.name() == "von"
                                         ? " Hessian updates refused: they would have made the precision non-positive"
                                         : " Hessian entries held at the float32 floor"));
  folder.record(row);
  save();
  io::PosteriorFile final_file = to_file(layout, optimizer, config, data, step);
  final_file.root["kind"] = "posterior";
  io::save_posterior(dir, "final.h5", final_file);
  folder.flush();
  folder.status("done", step, Exit::ok, outcome.metrics);
  io::commit_file(dir, "DONE", "");
  return outcome;
}

}  // namespace varion
