#include "train/run.hpp"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "backends/backend.hpp"
#include "backends/capture.hpp"
#include "build_info.hpp"
#include "comm/mpi_session.hpp"
#include "core/error.hpp"
#include "core/inject.hpp"
#include "core/suggest.hpp"
#include "io/commit_file.hpp"
#include "io/folder_lock.hpp"
#include "io/input_file.hpp"
#include "optim/schedule.hpp"
#include "train/checkpoint_writer.hpp"
#include "train/evaluator.hpp"
#include "train/hess_statistics.hpp"
#include "train/job_time.hpp"
#include "train/nonfinite.hpp"
#include "train/ranks.hpp"
#include "train/resume.hpp"
#include "train/start_values.hpp"
#include "train/state_hash.hpp"
#include "train/stop_signals.hpp"
#include "train/watchdog.hpp"

namespace varion {

namespace {
using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

std::string environment_json(const std::vector<std::string>& ranks) {
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  nlohmann::json env{{"version", VARION_VERSION},
                           {"git", VARION_GIT},
                           {"compiler", VARION_COMPILER},
                           {"build", VARION_BUILD_TYPE},
                           {"flags", VARION_BUILD_FLAGS},
                           {"kokkos", VARION_KOKKOS_VERSION},
                           {"host", host},
                           {"device", backend::devices()[0]},
                           {"provider", backend::provider().name()}};
  if (!ranks.empty()) env["ranks"] = ranks;
  return env.dump(1) + "\n";
}

std::string number(double v) {
  char s[32];
  std::snprintf(s, sizeof s, "%.4g", v);
  return s;
}

class Run {
 public:
  Run(Config config, bool quiet, const Comm& comm)
      : comm_(comm),
        config_(std::move(config)),
        allowed_(seconds_allowed(config_)),
        watchdog_(watchdog_limit(config_), comm.rank()),
        folder_(run_directory(config_), quiet, comm.is_first()),
        output_now_(folder_.dir(), "output_now"),
        found_(find_checkpoint(config_, folder_, comm)),
        data_(load(config_, comm)),
        schedule_(Schedules::of().find(config_.text("optim.schedule"))),
        trainer_(layout_, config_, data_, exec_, comm),
        evaluator_(layout_, config_, data_, exec_, comm),
        optimizer_(trainer_.optimizer()),
        policy_(spike_policy(config_)),
        rule_(config_),
        writer_(optimizer_, exec_, comm, config_.flag("checkpoint.parallel_io")) {
    MpiSession::limit_end(watchdog_limit(config_));
    best_ = best_metric();
    if (policy_ != SpikePolicy::off) judge_ = [this] { return judge(); };
    const Index epoch = trainer_.steps_per_epoch();
    total_ = config_.integer("train.steps");
    if (const double epochs = config_.real("train.epochs"); total_ == 0 && epochs > 0)
      total_ = std::max(std::llround(epochs * static_cast<double>(epoch)), 1ll);
    evaluate_every_ = interval(config_, "eval.every", epoch, false);
    save_every_ = interval(config_, "checkpoint.every", epoch, true);
    log_every_ = interval(config_, "log.every", epoch, false);
    stats_every_ = interval(config_, "log.hess_stats_every", epoch, false);
    hash_every_ = interval(config_, "log.state_hash_every", epoch, false);
    warmup_ = interval(config_, "optim.warmup", epoch, false).steps;
    evaluator_.between_passes = evaluator_.working = [this] { watchdog_.beat(Phase::evaluate, at_.step); };
    writer_.progressed = [this] { watchdog_.beat(Phase::save, at_.step); };
    trainer_.before_update = [this] {
      const Clock::time_point begin = Clock::now();
      writer_.release();
      stalled_ += seconds_since(begin);
    };
  }

  RunOutcome execute() {
    if (begin()) return finished_before();
    try {
      return loop();
    } catch (const Error& e) {
      ended_with(e.code());
      throw;
    } catch (const std::exception&) {
      ended_with(Exit::internal);
      throw;
    }
  }

