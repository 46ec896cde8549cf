#include "io/memory_driver.hpp"

#if __has_include(<H5FDdevelop.h>)
#include <H5FDdevelop.h>  // from HDF5 1.14 on, what a driver needs stands here
#endif

#include <algorithm>
#include <cstring>

#include "core/error.hpp"

namespace varion::io {

void MemoryPages::write(std::uint64_t address, const char* data, size_t bytes) {
  while (bytes > 0) {
    const size_t at = address % kPage, n = std::min(bytes, kPage - at);
    std::memcpy(pages_[address / kPage].data() + at, data, n);  // a new page is all zeros
    address += n;
    data += n;
    bytes -= n;
  }
}

void MemoryPages::read(std::uint64_t address, char* data, size_t bytes) const {
  while (bytes > 0) {
    const size_t at = address % kPage, n = std::min(bytes, kPage - at);
    const auto page = pages_.find(address / kPage);
    if (page == pages_.end()) std::memset(data, 0, n);
    else std::memcpy(data, page->second.data() + at, n);
    address += n;
    data += n;
    bytes -= n;
  }
}

Handle::Handle(hid_t id, herr_t (*close)(hid_t), const std::string& what) : id_(id), close_(close) {
  require(id >= 0, Exit::data, "HDF5: ", what);
}

void quiet_hdf5() {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  H5PLset_loading_state(0);
}

namespace {
/// What a property list carries: one of the two.
struct Target {
  MemoryPages* pages;
  const char* image;
  std::uint64_t bytes;
};

struct OpenFile {
  H5FD_t base;  // HDF5's part comes first
  Target target;
  haddr_t end_of_addresses, end_of_file;
};
OpenFile& as_file(H5FD_t* f) { return *reinterpret_cast<OpenFile*>(f); }
const OpenFile& as_file(const H5FD_t* f) { return *reinterpret_cast<const OpenFile*>(f); }

// Called from C: nothing may be thrown through it.
H5FD_t* open_file(const char*, unsigned, hid_t access, haddr_t) noexcept {
  const auto* target = static_cast<const Target*>(H5Pget_driver_info(access));
  if (target == nullptr) return nullptr;
  auto* f = new OpenFile{};
  f->target = *target;
  f->end_of_file = target->bytes;
  return &f->base;
}

herr_t close_file(H5FD_t* file) noexcept {
  const OpenFile& f = as_file(file);
  if (f.target.pages != nullptr) f.target.pages->size = f.end_of_addresses;
  delete &f;
  return 0;
}

int compare(const H5FD_t* a, const H5FD_t* b) noexcept { return a < b ? -1 : a > b ? 1 : 0; }

herr_t query(const H5FD_t*, unsigned long* flags) noexcept {
  if (flags != nullptr) *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_AGGREGATE_SMALLDATA;
  return 0;
}

haddr_t get_eoa(const H5FD_t* f, H5FD_mem_t) noexcept { return as_file(f).end_of_addresses; }
haddr_t get_eof(const H5FD_t* f, H5FD_mem_t) noexcept { return as_file(f).end_of_file; }
herr_t set_eoa(H5FD_t* f, H5FD_mem_t, haddr_t end) noexcept {
  as_file(f).end_of_addresses = end;
  return 0;
}
herr_t truncate(H5FD_t* f, hid_t, hbool_t) noexcept {
  as_file(f).end_of_file = std::max(as_file(f).end_of_file, as_file(f).end_of_addresses);
  return 0;
}

herr_t read(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, size_t bytes, void* to) noexcept {
  const OpenFile& f = as_file(file);
  if (address > f.end_of_addresses || bytes > f.end_of_addresses - address) return -1;
  if (f.target.pages != nullptr) {
    f.target.pages->read(address, static_cast<char*>(to), bytes);
    return 0;
  }
  if (address > f.target.bytes || bytes > f.target.bytes - address) return -1;
  std::memcpy(to, f.target.image + address, bytes);
  return 0;
}

herr_t write(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, size_t bytes, const void* from) noexcept {
  OpenFile& f = as_file(file);
  if (f.target.pages == nullptr) return -1;
  f.target.pages->write(address, static_cast<const char*>(from), bytes);
  f.end_of_file = std::max<haddr_t>(f.end_of_file, address + bytes);
  return 0;
}

hid_t driver() {
  // Members by name: later versions of HDF5 have more of them, in another order.
  static const H5FD_class_t table = [] {
    H5FD_class_t c{};
#ifdef H5FD_CLASS_VERSION
    c.version = H5FD_CLASS_VERSION;
    c.value = static_cast<H5FD_class_value_t>(H5_VFD_RESERVED + 1);
#endif
    c.name = "varion-memory";
    c.maxaddr = static_cast<haddr_t>(1) << 62;
    c.fc_degree = H5F_CLOSE_WEAK;
    c.fapl_size = sizeof(Target);
    c.open = open_file;
    c.close = close_file;
    c.cmp = compare;
    c.query = query;
    c.get_eoa = get_eoa;
    c.set_eoa = set_eoa;
    c.get_eof = get_eof;
    c.read = read;
    c.write = write;
    c.truncate = truncate;
    const H5FD_mem_t map[H5FD_MEM_NTYPES] = H5FD_FLMAP_DICHOTOMY;
    std::copy(std::begin(map), std::end(map), std::begin(c.fl_map));
    return c;
  }();
  static const hid_t id = H5FDregister(&table);
  ensure(id >= 0, "HDF5 takes no file driver");
  return id;
}

hid_t access_target(const Target& target) {
  const hid_t list = H5Pcreate(H5P_FILE_ACCESS);
  ensure(list >= 0 && H5Pset_driver(list, driver(), &target) >= 0, "HDF5 property list");
  return list;
}
}  // namespace

hid_t access_pages(MemoryPages& pages) { return access_target({&pages, nullptr, 0}); }
hid_t access_image(const char* image, std::uint64_t bytes) { return access_target({nullptr, image, bytes}); }

}  // namespace varion::io
