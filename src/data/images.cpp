// Image sets from files: idx (MNIST, Fashion-MNIST, EMNIST ...), cifar10, cifar100.
#include "core/error.hpp"
#include "data/dataset.hpp"
#include "io/image_files.hpp"

namespace varion {

namespace {
std::vector<float> channels(const Config& c, const std::string& key, size_t count, bool positive) {
  std::vector<float> out;
  const std::string s = c.text(key) + ",";
  for (size_t at = 0, comma; (comma = s.find(',', at)) != std::string::npos; at = comma + 1) {
    const auto v = parse_real(s.substr(at, comma - at));
    require(v && (!positive || *v > 0), Exit::config, key, " = '", c.text(key), "' must be ", count,
            positive ? " positive" : "", " numbers, one a channel, such as ", positive ? "0.3081" : "0.1307");
    out.push_back(static_cast<float>(*v));
  }
  require(out.size() == count, Exit::config, key, " = '", c.text(key), "' has ", out.size(), " numbers, the images have ",
          count, " channels");
  return out;
}

void normalise(const Config& c, Examples& e) {
  e.pixel_mean = channels(c, "data.mean", static_cast<size_t>(e.example[2]), false);
  e.pixel_std = channels(c, "data.std", static_cast<size_t>(e.example[2]), true);
}

void augment(const Config& c, DataSet& d) {
  const std::string kind = c.text("data.augment");
  d.flip = kind == "flip" || kind == "flip_crop";
  d.crop_pad = kind == "crop" || kind == "flip_crop" ? c.integer("data.crop_pad") : 0;
}

/// `files` of a folder: images first, labels second.
Examples read_idx_pair(const Config& c, const std::string& images, const std::string& labels, Index classes) {
  io::IdxArray x = io::read_idx(io::plain_or_gz(images), 3);
  const io::IdxArray y = io::read_idx(io::plain_or_gz(labels), 1);
  require(x.dims[0] == y.dims[0], Exit::data, images, ": ", x.dims[0], " images, but ", labels, " has ", y.dims[0],
          " labels");
  Examples e;
  e.count = x.dims[0];
  e.example = {x.dims[1], x.dims[2], 1};
  e.pixels = std::move(x.values);
  for (size_t i = 0; i < y.values.size(); ++i) {
    require(y.values[i] < classes, Exit::data, labels, ": label ", i, " is ", int(y.values[i]),
            ", data.classes = ", classes);
    e.labels.push_back(y.values[i]);
  }
  normalise(c, e);
  return e;
}

DataSet load_idx(const Config& c) {
  const std::string folder = data_path(c);
  DataSet d;
  d.name = "idx";
  d.classes = c.integer("data.classes");
  d.train = read_idx_pair(c, folder + "/train-images-idx3-ubyte", folder + "/train-labels-idx1-ubyte", d.classes);
  d.test = read_idx_pair(c, folder + "/t10k-images-idx3-ubyte", folder + "/t10k-labels-idx1-ubyte", d.classes);
  require(d.train.example == d.test.example, Exit::data, folder, ": training images are ",
          d.train.example.text(), ", test images ", d.test.example.text());
  if (!c.text("data.ood_path").empty()) {  // only images: what they show is none of the classes
    io::IdxArray x = io::read_idx(io::plain_or_gz(below_root(c, c.text("data.ood_path"))), 3);
    d.shifted.count = x.dims[0];
    d.shifted.example = {x.dims[1], x.dims[2], 1};
    require(d.shifted.example == d.test.example, Exit::data, c.text("data.ood_path"), ": images are ",
            d.shifted.example.text(), ", expected ", d.test.example.text());
    d.shifted.pixels = std::move(x.values);
    d.shifted.labels.assign(static_cast<size_t>(d.shifted.count), 0);
    normalise(c, d.shifted);
  }
  augment(c, d);
  return d;
}

DataSet load_cifar(const Config& c, bool hundred) {
  const std::string folder = data_path(c);
  const auto part = [&](const std::vector<std::string>& files) {
    io::CifarImages images;
    for (const std::string& f : files)
      io::read_cifar(io::plain_or_gz(folder + "/" + f), hundred ? 2 : 1, hundred ? 100 : 10, images);
    Examples e;
    e.count = static_cast<Index>(images.labels.size());
    e.example = {32, 32, 3};
    e.pixels = std::move(images.pixels);
    e.labels = std::move(images.labels);
    normalise(c, e);
    return e;
  };
  DataSet d;
  d.name = hundred ? "cifar100" : "cifar10";
  d.classes = hundred ? 100 : 10;
  std::vector<std::string> train{"train.bin"}, test{hundred ? "test.bin" : "test_batch.bin"};
  if (!hundred) {
    train.clear();
    for (int k = 1; k <= 5; ++k) train.push_back("data_batch_" + std::to_string(k) + ".bin");
  }
  d.train = part(train);
  d.test = part(test);
  augment(c, d);
  return d;
}

using T = OptionSpec::Type;
std::vector<OptionSpec> options(const char* mean, const char* sd, const char* kind) {
  return {{"data.path", T::text, "", "folder of the files"},
          {"data.mean", T::text, mean, "mean of the channels, of 1"},
          {"data.std", T::text, sd, "standard deviation of the channels, of 1"},
          {"data.augment", T::choice, kind, "of training images", {"none", "flip", "crop", "flip_crop"}},
          {"data.crop_pad", T::integer, "4", "pixels of zeros around an image before cropping", {}, 1, 64}};
}
// The statistics are those of MNIST, and ImageNet's for CIFAR, as in the paper's code.
const char* const kMean = "0.485,0.456,0.406";
const char* const kStd = "0.229,0.224,0.225";
bool register_images() {
  return add_options("idx", options("0.1307", "0.3081", "none")) &&
         add_options("idx", {{"data.classes", T::integer, "10", "number of classes", {}, 2, 256},
                             {"data.ood_path", T::text, "", "IDX file of images that show none of the classes"}}) &&
         add_options("cifar10", options(kMean, kStd, "flip_crop")) &&
         add_options("cifar100", options(kMean, kStd, "flip_crop")) &&
         DataSets::of().add("idx", {"IDX files named like MNIST's, plain or .gz", load_idx}) &&
         DataSets::of().add("cifar10", {"CIFAR-10, binary version, plain or .gz",
                                        [](const Config& c) { return load_cifar(c, false); }}) &&
         DataSets::of().add("cifar100", {"CIFAR-100, binary version, plain or .gz",
                                         [](const Config& c) { return load_cifar(c, true); }});
}
const bool registered_images = register_images();
}  // namespace

}  // namespace varion