 private:
  static DataSet load(Config& config, const Comm& comm) {
    DataSet data = load_data(config);
    inject::process("data", 0);
    resolve_ess(config, data);
    require_alike(comm, {{"program", text(VARION_VERSION, " ", VARION_GIT, " ", VARION_COMPILER, " ", VARION_BUILD_FLAGS)},
                         {"provider", backend::provider().name()},
                         {"configuration", config.ini(false)},
                         {"data set (its digest differs)", std::to_string(data.digest)}});
    return data;
  }

  /// What is on disk stays whole. A disk that does not even take the status must not hide the cause.
  void ended_with(Exit code) {
    try {
      folder_.status(code == Exit::diverged ? "diverged" : "failed", at_.step, code, {});
    } catch (const Error&) {
    }
  }

  Index now() const { return static_cast<Index>(at_.step); }
  bool is_finished() const {
    const auto files = comm_.is_first() ? io::list_files(folder_.dir(), true) : std::vector<std::string>();
    const bool done = std::count(files.begin(), files.end(), "DONE") > 0;
    return comm_.any(done) != 0 && now() >= total_;
  }

  /// State and position of a checkpoint.
  void take_up(const io::PosteriorFile& f, const std::string& name) {
    from_file(f, name, layout_, optimizer_, data_);
    at_ = position_of(f, name);
    if (policy_ == SpikePolicy::off) at_.spikes = {{}, {}, {}, at_.spikes.skipped};  // a window with a gap is none
    const auto uuid = f.root.find("uuid");
    if (uuid != f.root.end()) at_.parent_uuid = uuid->second;
    trainer_.skipped(at_.spikes.skipped);
    trainer_.state_replaced();
  }

  /// Takes up the newest valid checkpoint, if any. True when the run had finished before.
  bool begin() {
    const std::string resume = config_.text("run.resume"), dir = folder_.dir(), newest = found_.path;
    const std::vector<std::string>& refused = found_.refused;
    const bool replaces = resume == "never" && found_.holds_run;  // known to the first rank
    require(!replaces || config_.flag("run.overwrite"), Exit::cant_create, "'", dir,
            "' already holds a run: take another run.name, or add run.overwrite=true");
    if (comm_.is_first()) {
      require(!newest.empty() || refused.empty(), Exit::data, "no checkpoint of '", dir, "' is valid: ", join(refused, "; "),
              "; run.resume=never run.overwrite=true starts afresh");
      require(resume != "must" || !newest.empty(), Exit::no_input, "run.resume = must, but '", folder_.checkpoints(), "' has no checkpoint");
    }
    std::vector<std::string> notes;
    std::string start;
    const std::vector<std::string> map = comm_.size() > 1 ? rank_map(comm_, config_.flag("parallel.share_devices"))
                                                          : std::vector<std::string>();
    if (newest.empty()) {
      if (resume != "never" && has_results()) return true;
      start = take_start_values(config_, layout_, &optimizer_, comm_);
      if (replaces) {  // nothing goes before all that may be refused has been taken
        io::probe_folder(folder_.checkpoints());
        for (const char* f : {"DONE", "final.h5", "best.h5", "metrics.csv"}) io::remove_file(dir + "/" + f);
        io::prune_checkpoints(folder_.checkpoints(), 0);
      }
      folder_.start();
    } else {
      const io::PosteriorFile& f = found_.file;
      take_start_values(config_, layout_, nullptr, comm_);  // the frozen parameters are not in a checkpoint
      notes = changes_since(config_, f, newest);
      take_up(f, newest);
      if (config_.flag("run.overwrite"))
        notes.push_back(text("run.overwrite=true starts afresh only with run.resume=never: what '", dir, "' holds is taken up"));
      if (is_finished()) {
        for (const std::string& note : notes) folder_.say("note: " + note);
        if (!notes.empty()) folder_.say("note: that has no part in what follows; another run.name, or run.resume=never run.overwrite=true, trains with it");
        return true;
      }
      folder_.resume(at_.records, at_.step);
      if (comm_.is_first()) io::remove_file(dir + "/DONE");
      found_.file = {};
    }
    if (data_.vocabulary > 0 && config_.has("model.positions") && config_.integer("model.positions") > config_.integer("data.length") && config_.text("model.init") == "random")
      notes.push_back(text("data.length = ", config_.text("data.length"), " trains that many of the ", config_.text("model.positions"),
                           " positions of model.positions: the others stay as drawn"));
    frozen_digest_ = frozen_digest(layout_);
    for (const std::string& why : refused) folder_.say("skipped: " + why);
    if (comm_.is_first()) look_at_storage();
    environment_ = environment_json(map);
    if (comm_.is_first()) {
      io::commit_file(dir, "config.ini", config_.ini(false));
      io::commit_file(dir, "env.json", environment_);
    }
    folder_.status("running", at_.step, Exit::ok, {});
    folder_.say(text("varion ", VARION_VERSION, " ", VARION_GIT, ", ", backend::devices()[0], ", ",
                     backend::provider().description()));
    folder_.say(text(config_.text("model.name"), ": ", layout_.size(), " parameters, ",
                     layout_.frozen_size() > 0 ? text(layout_.frozen_size(), " frozen ones, ") : "",
                     layout_.size() * static_cast<Index>(optimizer_.state().size()) * 4 / 1000, " kB of state, ",
                     trainer_.arena_words() * 4 / 1000, " kB of activations; ", data_.name, ": ", data_.train.count,
                     " examples; ", optimizer_.name(), ", lr ", config_.text("optim.lr"),
                     optimizer_.is_variational() ? ", ess " + config_.text("optim.ess") : "", "; ", total_,
                     " steps of ", trainer_.batch(),
                     trainer_.slots() > 1 ? text(" in ", trainer_.slots(), " slots on ", comm_.size(), " ranks, ",
                                                 config_.text("parallel.mode"))
                                          : ""));
    if (!start.empty()) folder_.say(start);
    for (const std::string& line : map) folder_.say(line);
    if (at_.step > 0) folder_.say(text("continuing from ", newest, " at step ", at_.step));
    for (const std::string& note : notes) folder_.say("note: " + note);
    return false;
  }

