// Files of named tensors as PyTorch's users exchange them (https://github.com/huggingface/safetensors, format section of its
// README): 8 bytes with the header's length, a JSON header of name -> dtype, shape, place, then the numbers without gaps.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace varion::io {

struct NamedTensor {
  std::string name;
  std::vector<long> shape;  // C order; empty: one number
  std::vector<float> values;
};

struct Safetensors {
  std::vector<NamedTensor> tensors;  // in the order of their bytes
  std::map<std::string, std::string> metadata;
};

/// F32, F16 and BF16 become float. Memory grows with the file, not with what its header claims. Errors: 66 not there; 65 a
/// header over 16 MiB (the format allows 100 MB: no model needs them), that is no JSON, nested or repeated names, another
/// dtype, a shape that does not fit its bytes, bytes that overlap, leave a gap or end outside the file, a number that is not
/// finite; 74 reading failed.
Safetensors read_safetensors(const std::string& path);

/// dir/name, whole or not at all (commit_file.hpp); all numbers as F32. Errors: 73, 74.
void save_safetensors(const std::string& dir, const std::string& name, const Safetensors& content);

/// A name from a file as it may stand in a message: one line, at most 80 characters.
std::string printable(const std::string& name);

}  // namespace varion::io
