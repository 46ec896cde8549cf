// The HDF5 data of a posterior file in memory, after its digests have been found right. HDF5 parses nothing else.
#pragma once

#include <cstdint>
#include <string>

#include "io/posterior_file.hpp"

namespace varion::io {

class VerifiedImage {
 public:
  /// Looks into `bytes`, a whole file. Errors (65): damage.
  VerifiedImage(const std::string& bytes, const std::string& name);
  /// Reads a file, several threads a segment each. Errors: 66, 74; 65 damage.
  explicit VerifiedImage(const std::string& path);
  ~VerifiedImage();
  VerifiedImage(const VerifiedImage&) = delete;
  VerifiedImage& operator=(const VerifiedImage&) = delete;

  const char* data() const { return data_; }
  std::uint64_t size() const { return size_; }
  /// These bytes are not needed any more: a file's memory is given back, so that image and decoded numbers together take
  /// hardly more than one of them.
  void release(std::uint64_t address, std::uint64_t bytes);

 private:
  const char* data_ = nullptr;
  std::uint64_t size_ = 0;
  char* own_ = nullptr;  // mapped
};

/// How much of an image is wanted: without mean, states and history; everything; or nothing, but all that HDF5 has to understand is
/// asked of it.
enum class Depth { attributes, everything, trial };

/// What the image holds. Errors (65).
PosteriorFile parse_posterior(VerifiedImage& image, const std::string& name, Depth depth = Depth::everything);

}  // namespace varion::io
