#include "train/start_values.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "core/error.hpp"
#include "io/posterior_file.hpp"
#include "models/model.hpp"
#include "train/host_copy.hpp"
#include "train/nonfinite.hpp"

namespace varion {

namespace {
bool ends_with(const std::string& s, const std::string& end) {
  return s.size() >= end.size() && s.compare(s.size() - end.size(), end.size(), end) == 0;
}

const io::NamedTensor* find_tensor(const std::vector<io::NamedTensor>& tensors, const std::string& name) {
  for (const io::NamedTensor& t : tensors)
    if (t.name == name) return &t;
  return nullptr;
}

/// What to skip so that a tensor is not asked for: the layer.
std::string layer_of(const std::string& name) { return io::printable(name.substr(0, name.rfind('.'))); }

std::string shape_text(const std::vector<long>& shape) {
  std::string s = "[";
  for (size_t i = 0; i < shape.size(); ++i) s += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return s + "]";
}

WeightFile from_posterior(const std::string& path) {
  const io::PosteriorFile f = io::load_posterior(path);
  WeightFile out;
  for (const io::TensorInfo& t : f.tensors) {
    const auto part = [&](const std::vector<float>& flat) { return std::vector<float>(flat.begin() + t.offset, flat.begin() + t.offset + t.size); };
    out.tensors.push_back({t.name, t.shape, part(f.mean)});
    for (const auto& [state, flat] : f.states)
      if (state == "hess") out.hess.push_back({t.name, t.shape, part(flat)});
  }
  return out;
}

/// `varion posterior export --states` writes states behind their tensor's name, and says so.
WeightFile from_safetensors(const std::string& path) {
  io::Safetensors f = io::read_safetensors(path);
  WeightFile out;
  const auto states = words_of(f.metadata["varion_states"]);
  std::set<std::string> names;
  for (const io::NamedTensor& t : f.tensors) names.insert(t.name);
  for (io::NamedTensor& t : f.tensors) {
    const auto state = std::find_if(states.begin(), states.end(), [&](const std::string& s) {
      return ends_with(t.name, "." + s) && names.count(t.name.substr(0, t.name.size() - s.size() - 1)) > 0;
    });
    if (state == states.end()) out.tensors.push_back(std::move(t));
    else if (*state == "hess") out.hess.push_back({t.name.substr(0, t.name.size() - 5), t.shape, std::move(t.values)});
  }
  return out;
}

/// [rows, columns] -> [columns, rows].
void transpose(io::NamedTensor& t) {
  const auto rows = static_cast<size_t>(t.shape[0]), columns = static_cast<size_t>(t.shape[1]);
  std::vector<float> turned(t.values.size());
  for (size_t i = 0; i < rows; ++i)
    for (size_t j = 0; j < columns; ++j) turned[j * rows + i] = t.values[i * columns + j];
  t.values = std::move(turned);
  std::swap(t.shape[0], t.shape[1]);
}

const std::string kGpt2 = "transformer.";
}  // namespace

void gpt2_names(std::vector<io::NamedTensor>& tensors) {
  const std::string first = "h.0.attn.c_attn.weight";
  const io::NamedTensor* sample = find_tensor(tensors, first);
  if (sample == nullptr) sample = find_tensor(tensors, kGpt2 + first);
  if (sample == nullptr) return;
  // [D, 3 D]: Hugging Face's; the square weights are then stored the same way.
  const bool turned = sample->shape.size() == 2 && sample->shape[1] == 3 * sample->shape[0];
  for (io::NamedTensor& t : tensors) {
    if (t.name.rfind(kGpt2, 0) == 0) t.name.erase(0, kGpt2.size());
    if (!turned || t.shape.size() != 2) continue;
    for (const char* end : {".attn.c_attn.weight", ".attn.c_proj.weight", ".mlp.c_fc.weight", ".mlp.c_proj.weight"})
      if (ends_with(t.name, end)) transpose(t);
  }
  const io::NamedTensor* table = find_tensor(tensors, "wte.weight");
  const std::vector<float> tied = table != nullptr ? table->values : std::vector<float>();
  const auto superfluous = [&](const io::NamedTensor& t) {
    const bool mask = (ends_with(t.name, ".attn.bias") && t.shape.size() == 4) || ends_with(t.name, ".attn.masked_bias");
    return mask || (t.name == "lm_head.weight" && t.values == tied);
  };
  tensors.erase(std::remove_if(tensors.begin(), tensors.end(), superfluous), tensors.end());
}

WeightFile read_weights(const std::string& path) {
  const bool posterior = ends_with(path, ".h5");
  require(posterior || ends_with(path, ".safetensors"), Exit::config, "model.init = '", path,
          "' must be random, a posterior FILE.h5 or a FILE.safetensors");
  WeightFile out = posterior ? from_posterior(path) : from_safetensors(path);
  gpt2_names(out.tensors);
  gpt2_names(out.hess);
  return out;
}

std::vector<int> match_tensors(const WeightFile& file, const std::string& path, const Layout& layout, const std::vector<std::string>& skip) {
  std::vector<int> out;
  std::map<std::string, int> places;
  for (size_t i = 0; i < file.tensors.size(); ++i) places[file.tensors[i].name] = static_cast<int>(i);
  std::vector<bool> used(skip.size());
  const auto skipped = [&](const std::string& name) {
    bool any = false;
    for (size_t k = 0; k < skip.size(); ++k)
      if (begins(name, skip[k])) any = used[k] = true;
    return any;
  };
  // What is trained besides frozen tensors may be new: an adapter.
  const bool may_be_new = layout.frozen_size() > 0;
  const size_t trained = layout.parameters().size();
  for (size_t i = 0; i < trained + layout.frozen().size(); ++i) {
    const Parameter& p = i < trained ? layout.parameters()[i] : layout.frozen()[i - trained];
    auto at = places.find(p.name);
    if (at == places.end() && p.name.rfind(kGpt2, 0) == 0) at = places.find(p.name.substr(kGpt2.size()));
    if (skipped(p.name)) {
      if (at != places.end()) places.erase(at);
      out.push_back(-1);
      continue;
    }
    if (at == places.end() && may_be_new && i < trained) {
      out.push_back(-1);
      continue;
    }
    require(at != places.end(), Exit::data, path, ": no tensor '", p.name, "'; model.init_skip=", layer_of(p.name), " leaves it as drawn");
    const std::vector<long>& shape = file.tensors[static_cast<size_t>(at->second)].shape;
    bool same = static_cast<int>(shape.size()) == p.shape.rank;
    for (int k = 0; same && k < p.shape.rank; ++k) same = shape[static_cast<size_t>(k)] == p.shape[k];
    require(same, Exit::data, path, ": '", p.name, "' is ", shape_text(shape), ", the model's is ", p.shape.text(), "; model.init_skip=",
            layer_of(p.name), " leaves it as drawn");
    out.push_back(at->second);
    places.erase(at);
  }
  for (const auto& [name, place] : places) {
    const io::NamedTensor& t = file.tensors[static_cast<size_t>(place)];
    const bool nothing = ends_with(name, ".bias") && std::all_of(t.values.begin(), t.values.end(), [](float v) { return v == 0; });
    require(skipped(name) || nothing, Exit::data, path, ": '", io::printable(name), "' ", shape_text(t.shape),
            " is no parameter of the model; model.init_skip=", layer_of(name), " passes it over");
  }
  for (size_t k = 0; k < skip.size(); ++k)
    require(used[k], Exit::config, "model.init_skip: neither the model nor '", path, "' has a tensor '", skip[k], "'");
  return out;
}

namespace {
/// A flat vector as the first rank has put it together: numbers, and which parameters have some.
struct Flat {
  std::vector<char> has;  // a byte a parameter
  std::vector<float> values;
  void send(const Comm& comm) {
    if (comm.size() == 1) return;
    std::string bytes(has.begin(), has.end());
    const size_t split = bytes.size();
    bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    bytes = comm.from_first(std::move(bytes));
    std::copy(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(split), has.begin());
    std::memcpy(values.data(), bytes.data() + split, values.size() * sizeof(float));
  }
};

/// Writes what `from` has of these parameters into a vector, of which this rank keeps [begin, begin + extent).
void put(const Flat& from, const std::vector<Parameter>& parameters, Index begin, const Vec& to) {
  std::vector<float> own = to_host(to);
  const Index end = begin + static_cast<Index>(own.size());
  for (size_t i = 0; i < from.has.size(); ++i) {
    const Parameter& p = parameters[i];
    const Index first = std::max(begin, p.offset), last = std::min(end, p.offset + p.size());
    if (from.has[i] != 0 && first < last)
      std::copy(from.values.begin() + first, from.values.begin() + last, own.begin() + (first - begin));
  }
  Kokkos::deep_copy(to, Kokkos::View<const float*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(own.data(), own.size()));
}

/// A state's own stretch, which may be empty; nothing where the optimizer has no such state.
std::optional<Vec> state_of(const Optimizer& optimizer, const std::string& name) {
  for (const StateVector& s : optimizer.state())
    if (s.name == name) return s.data;
  return std::nullopt;
}
}  // namespace

std::string take_start_values(const Config& config, const Layout& layout, Optimizer* optimizer, const Comm& comm) {
  const std::string path = config.text("model.init");
  const bool with_hess = config.flag("model.init_hess");
  const auto skip = words_of(config.text("model.init_skip"));
  if (path == "random") {
    require(!with_hess && skip.empty(), Exit::config, "model.init_hess and model.init_skip need model.init=FILE");
    return "";
  }
  if (optimizer == nullptr && layout.frozen_size() == 0) return "";
  const bool takes_hess = optimizer != nullptr && with_hess;
  const std::optional<Vec> hess_to = takes_hess ? state_of(*optimizer, "hess") : std::nullopt;
  require(!takes_hess || hess_to.has_value(), Exit::config, "model.init_hess: ", takes_hess ? optimizer->name() : "",
          " is a point estimate and has no Hessian");
  const auto& trained = layout.parameters();
  const auto& frozen = layout.frozen();
  const auto empty = [](const std::vector<Parameter>& list, Index size) {
    return Flat{std::vector<char>(list.size()), std::vector<float>(static_cast<size_t>(size))};
  };
  Flat mean = empty(trained, layout.size()), hess = takes_hess ? mean : Flat{}, fixed = empty(frozen, layout.frozen_size());
  if (comm.is_first()) {
    const WeightFile file = read_weights(path);
    const std::vector<int> taken = match_tensors(file, path, layout, skip);
    for (size_t i = 0; i < taken.size(); ++i) {
      if (taken[i] < 0) continue;
      const bool trains = i < trained.size();
      const size_t k = trains ? i : i - trained.size();
      const io::NamedTensor& t = file.tensors[static_cast<size_t>(taken[i])];
      const auto at = static_cast<std::ptrdiff_t>(trains ? trained[k].offset : frozen[k].offset);
      Flat& flat = trains ? mean : fixed;
      flat.has[k] = 1;
      std::copy(t.values.begin(), t.values.end(), flat.values.begin() + at);
      if (!takes_hess || !trains) continue;
      const io::NamedTensor* h = find_tensor(file.hess, t.name);
      require(h != nullptr && h->values.size() == t.values.size(), Exit::data, path, ": no Hessian of '", io::printable(t.name),
              "' for model.init_hess");
      hess.has[k] = 1;
      std::copy(h->values.begin(), h->values.end(), hess.values.begin() + at);
    }
  }
  if (!frozen.empty()) {
    fixed.send(comm);
    put(fixed, frozen, 0, layout.frozen_values());
  }
  if (optimizer == nullptr) return "";
  mean.send(comm);
  put(mean, trained, optimizer->own_begin(), state_of(*optimizer, "mean").value());
  if (takes_hess) {
    hess.send(comm);
    put(hess, trained, optimizer->own_begin(), *hess_to);
    require_positive(*optimizer, path);
  }
  std::string drawn;
  const auto taken = std::count(mean.has.begin(), mean.has.end(), 1) + std::count(fixed.has.begin(), fixed.has.end(), 1);
  for (size_t i = 0; i < trained.size(); ++i)
    if (mean.has[i] == 0) drawn += (drawn.empty() ? "; as drawn: " : ", ") + trained[i].name;
  return text("starting from ", path, ": ", taken, " of ", trained.size() + frozen.size(), " tensors", takes_hess ? " and their Hessian" : "",
              drawn.substr(0, 200));
}

}  // namespace varion
