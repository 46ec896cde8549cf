// Data sets in memory. Built-in ones are drawn by counter, so they are the same on every machine.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/options.hpp"
#include "core/registry.hpp"
#include "core/types.hpp"
#include "data/text.hpp"

namespace varion {

/// Examples [count, example...], images channels last: normalised numbers in `x`, or `pixels`, which the
/// device turns into (p / 255 - pixel_mean) / pixel_std of their channel when it gathers a batch.
struct Examples {
  Shape example;                     // without the batch: {D} or {H, W, C}
  Index count = 0;
  std::vector<float> x;
  std::vector<std::uint8_t> pixels;
  std::vector<float> pixel_mean, pixel_std;  // [C]
  std::vector<std::int32_t> labels;  // classification: [count], each in [0, classes)
  std::vector<float> targets;        // regression: [count]
  // Text: `example` is {T}; example i of an epoch is the T tokens from i * T on, its targets are those one further.
  // count = (tokens - 1) / T.
  std::shared_ptr<const TokenStream> tokens;
  // Passages, which `labels` tells the classes of: example i is the T tokens from begins[i] on. Those of a class follow one another.
  std::vector<Index> begins;
  bool is_row() const { return tokens && labels.empty(); }  // of tokens that are themselves what is predicted
};

struct DataSet {
  std::string name;
  Index classes = 0;        // 0: regression
  double noise_sigma = 0;   // regression with a known noise; 0: predicted by the model
  double target_scale = 1;  // regression: original units per unit of `targets`
  bool flip = false;        // augmentation of training images: mirror half of them,
  Index crop_pad = 0;       // and shift by up to this many pixels, with zeros (before normalisation) around
  Index vocabulary = 0;     // of text: number of tokens a model has to know; `classes` is the same number but for passages
  std::shared_ptr<const Tokenizer> tokenizer;  // of text; empty where only tokens are known
  Examples train, test;
  Examples validation;      // held out from the training examples, may be empty
  Examples shifted;         // out of distribution, may be empty
  std::uint64_t digest = 0;
};

struct DataEntry {
  static const char* kind() { return "data set"; }
  std::string help;
  std::function<DataSet(const Config&)> load;
};
using DataSets = Registry<DataEntry>;

/// The data set of a configuration, shortened to data.train_size, with data.val_size of its training examples
/// (a random choice by run.seed; of text the last windows) held out, and the 64-bit FNV-1a digest of the training
/// examples, which is recorded and compared on resume. Errors (65, 66, 78).
DataSet load_data(const Config& config);

/// The examples `chosen` of `from`, in that order.
Examples subset(const Examples& from, const std::vector<Index>& chosen);

/// data.path, below data.root unless absolute. Errors (78): empty.
std::string data_path(const Config& config);

/// A path of the configuration, below data.root unless absolute; an empty one stays empty.
std::string below_root(const Config& config, const std::string& path);

}  // namespace varion
