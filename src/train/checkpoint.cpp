#include "train/checkpoint.hpp"

#include <algorithm>
#include <cmath>
#include <ctime>

#include "core/error.hpp"
#include "io/segments.hpp"
#include "train/nonfinite.hpp"
#include "train/quantiles.hpp"
#include "train/ranks.hpp"
#include "train/start_values.hpp"
#include "train/text_sampler.hpp"

namespace varion {

void resolve_ess(Config& config, const DataSet& data) {
  if (!config.has("optim.ess") || config.text("optim.ess") != "auto") return;
  if (data.train.is_row()) config.set("optim.ess", std::to_string(data.train.tokens->size()), "auto: training tokens");
  else config.set("optim.ess", std::to_string(data.train.count), "auto: training examples");
}

namespace {
std::string now_utc() {
  const std::time_t t = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&t, &parts);
  char s[32];
  std::strftime(s, sizeof s, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return s;
}

constexpr Index kSampled = 4096;

/// The places of its sample in a tensor of `size` numbers: multiples of the golden ratio, which no row length divides.
Index sampled_place(Index i, Index size) {
  if (size <= kSampled) return i;
  const double turns = static_cast<double>(i) * 0.6180339887498949;
  return static_cast<Index>((turns - std::floor(turns)) * static_cast<double>(size));
}
}  // namespace

std::vector<float> layer_sample(const io::PosteriorFile& f, const io::Stretch& v) {
  std::vector<float> out;
  for (const io::TensorInfo& t : f.tensors)
    for (Index i = 0; i < std::min<Index>(t.size, kSampled); ++i) {
      const Index at = t.offset + sampled_place(i, t.size);
      out.push_back(at >= v.begin && at < v.begin + v.count ? v.data[at - v.begin] + 0.f : 0.f);  // no -0: others are added
    }
  return out;
}

std::map<std::string, std::vector<double>> layer_table(const io::PosteriorFile& f, const std::vector<float>& mean,
                                                       const std::vector<float>& hess) {
  std::map<std::string, std::vector<double>> out;
  size_t at = 0;
  for (const io::TensorInfo& t : f.tensors) {
    const auto count = static_cast<size_t>(std::min<Index>(t.size, kSampled));
    double sum = 0;
    for (size_t i = at; i < at + count; ++i) sum += std::abs(static_cast<double>(mean[i]));
    out["numel"].push_back(static_cast<double>(t.size));
    out["mean_abs"].push_back(sum / static_cast<double>(count));
    if (!hess.empty()) {
      const auto q = quantiles(hess.data() + at, count);
      const double decay = f.optim.at(t.shape.size() >= 2 ? "weight_decay" : "weight_decay_1d");
      out["hess_p05"].push_back(q[0]);
      out["hess_median"].push_back(q[1]);
      out["hess_p95"].push_back(q[2]);
      out["sigma_median"].push_back(1 / std::sqrt(f.optim.at("ess") * (q[1] + decay)));
    }
    at += count;
  }
  return out;
}

std::string frozen_digest(const Layout& layout) {
  if (layout.frozen_size() == 0) return "";
  const std::vector<float> values = to_host(layout.frozen_values());
  return io::xxh128(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

namespace {
/// The frozen parameters start as the run had them.
void start_frozen(const Config& config, const Layout& layout) {
  if (layout.frozen_size() == 0) return;
  const Exec exec;
  const Vec trained("varion::restore::unused", static_cast<size_t>(layout.size()));
  layout.initialise(exec, static_cast<std::uint64_t>(config.integer("run.seed")), trained);
  exec.fence();
  take_start_values(config, layout, nullptr, {});
}
}  // namespace

io::PosteriorFile to_file(const Layout& layout, const Optimizer& optimizer, const Config& config, const DataSet& data,
                          const RunPosition& at, const std::string& env_json) {
  io::PosteriorFile f;
  for (const Parameter& p : layout.parameters()) {
    io::TensorInfo t;
    t.name = p.name;
    for (int i = 0; i < p.shape.rank; ++i) t.shape.push_back(p.shape[i]);
    t.offset = p.offset;
    t.size = p.size();
    f.tensors.push_back(t);
  }
  for (const StateVector& s : optimizer.state())
    if (s.name != "mean") f.states.emplace_back(s.name, std::vector<float>());
  f.optimizer = optimizer.name();
  for (const auto& [k, v] : optimizer.attributes()) f.optim[k] = v;
  f.step = static_cast<long>(at.step);
  f.root = {{"kind", "checkpoint"},
            {"run_name", config.text("run.name")},
            {"date", now_utc()},
            {"machine", host_name()},
            {"uuid", io::new_uuid()},
            {"parent_uuid", at.parent_uuid}};
  f.model = {{"name", config.text("model.name")},
             {"n_params", std::to_string(layout.size())},
             {"config_ini", config.ini(false)},
             {"env_json", env_json}};
  f.train = {{"step", std::to_string(at.step)},
             {"samples_seen", std::to_string(at.samples)},
             {"record_bytes", std::to_string(at.records.bytes)},
             {"record_sha256", at.records.sha256},
             {"nonpositive", shortest(at.nonpositive)},
             {"best", at.best.empty() ? "none" : at.best}};
  write_spikes(at.spikes, f.train);
  f.rng = {{"generator", "philox4x32-10"}, {"seed", config.text("run.seed")}};
  f.data = {{"name", data.name}, {"digest", std::to_string(data.digest)},
            {"order", "keyed bijection of (seed, order, epoch)"}, {"position", std::to_string(at.samples)}};
  if (data.vocabulary > 0) f.data["order"] = "windows, " + config.text("data.windows") + " by (seed, order)";
  if (data.vocabulary > 0) f.data["vocabulary"] = std::to_string(data.vocabulary);
  if (data.tokenizer) f.data["tokenizer"] = data.tokenizer->describe();
  return f;
}

namespace {
std::uint64_t count_of(const io::PosteriorFile& f, const std::string& name, const std::string& key) {
  const auto it = f.train.find(key);
  const auto v = it == f.train.end() ? std::nullopt : parse_real(it->second);
  require(v && *v >= 0 && *v < 9e15 && *v == std::floor(*v), Exit::data, name, ": train/", key, " is no count");
  return static_cast<std::uint64_t>(*v);
}
}  // namespace

RunPosition position_of(const io::PosteriorFile& f, const std::string& name) {
  RunPosition at;
  at.step = static_cast<std::uint64_t>(f.step);
  require(count_of(f, name, "step") == at.step, Exit::data, name, ": train/step and optim/step differ");
  at.samples = count_of(f, name, "samples_seen");
  at.records.bytes = count_of(f, name, "record_bytes");
  at.nonpositive = static_cast<double>(count_of(f, name, "nonpositive"));
  const auto text_of = [&](const char* key) {
    const auto it = f.train.find(key);
    require(it != f.train.end(), Exit::data, name, ": no train/", key);
    return it->second;
  };
  at.records.sha256 = text_of("record_sha256");
  if (text_of("best") != "none") at.best = text_of("best");
  at.spikes = read_spikes(f.train, name);
  if (const auto hash = f.train.find("state_hash"); hash != f.train.end()) at.state_hash = hash->second;
  require(at.spikes.skipped <= at.step, Exit::data, name, ": train/skipped is more than train/step");
  return at;
}

void from_file(const io::PosteriorFile& f, const std::string& name, const Layout& layout,
               Optimizer& optimizer, const DataSet& data) {
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
  const auto digest = f.data.find("digest");
  require(digest != f.data.end() && digest->second == std::to_string(data.digest), Exit::data, name,
          ": the data is not what it was trained on (its digest differs)");
  const auto frozen = f.model.find("frozen_digest");
  require(layout.frozen_size() == 0 || (frozen != f.model.end() && frozen->second == frozen_digest(layout)), Exit::data, name,
          ": the frozen parameters, from model.init, are not those that it was trained with (their digest differs)");
  for (const StateVector& s : optimizer.state()) {
    const std::vector<float>* values = s.name == "mean" ? &f.mean : nullptr;
    for (const auto& [state, flat] : f.states)
      if (state == s.name) values = &flat;
    require(values != nullptr, Exit::data, name, ": no optim/", s.name);
    require(static_cast<Index>(values->size()) == optimizer.size(), Exit::data, name, ": ", s.name, " has ", values->size(),
            " entries, not ", optimizer.size());
    Kokkos::deep_copy(s.data, Kokkos::View<const float*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(
                                  values->data() + optimizer.own_begin(), s.data.extent(0)));
  }
  require_positive(optimizer, name);
}

namespace {
Config config_of(io::PosteriorFile& f, const std::string& path, const std::vector<std::pair<std::string, std::string>>& changes,
                 std::vector<std::string>& notes) {
  require(f.model.count("config_ini") != 0, Exit::data, path, ": no model/config_ini");
  Config config;
  config.read_text(f.model["config_ini"], path + ":config_ini");
  for (const auto& [k, v] : changes) config.set(k, v, "command line");
  notes = config.resolve();
  return config;
}
}  // namespace

TextModel::TextModel(const std::string& path, const std::vector<std::pair<std::string, std::string>>& changes) {
  io::PosteriorFile f = io::load_posterior(path);
  config = config_of(f, path, changes, notes);
  require(writes_text(config), Exit::config, path, ": model ", config.text("model.name"), " is no language model");
  require(f.data.count("tokenizer") != 0, Exit::config, path, ": was trained on tokens whose tokenizer is not known");
  tokenizer = make_tokenizer(f.data["tokenizer"]);
  DataSet data;
  const auto digest = f.data.find("digest");
  data.digest = digest == f.data.end() ? 0 : std::strtoull(digest->second.c_str(), nullptr, 10);
  const auto tokens = f.data.count("vocabulary") == 0 ? std::nullopt : parse_real(f.data["vocabulary"]);
  require(tokens && *tokens >= 1 && *tokens <= 1e9, Exit::data, path, ": data/vocabulary is no count");
  vocabulary = static_cast<Index>(*tokens);
  const Index positions = config.integer("model.positions");
  const bool all_trained = config.text("model.init") != "random";  // where the weights come from elsewhere
  length = positions > 0 && all_trained ? positions : config.integer("data.length");
  { TextSampler(*layout, config, vocabulary, length, Exec()); }  // fills the layout
  start_frozen(config, *layout);
  optimizer = Optimizers::of().find(config.text("optim.name")).make(*layout, config);
  from_file(f, path, *layout, *optimizer, data);
}

std::unique_ptr<Restored> restore(const std::string& path,
                                  const std::vector<std::pair<std::string, std::string>>& changes) {
  auto r = std::make_unique<Restored>();
  r->file = io::load_posterior(path);
  r->config = config_of(r->file, path, changes, r->notes);
  r->data = load_data(r->config);
  resolve_ess(r->config, r->data);
  r->evaluator = std::make_unique<Evaluator>(r->layout, r->config, r->data, Exec());
  start_frozen(r->config, r->layout);
  r->optimizer =
      Optimizers::of().find(r->config.text("optim.name")).make(r->layout, r->config);
  from_file(r->file, path, r->layout, *r->optimizer, r->data);
  return r;
}

}  // namespace varion
