// Files that HDF5 reads and writes in our memory: a file driver without a file descriptor. HDF5 is an encoding only; what can
// fail (a full disk, a broken one) happens outside of it, because HDF5 does not survive such errors everywhere.
#pragma once

#include <hdf5.h>

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>

namespace varion::io {

/// What HDF5 has written, page by page. Bytes never written are zeros. The numbers of large arrays are not meant for it: their
/// places are reserved in HDF5's file and filled when it is written (posterior_plan.hpp).
class MemoryPages {
 public:
  void write(std::uint64_t address, const char* data, size_t bytes);
  void read(std::uint64_t address, char* data, size_t bytes) const;
  std::uint64_t size = 0;  // of the file, from when HDF5 has closed it

 private:
  static constexpr size_t kPage = 4096;
  std::unordered_map<std::uint64_t, std::array<char, kPage>> pages_;
};

/// Property lists for H5Fcreate into `pages`, and for H5Fopen of the `bytes` at `image` (read only). Both outlive the file.
hid_t access_pages(MemoryPages& pages);
hid_t access_image(const char* image, std::uint64_t bytes);

/// An HDF5 handle; a negative one is an error (65) named by `what`.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t), const std::string& what);
  ~Handle() { close_(id_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  operator hid_t() const { return id_; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

/// Errors as return values only, and no plugins from the environment.
void quiet_hdf5();

}  // namespace varion::io