  /// Whether a run that is done stands here without its checkpoints; its step is then `at_`. Errors (73): it cannot be continued.
  bool has_results() {
    const std::string dir = folder_.dir();
    const auto there = [&](const char* name) { return std::filesystem::exists(dir + name); };
    if (comm_.any(comm_.is_first() && (there("/DONE") || there("/final.h5"))) == 0) return false;
    if (comm_.is_first() && there("/DONE") && there("/status.json")) {
      const auto status = nlohmann::json::parse(io::read_file(dir + "/status.json", size_t(1) << 20), nullptr, false);
      if (status.is_object() && status.contains("step") && status["step"].is_number_unsigned()) at_.step = status["step"].get<std::uint64_t>();
    }
    at_.step = std::stoull(comm_.from_first(std::to_string(at_.step)));
    require(now() >= total_, Exit::cant_create, "'", dir, "' holds the results of a run, and no checkpoint to go on from: take another ",
            "run.name, or run.resume=never run.overwrite=true");
    return true;
  }

  /// What can be known before the first step. Errors: 73, 74.
  void look_at_storage() {
    if (!folder_.lock_note().empty()) folder_.say("note: " + folder_.lock_note());
    const Clock::time_point begin = Clock::now();
    io::probe_folder(folder_.checkpoints());
    if (const double took = seconds_since(begin); took > 1)
      folder_.say(text("note: to write, sync and read back a few bytes in ", folder_.checkpoints(), " took ", took, " s"));
    const auto size = static_cast<double>(layout_.size()) * 4 * static_cast<double>(optimizer_.state().size());
    expected_save_ = size / 2e8;  // a slow disk
    const double needed = size * static_cast<double>(config_.integer("checkpoint.keep") + 3);  // best, final, one being written
    const auto free = static_cast<double>(io::free_space(folder_.dir()));
    if (free < needed)
      folder_.say(text("note: ", free / 1e6, " MB are free in ", folder_.dir(), ", checkpoints may take ", needed / 1e6, " MB"));
  }

