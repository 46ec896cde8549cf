// Readers of image sets: IDX (MNIST and its kin, plain or gzip) and the binary CIFAR files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace varion::io {

/// Unsigned bytes of an IDX file (the format of http://yann.lecun.com/exdb/mnist), C order.
struct IdxArray {
  std::vector<long> dims;
  std::vector<std::uint8_t> values;
};

/// Errors: 66 not there; 65 another magic number, type or number of dimensions, an extent of 0, more than
/// 4 GiB, truncated or too long.
IdxArray read_idx(const std::string& path, int dimensions);

/// Images [count, 32, 32, 3] and their labels.
struct CifarImages {
  std::vector<std::uint8_t> pixels;
  std::vector<std::int32_t> labels;
};

/// Appends the records of one file: `label_bytes` label bytes, of which the last counts, then 3072 pixels,
/// plane by plane. CIFAR-10: 1 label byte; CIFAR-100: 2 (coarse, fine). Errors: 66, 65 as above, a label
/// outside [0, classes), more than 50 000 records.
void read_cifar(const std::string& path, int label_bytes, int classes, CifarImages& into);

/// `path`, or `path`.gz where only that exists.
std::string plain_or_gz(const std::string& path);

}  // namespace varion::io
