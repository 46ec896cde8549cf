#include "data/dataset.hpp"

#include "core/error.hpp"

namespace varion {

DataSet load_data(const Config& config) {
  DataSet d = DataSets::of().find(config.text("data.name")).load(config);
  const Index limit = config.integer("data.train_size");
  Examples& t = d.train;
  if (limit > 0 && limit < t.count) {
    t.count = limit;
    t.x.resize(static_cast<size_t>(limit * t.example.size()));
    if (!t.labels.empty()) t.labels.resize(static_cast<size_t>(limit));
    if (!t.targets.empty()) t.targets.resize(static_cast<size_t>(limit));
  }
  require(t.count > 0 && d.test.count > 0, Exit::data, "data set '", d.name, "' is empty");
  return d;
}

std::uint64_t digest(const DataSet& data) {
  std::uint64_t h = 1469598103934665603ull;
  const auto mix = [&](const void* p, size_t bytes) {
    const auto* b = static_cast<const unsigned char*>(p);
    for (size_t i = 0; i < bytes; ++i) h = (h ^ b[i]) * 1099511628211ull;
  };
  for (const Examples* e : {&data.train, &data.test}) {
    mix(e->x.data(), e->x.size() * sizeof(float));
    mix(e->labels.data(), e->labels.size() * sizeof(std::int32_t));
    mix(e->targets.data(), e->targets.size() * sizeof(float));
  }
  return h;
}

}  // namespace varion