  RunOutcome finished_before() {
    RunOutcome outcome;
    const auto status = nlohmann::json::parse(io::read_file(folder_.dir() + "/status.json", size_t(1) << 20), nullptr, false);
    if (status.is_object() && status.contains("metrics"))
      for (const auto& [k, v] : status["metrics"].items())
        if (v.is_number()) outcome.metrics[k] = v.get<double>();
    folder_.say("finished before, at step " + std::to_string(at_.step) + "; more epochs continue it");
    for (const auto& [k, v] : outcome.metrics) folder_.say(text("  ", k, " ", v));
    return outcome;
  }

  /// Begins to write the state as it stands; what changes it waits until it has been read. Collective.
  void write(const std::string& dir, const std::string& name, const std::string& kind, std::function<void()> after) {
    watchdog_.beat(Phase::save, at_.step);
    const Clock::time_point begin = Clock::now();
    at_.records = folder_.mark();
    FileOrder order{dir, name, to_file(layout_, optimizer_, config_, data_, at_, environment_), at_.step, at_.samples, at_.spikes.skipped,
                    config_.flag("train.stop_on_nonfinite"), {}, {}};
    order.file.root["kind"] = kind;
    if (!frozen_digest_.empty()) order.file.model["frozen_digest"] = frozen_digest_;
    const std::vector<std::string> keys{"step", "train_loss", "lr", "grad_norm"};
    for (const std::string& k : keys) order.file.history[k] = folder_.column(k, keys);
    order.before = [this, step = at_.step] {
      folder_.sync();  // a checkpoint names these records: they reach the disk first
      inject::process("write", step);
    };
    order.after = [this, begin, after = std::move(after)] {
      after();
      if (const double took = seconds_since(begin); took > slowest_save_) slowest_save_ = took;
    };
    writer_.begin(std::move(order));
    stalled_ += seconds_since(begin);
    ++saves_;
  }

  /// A checkpoint.
  void save() {
    saved_ = Clock::now();
    inject::process("save", at_.step);
    write(folder_.checkpoints(), io::checkpoint_name(at_.step), "checkpoint", [this, step = at_.step, records = folder_.records()] {
      io::prune_checkpoints(folder_.checkpoints(), static_cast<int>(config_.integer("checkpoint.keep")), step);
      folder_.write_csv(records);
    });
  }

  /// best.h5 or final.h5.
  void save_posterior(const std::string& name) { write(folder_.dir(), name, "posterior", [] {}); }

  /// Whether what is left of the time is needed to save: three times what that has taken so far, and a step.
  bool out_of_time() const {
    const double save = slowest_save_ > 0 ? slowest_save_.load() : expected_save_;
    return allowed_ && *allowed_ - seconds_since(started_) < 3 * save + std::max(2.0, 2 * slowest_step_);
  }

  /// What ranks must do together though each sees it by itself: bit 0 stop, bit 1 save, bit 2 leave the file be that is being written.
  std::uint64_t agree() {
    std::uint64_t bits = (stop_requested() ? 1 : 0) | (writer_.is_busy() ? 4 : 0);
    if (comm_.is_first()) {
      if (out_of_time()) bits |= 1;
      if (save_every_.seconds > 0 && seconds_since(saved_) >= save_every_.seconds) bits |= 2;
      if (output_now_.arrived()) bits |= 2;
    }
    return comm_.any(bits);
  }

  /// The state's hash, on all ranks. Errors (70): a rank's state is another one, by whatever fault.
  std::string agreed_hash() const {
    const std::string own = state_hash(exec_, optimizer_, at_.step, at_.samples, at_.spikes.skipped, comm_);
    require_same_state(own, at_.step, comm_);
    return own;
  }

