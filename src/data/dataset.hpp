// Data sets in memory. Built-in ones are drawn by counter, so they are the same on every machine.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/options.hpp"
#include "core/registry.hpp"
#include "core/types.hpp"

namespace varion {

/// Examples, already normalised. x is [count, example...], images channels last.
struct Examples {
  Shape example;                     // without the batch: {D} or {H, W, C}
  Index count = 0;
  std::vector<float> x;
  std::vector<std::int32_t> labels;  // classification: [count], each in [0, classes)
  std::vector<float> targets;        // regression: [count]
};

struct DataSet {
  std::string name;
  Index classes = 0;        // 0: regression
  double noise_sigma = 0;   // regression with a known noise; 0: predicted by the model
  Examples train, test;
  Examples shifted;         // out of distribution, may be empty
};

struct DataEntry {
  static const char* kind() { return "data set"; }
  std::string help;
  std::function<DataSet(const Config&)> load;
};
using DataSets = Registry<DataEntry>;

/// The data set of a configuration, shortened to data.train_size. Errors (65, 66, 78).
DataSet load_data(const Config& config);

/// CRC-like 64-bit FNV-1a digest of everything in it: recorded, and compared on resume.
std::uint64_t digest(const DataSet& data);

}  // namespace varion
