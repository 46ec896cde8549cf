#include "data/dataset.hpp"

#include <numeric>

#include "core/error.hpp"
#include "core/random.hpp"
#include "data/token_stream.hpp"

namespace varion {

namespace {
template <class T>
void take(const std::vector<T>& from, Index width, const std::vector<Index>& chosen, std::vector<T>& to) {
  if (from.empty()) return;
  to.reserve(chosen.size() * static_cast<size_t>(width));
  for (const Index i : chosen) to.insert(to.end(), from.begin() + i * width, from.begin() + (i + 1) * width);
}

/// Of what training sees; the test set may be shortened or changed without harm to a checkpoint.
std::uint64_t digest(const Examples& e) {
  std::uint64_t h = 1469598103934665603ull;
  const auto mix = [&](const auto& v) {
    const auto* b = reinterpret_cast<const unsigned char*>(v.data());
    for (size_t i = 0; i < v.size() * sizeof(v[0]); ++i) h = (h ^ b[i]) * 1099511628211ull;
  };
  mix(e.x);
  mix(e.pixels);
  mix(e.pixel_mean);
  mix(e.pixel_std);
  mix(e.labels);
  mix(e.targets);
  mix(e.begins);
  if (e.tokens) h = (h ^ e.tokens->digest()) * 1099511628211ull;
  return h;
}
}  // namespace

Examples subset(const Examples& from, const std::vector<Index>& chosen) {
  Examples to;
  to.example = from.example;
  to.pixel_mean = from.pixel_mean;
  to.pixel_std = from.pixel_std;
  to.count = static_cast<Index>(chosen.size());
  take(from.x, from.example.size(), chosen, to.x);
  take(from.pixels, from.example.size(), chosen, to.pixels);
  take(from.labels, 1, chosen, to.labels);
  take(from.targets, 1, chosen, to.targets);
  return to;
}

std::string below_root(const Config& config, const std::string& path) {
  const std::string root = config.text("data.root");
  return path.empty() || path[0] == '/' || root.empty() ? path : root + "/" + path;
}

std::string data_path(const Config& config) {
  const std::string path = config.text("data.path");
  require(!path.empty(), Exit::config, "data.name = ", config.text("data.name"),
          " reads files: set data.path to their folder");
  return below_root(config, path);
}

DataSet load_data(const Config& config) {
  DataSet d = DataSets::of().find(config.text("data.name")).load(config);
  require(d.train.count > 0 && d.test.count > 0, Exit::data, "data set '", d.name, "' is empty");
  const Index limit = config.integer("data.train_size"), held = config.integer("data.val_size");
  const Index kept = limit > 0 ? std::min(limit, d.train.count) : d.train.count;
  require(held < kept, Exit::config, "data.val_size = ", held, " leaves nothing of ", kept, " training examples");
  if (d.train.tokens) {  // windows that are held out stand together, at the end
    if (held > 0) d.validation = some_windows(d.train, kept - held, held);
    if (kept - held < d.train.count) d.train = some_windows(d.train, 0, kept - held);
  } else if (held > 0 || kept < d.train.count) {
    std::vector<Index> train, validation;
    const auto key = RandomKey::make(static_cast<std::uint64_t>(config.integer("run.seed")), Stream::data, 0);
    for (Index i = 0; i < kept; ++i) {
      const auto place = keyed_bijection(key, static_cast<std::uint32_t>(kept), static_cast<std::uint32_t>(i));
      (static_cast<Index>(place) < held ? validation : train).push_back(i);
    }
    d.validation = subset(d.train, validation);
    d.train = subset(d.train, train);
  }
  const Index tested = config.integer("data.test_size");
  for (Examples* e : {&d.test, &d.shifted})
    if (tested > 0 && tested < e->count && e->tokens) {
      *e = some_windows(*e, 0, tested);
    } else if (tested > 0 && tested < e->count) {
      std::vector<Index> first(static_cast<size_t>(tested));
      std::iota(first.begin(), first.end(), Index(0));
      *e = subset(*e, first);
    }
  d.digest = d.train.is_row() ? d.train.tokens->digest() : digest(d.train);
  return d;
}

namespace {
using T = OptionSpec::Type;
const bool registered_dataset = add_options(
    "", {{"data.root", T::text, "", "folder that a relative data.path starts from"},
         {"data.train_size", T::integer, "0", "use only the first examples (0: all)", {}, 0, 1e9},
         {"data.test_size", T::integer, "0", "use only the first test examples (0: all)", {}, 0, 1e9},
         {"data.val_size", T::integer, "0", "training examples held out for validation", {}, 0, 1e9}});
}  // namespace

}  // namespace varion