  /// Whether the step is to be updated; asked where there is a spike policy. On all ranks alike.
  bool judge() {
    const StepNews news = trainer_.news();
    at_.nonpositive += static_cast<double>(news.report.nonpositive);
    loss_ = news.loss;
    norm_ = news.gradient_norm;
    if (news.report.nonfinite > 0) return bad_state(news), false;
    std::string cause = std::isfinite(news.curvature_norm) ? rule_.judge(news.loss, norm_, at_.spikes) : "the curvature estimate is not finite";
    if (cause.empty()) return true;
    if (!std::isfinite(loss_) || !std::isfinite(norm_) || !std::isfinite(news.curvature_norm)) {
      const std::string broken = first_nonfinite(optimizer_.state(), optimizer_, layout_, comm_);
      require(broken.empty() || policy_ != SpikePolicy::skip, Exit::diverged, "step ", at_.step, ": ", cause, broken, ": skipping does not mend it");
      cause += broken.empty() ? first_nonfinite(gradients(), optimizer_, layout_, comm_) : broken;
    }
    remember(at_.step, cause);
    if (!rolls_back_) skip(cause);
    return false;
  }

  /// Ends the run (10); a checkpoint that has been begun, of a state before that, is finished.
  [[noreturn]] void diverge(const std::string& message, const std::string& more) {
    folder_.say(message);
    writer_.finish();
    fail(Exit::diverged, message, more);
  }

  /// A spike is known. Errors (10): by policy, or there are too many.
  void remember(std::uint64_t step, const std::string& cause) {
    const bool many = rule_.add(step, cause, at_.spikes);
    rolls_back_ = policy_ == SpikePolicy::rollback;
    if (policy_ != SpikePolicy::stop && !many) return;
    diverge(text("step ", step, ": ", cause), many && policy_ != SpikePolicy::stop ? text("; more than train.spike_limit = ", config_.text("train.spike_limit"),
                                                                              " spikes in ", config_.text("train.spike_window"), " steps") : "");
  }

  /// The step goes by without an update.
  void skip(const std::string& cause) {
    trainer_.skipped(++at_.spikes.skipped);
    skipped_ = true;
    folder_.record({{"step", at_.step}, {"skipped", cause}});
    folder_.say(text("step ", at_.step, " skipped: ", cause));
  }

  /// An update has left a state that is none. Errors (10): there is no checkpoint to go back to by policy.
  void bad_state(const StepNews& news) {
    const auto bad = static_cast<std::uint64_t>(news.report.first_bad);
    const std::string cause = text(news.report.nonfinite, " non-finite entries in the optimizer's state", first_nonfinite(optimizer_.state(), optimizer_, layout_, comm_));
    if (policy_ == SpikePolicy::rollback) return remember(bad, cause);
    diverge(text("step ", bad, ": ", cause), "");
  }

  /// Takes the newest valid checkpoint up again. The steps with spikes are passed over when they come round.
  void roll_back() {
    rolls_back_ = false;
    unread_ = 0;
    writer_.finish();
    const std::string cause = at_.spikes.spikes.rbegin()->second;
    const std::uint64_t spike = at_.spikes.spikes.rbegin()->first;
    Config config = config_;
    config.set("run.resume", "auto", "rollback");
    const FoundCheckpoint newest = find_checkpoint(config, folder_, comm_);
    require(!newest.path.empty(), Exit::diverged, "step ", spike, ": ", cause, "; there is no valid checkpoint to go back to");
    const auto spikes = at_.spikes.spikes;
    take_up(newest.file, newest.path);
    at_.spikes.spikes = spikes;
    folder_.resume(at_.records, at_.step);
    folder_.say(text("step ", spike, ": ", cause, "; back to step ", at_.step));
  }

  /// Queues one optimizer step.
  void step(bool want_norm) {
    if (const auto spike = at_.spikes.spikes.find(at_.step + 1); spike != at_.spikes.spikes.end()) {
      ++at_.step;
      at_.samples += static_cast<std::uint64_t>(trainer_.batch());
      return skip(spike->second);
    }
    const Progress progress{now(), total_, trainer_.steps_per_epoch(), warmup_,
                            config_.real("optim.final_lr_frac")};
    lr_ = config_.real("optim.lr") * schedule_.factor(progress);
    if (unread_ == 0) began_ = Clock::now();
    trainer_.step(++at_.step, at_.samples, lr_, want_norm, judge_);
    at_.samples += static_cast<std::uint64_t>(trainer_.batch());
    ++unread_;
  }

  /// What a step's update is made of, this rank's stretch.
  std::vector<StateVector> gradients() {
    const auto own = [&](const Vec& v) { return slice(v, optimizer_.own_begin(), optimizer_.own_size()); };
    std::vector<StateVector> all{{"gradient", own(trainer_.gradient())}};
    if (const std::vector<Vec> collected = optimizer_.collected(); collected.size() > 1) all.push_back({"curvature", own(collected[1])});
    return all;
  }

  /// Waits for the steps queued and learns how they went: once a logging interval, and before anything is written.
  /// Errors: 10 when a number was not finite; nothing has been saved since.
  void read_news() {
    if (unread_ == 0) return;
    if (unread_ > 1) watchdog_.beat(Phase::wait, at_.step);
    const StepNews news = trainer_.news();
    if (unread_ > 1) watchdog_.beat(Phase::step, at_.step);
    trained_ += seconds_since(began_);
    timed_ += unread_;
    unread_ = 0;
    loss_ = news.loss;
    norm_ = news.gradient_norm;
    at_.nonpositive += static_cast<double>(news.report.nonpositive);
    if (policy_ != SpikePolicy::off) {  // the losses have been judged
      if (news.report.nonfinite > 0) bad_state(news);
      return;
    }
    if ((news.report.nonfinite > 0 || news.bad_loss > 0) && config_.flag("train.stop_on_nonfinite")) {
      std::uint64_t bad = news.bad_loss;
      if (news.report.nonfinite > 0 && (bad == 0 || static_cast<std::uint64_t>(news.report.first_bad) < bad))
        bad = static_cast<std::uint64_t>(news.report.first_bad);
      const std::string message = text("step ", bad, ": loss ", loss_, bad < at_.step ? text(" at step ", at_.step) : "",
                                       ", ", news.report.nonfinite, " non-finite entries in the optimizer's state",
                                       first_nonfinite(optimizer_.state(), optimizer_, layout_, comm_));
      diverge(message, text("; lower optim.lr", optimizer_.is_variational() ? " or raise optim.hess_init" : ""));
    }
  }

  double epoch() const { return static_cast<double>(at_.step) / static_cast<double>(trainer_.steps_per_epoch()); }

  void log() {
    nlohmann::json row{{"step", at_.step}, {"epoch", epoch()}, {"train_loss", loss_}, {"lr", lr_},
                       {"grad_norm", norm_}};
    folder_.record(row);
    const bool due = seconds_since(told_) >= (::isatty(1) ? 2 : 30);
    if (told_once_ && !due && now() < total_) return;
    told_once_ = true;
    told_ = Clock::now();
    const double left = static_cast<double>(total_ - now()) * trained_ / static_cast<double>(timed_);
    const bool text = data_.vocabulary > 0;
    char line[200];
    std::snprintf(line, sizeof line, "step %8lld  epoch %7.2f  loss %8.4f  |g| %8.3g  %8.0f %s/s  %5.0f s left",
                  static_cast<long long>(now()), epoch(), loss_, norm_,
                  static_cast<double>(timed_ * trainer_.batch() * (text ? data_.train.example.size() : 1)) / trained_,
                  text ? "tokens" : "examples", left);
    folder_.say(line + health_);
  }

  void log_statistics() {
    if (!optimizer_.is_variational()) return;
    const std::optional<HessStatistics> s = hess_statistics(exec_, optimizer_, config_.real("optim.hess_init"), comm_);
    if (!s) return;
    nlohmann::json row{{"step", at_.step}, {"hess_unmoved", s->unmoved}, {"nonpositive", at_.nonpositive}};
    for (const auto& [name, q] : {std::pair("hess", s->hess), std::pair("sigma", s->sigma), std::pair("snr", s->snr)}) {
      row[text(name, "_p05")] = q[0];
      row[text(name, "_median")] = q[1];
      row[text(name, "_p95")] = q[2];
    }
    folder_.record(row);
    health_ = text("  hess ", number(s->hess[1]), "  sigma ", number(s->sigma[1]));
    if (s->unmoved > 0.99 && now() * 2 > total_)
      health_ += "  hint: the Hessian has not moved; lower optim.beta2 or optim.hess_init";
  }

  /// At the mean; keeps best.h5. Gives back what it has recorded.
  Metrics evaluate() {
    const bool held = data_.validation.count > 0;
    const Metrics found = evaluator_.at_mean(held ? data_.validation : data_.test, optimizer_);
    const std::string set = held ? "val_at_mean/" : "test_at_mean/";
    Metrics recorded;
    nlohmann::json row{{"step", at_.step}};
    std::string line = text("step ", at_.step, ", ", held ? "validation" : "test", " at the mean:");
    for (const auto& [k, v] : found) {
      row[set + k] = recorded[set + k] = v;
      line += text("  ", k, " ", number(v));
    }
    folder_.record(row);
    folder_.say(line);
    if (!held || best_.empty()) return recorded;
    const double value = found.at(best_);
    const bool up = best_ == "acc" || best_ == "top5" || best_ == "auroc";
    const auto best = parse_real(at_.best);
    if (!std::isfinite(value) || (best && (up ? value <= *best : value >= *best))) return recorded;
    at_.best = shortest(value);
    save_posterior("best.h5");
    return recorded;
  }

  /// The metric of the validation set that checkpoint.best names; empty: none. Errors (78): there is none of this name.
  std::string best_metric() const {
    const std::string asked = config_.text("checkpoint.best");
    if (asked == "none") return "";
    std::vector<std::string> known;
    for (const std::string& name : evaluator_.metric_names()) known.push_back("val/" + name);
    require(std::count(known.begin(), known.end(), asked) > 0, Exit::config, "checkpoint.best = '", asked,
            "' is no metric of the validation set", did_you_mean(asked, known), "; it has ", join(known));
    return asked.substr(4);
  }

  RunOutcome loop() {
    const Index stop_after = config_.integer("train.stop_after");
    saved_ = stepped_ = Clock::now();
    writer_.prepare();
    if (policy_ == SpikePolicy::rollback && now() == 0) save();  // so that there is something to go back to
    while (now() < total_) {
      const Index next = now() + 1;
      const bool last = next == total_, logs = log_every_.due(next) || last;
      skipped_ = false;
      step(logs);
      const bool statistics = stats_every_.due(next) || last, evaluates = evaluate_every_.due(next) && !last, hashes = hash_every_.due(next);
      const Clock::time_point queued = Clock::now();
      watchdog_.beat(Phase::step, at_.step);
      writer_.check();
      const std::uint64_t agreed = agree();
      if ((agreed & 4) == 0) writer_.advance();
      const bool stops = !last && ((agreed & 1) != 0 || next == stop_after);
      const bool saves = !last && (save_every_.due(next) || (agreed & 2) != 0);
      if (logs || statistics || evaluates || hashes || stops || saves) read_news();
      if (rolls_back_) {
        roll_back();
        continue;
      }
      slowest_step_ = std::max(slowest_step_, seconds_since(stepped_));
      stepped_ = queued;
      if (logs && !skipped_) log();
      if (hashes) folder_.record({{"step", at_.step}, {"state_hash", agreed_hash()}});
      if (statistics) log_statistics();
      if (evaluates) evaluate();
      if (stops) {
        save();
        writer_.finish();
        folder_.status("interrupted", at_.step, Exit::stopped, {});
        folder_.say(text("stopped at step ", at_.step, out_of_time() ? ", before the time was over," : "",
                         " with a complete checkpoint; the same command continues"));
        return {Exit::stopped, {}};
      }
      if (saves) save();
    }
    return finish();
  }

  RunOutcome finish() {
    // Saved first: evaluating may take long, and a run killed there has nothing to train again.
    save();
    writer_.finish();
    RunOutcome outcome;
    evaluator_.between_passes = [this] {
      watchdog_.beat(Phase::evaluate, at_.step);
      require((agree() & 1) == 0, Exit::stopped, "stopped");
    };
    try {
      // The last state competes for best.h5, and a checkpoint of it knows the outcome.
      Metrics at_mean;
      if (data_.validation.count > 0) {
        const std::string best = at_.best;
        at_mean = evaluate();
        if (at_.best != best) save();
      }
      outcome.metrics = final_metrics(evaluator_, optimizer_, data_, config_);
      outcome.metrics.insert(at_mean.begin(), at_mean.end());
    } catch (const Error& e) {
      if (e.code() != Exit::stopped) throw;
      folder_.status("interrupted", at_.step, Exit::stopped, {});
      folder_.say("stopped while evaluating, with a complete checkpoint; the same command continues");
      return {Exit::stopped, {}};
    }
    outcome.metrics["seconds_per_step"] = timed_ > 0 ? trained_ / static_cast<double>(timed_) : 0;
    outcome.metrics["nonpositive"] = at_.nonpositive;
    if (saves_ > 1)
      folder_.say(text("saving held training up for ", number(stalled_ / saves_), " s each of ", saves_, " times, the slowest took ",
                       number(slowest_save_), " s"));
    nlohmann::json row{{"step", at_.step}};
    for (const auto& [k, v] : outcome.metrics) {
      row[k] = v;
      folder_.say(text("  ", k, " ", v));
    }
    if (at_.nonpositive > 0)
      folder_.say(text(at_.nonpositive, optimizer_.name() == "von"
                                            ? " Hessian updates refused: they would have made the precision non-positive"
                                            : " Hessian entries held at the float32 floor"));
    folder_.record(row);
    save_posterior("final.h5");
    writer_.finish();
    if (!comm_.is_first()) return outcome;
    folder_.write_csv(folder_.records());
    folder_.status("done", at_.step, Exit::ok, outcome.metrics);
    io::commit_file(folder_.dir(), "DONE", "");
    return outcome;
  }

  const Clock::time_point started_ = Clock::now();
  Comm comm_;
  Config config_;
  std::optional<double> allowed_;  // seconds from `started_`
  Watchdog watchdog_;
  RunFolder folder_;
  Request output_now_;
  FoundCheckpoint found_;
  DataSet data_;
  const Schedule& schedule_;
  Exec exec_ = backend::separate_exec();  // its work can be recorded
  Layout layout_;
  Trainer trainer_;
  Evaluator evaluator_;
  Optimizer& optimizer_;
  const SpikePolicy policy_;
  const SpikeRule rule_;
  std::function<bool()> judge_;  // empty: steps are queued and nobody waits
  RunPosition at_;
  std::string environment_, health_, frozen_digest_, best_;
  Index total_ = 0, warmup_ = 0, timed_ = 0, unread_ = 0;
  Interval evaluate_every_, save_every_, log_every_, stats_every_, hash_every_;
  double loss_ = 0, norm_ = 0, lr_ = 0, trained_ = 0, slowest_step_ = 0, stalled_ = 0, expected_save_ = 0;
  int saves_ = 0;
  std::atomic<double> slowest_save_{0};
  Clock::time_point saved_{}, told_{}, began_{}, stepped_{};
  bool told_once_ = false, skipped_ = false, rolls_back_ = false;
  CheckpointWriter writer_;  // last: its thread uses all of the above
};
}  // namespace

RunOutcome train_run(Config config, bool quiet, const Comm& comm) { return Run(std::move(config), quiet, comm).execute(); }

}  // namespace varion
