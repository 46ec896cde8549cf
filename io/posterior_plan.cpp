#include "io/posterior_plan.hpp"

#include <hdf5.h>
#include <hdf5_hl.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>
#include <thread>

#include "build_info.hpp"
#include "core/error.hpp"
#include "io/commit_file.hpp"
#include "io/memory_driver.hpp"

namespace varion::io {

static_assert(sizeof(float) == 4, "the numbers of a state vector are written as they stand in memory");

namespace {
void put_text(hid_t where, const std::string& name, const std::string& value) {
  const Handle type(H5Tcopy(H5T_C_S1), H5Tclose, "string type");
  H5Tset_size(type, H5T_VARIABLE);
  H5Tset_cset(type, H5T_CSET_UTF8);
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose, "space");
  const Handle a(H5Acreate2(where, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose,
                 "attribute " + name);
  const char* p = value.c_str();
  ensure(H5Awrite(a, type, &p) >= 0, "HDF5 attribute ", name);
}

void put_number(hid_t where, const std::string& name, double value) {
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose, "space");
  const bool whole = value == std::floor(value) && std::abs(value) < 9e15;
  const Handle a(H5Acreate2(where, name.c_str(), whole ? H5T_STD_I64LE : H5T_IEEE_F64LE, space,
                            H5P_DEFAULT, H5P_DEFAULT),
                 H5Aclose, "attribute " + name);
  const auto integer = static_cast<long long>(value);
  ensure((whole ? H5Awrite(a, H5T_NATIVE_LLONG, &integer)
                : H5Awrite(a, H5T_NATIVE_DOUBLE, &value)) >= 0,
         "HDF5 attribute ", name);
}

void put_array(hid_t where, const std::string& name, hid_t file_type, hid_t memory_type,
               const std::vector<long>& shape, const void* data) {
  std::vector<hsize_t> dims(shape.begin(), shape.end());
  const Handle space(H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr), H5Sclose,
                     "space of " + name);
  const Handle timeless(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, "property list");
  H5Pset_obj_track_times(timeless, false);  // the same run, the same bytes
  const Handle set(H5Dcreate2(where, name.c_str(), file_type, space, H5P_DEFAULT, timeless, H5P_DEFAULT), H5Dclose,
                   "dataset " + name);
  ensure(H5Dwrite(set, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0, "HDF5 dataset ", name);
}

hid_t new_group(hid_t where, const std::string& name) {
  const Handle order(H5Pcreate(H5P_GROUP_CREATE), H5Pclose, "property list");
  H5Pset_obj_track_times(order, false);
  H5Pset_link_creation_order(order, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
  return H5Gcreate2(where, name.c_str(), H5P_DEFAULT, order, H5P_DEFAULT);
}

/// Datasets whose numbers HDF5 never sees: it reserves their places, which go into `plan` as those of state vector `vector`.
void place_tensors(hid_t where, const PosteriorFile& p, int vector, FilePlan& plan) {
  const Handle reserved(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, "property list");
  H5Pset_obj_track_times(reserved, false);
  H5Pset_alloc_time(reserved, H5D_ALLOC_TIME_EARLY);
  H5Pset_fill_time(reserved, H5D_FILL_TIME_NEVER);
  int index = 0;
  for (const TensorInfo& t : p.tensors) {
    const std::vector<hsize_t> dims(t.shape.begin(), t.shape.end());
    const Handle space(H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr), H5Sclose, "space of " + t.name);
    const Handle set(H5Dcreate2(where, t.name.c_str(), H5T_IEEE_F32LE, space, H5P_DEFAULT, reserved, H5P_DEFAULT), H5Dclose,
                     "dataset " + t.name);
    const haddr_t address = H5Dget_offset(set);
    ensure(address != HADDR_UNDEF, "HDF5 reserves nothing for ", t.name);
    plan.places.push_back({vector, t.offset, t.size, address});
    if (vector > 0) continue;
    put_number(set, "index", index++);
    put_number(set, "offset", static_cast<double>(t.offset));
    put_text(set, "layer", t.name.substr(0, t.name.rfind('.')));
    put_text(set, "kind", t.name.substr(t.name.rfind('.') + 1));
    const char* const labels[] = {"out", "in", "kh", "kw"};
    for (unsigned k = 0; k < t.shape.size() && k < 4; ++k)
      ensure(H5DSset_label(set, k, labels[k]) >= 0, "HDF5 dimension label of ", t.name);
  }
}

/// Columns over one dimension scale `scale`, which has been written.
void put_columns(hid_t where, const std::string& scale, const std::map<std::string, std::vector<double>>& columns) {
  const Handle along(H5Dopen2(where, scale.c_str(), H5P_DEFAULT), H5Dclose, "dataset " + scale);
  ensure(H5DSset_scale(along, scale.c_str()) >= 0, "HDF5 dimension scale ", scale);
  for (const auto& [name, column] : columns) {
    if (name == scale) continue;
    put_array(where, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, {static_cast<long>(column.size())}, column.data());
    const Handle set(H5Dopen2(where, name.c_str(), H5P_DEFAULT), H5Dclose, "dataset " + name);
    ensure(H5DSattach_scale(set, along, 0) >= 0, "HDF5 dimension scale of ", name);
  }
}

/// Strings of one fixed length, padded with zeros.
void put_strings(hid_t where, const std::string& name, const std::vector<std::string>& values) {
  size_t width = 1;
  for (const std::string& v : values) width = std::max(width, v.size());
  std::string packed;
  for (const std::string& v : values) packed += v + std::string(width - v.size(), '\0');
  const Handle type(H5Tcopy(H5T_C_S1), H5Tclose, "string type");
  H5Tset_size(type, width);
  H5Tset_strpad(type, H5T_STR_NULLPAD);
  put_array(where, name, type, type, {static_cast<long>(values.size())}, packed.data());
}

/// Writes everything but the state vectors with HDF5.
void write_skeleton(const PosteriorFile& p, MemoryPages& pages, FilePlan& plan) {
  quiet_hdf5();
  const Handle access(access_pages(pages), H5Pclose, "property list");
  H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_V110);  // what the oldest readers know
  H5Pset_alignment(access, 1 << 16, 4096);  // large arrays begin with a page
  const Handle create(H5Pcreate(H5P_FILE_CREATE), H5Pclose, "property list");
  H5Pset_link_creation_order(create, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
  const Handle file(H5Fcreate("varion-in-memory", H5F_ACC_TRUNC, create, access), H5Fclose, "file");
  put_text(file, "format", "varion-posterior");
  put_text(file, "format_version", "1.1.0");
  put_text(file, "complete", "true");
  put_text(file, "software", "varion");
  put_text(file, "softwareVersion", VARION_VERSION " " VARION_GIT);
  for (const auto& [k, v] : p.root) put_text(file, k, v);
  const auto texts = [&](const char* name, const std::map<std::string, std::string>& values) {
    const Handle g(new_group(file, name), H5Gclose, name);
    for (const auto& [k, v] : values) put_text(g, k, v);
  };
  texts("model", p.model);
  {
    const Handle g(new_group(file, "params"), H5Gclose, "params");
    place_tensors(g, p, 0, plan);
  }
  {
    const Handle g(new_group(file, "optim"), H5Gclose, "optim");
    put_text(g, "name", p.optimizer);
    put_number(g, "step", static_cast<double>(p.step));
    for (const auto& [k, v] : p.optim) put_number(g, k, v);
    for (size_t k = 0; k < p.states.size(); ++k) {
      const std::string& name = p.states[k].first;
      const Handle s(new_group(g, name), H5Gclose, name);
      place_tensors(s, p, static_cast<int>(k) + 1, plan);
      if (name != "hess") continue;
      put_text(s, "sigma_formula", "1/sqrt(ess*(hess+weight_decay))");
      for (const char* key : {"ess", "weight_decay", "weight_decay_1d", "hess_init"})
        if (p.optim.count(key) != 0) put_number(s, key, p.optim.at(key));
    }
  }
  texts("train", p.train);
  texts("rng", p.rng);
  texts("data", p.data);
  {
    const Handle g(new_group(file, "history"), H5Gclose, "history");
    const auto step = p.history.find("step");
    if (step != p.history.end() && !step->second.empty()) {
      put_array(g, "step", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, {static_cast<long>(step->second.size())},
                step->second.data());
      put_columns(g, "step", p.history);
    }
  }
  if (!p.layers.empty()) {
    const Handle g(new_group(file, "layers"), H5Gclose, "layers");
    std::vector<std::string> names;
    for (const TensorInfo& t : p.tensors) names.push_back(t.name);
    put_strings(g, "name", names);
    put_columns(g, "name", p.layers);
  }
}
}  // namespace

FilePlan plan_posterior(const PosteriorFile& p) {
  FilePlan plan;
  MemoryPages pages;
  write_skeleton(p, pages, plan);
  plan.bytes = pages.size;
  std::sort(plan.places.begin(), plan.places.end(), [](const Place& a, const Place& b) { return a.address < b.address; });
  // What lies between the places is HDF5's own.
  std::uint64_t reached = 0;
  const auto own_until = [&](std::uint64_t end) {
    ensure(end >= reached, "HDF5 has reserved one place twice");
    if (end == reached) return;
    std::string bytes(static_cast<size_t>(end - reached), '\0');
    pages.read(reached, bytes.data(), bytes.size());
    plan.own.emplace_back(reached, std::move(bytes));
  };
  for (const Place& place : plan.places) {
    own_until(place.address);
    reached = place.address + 4 * static_cast<std::uint64_t>(place.count);
  }
  own_until(plan.bytes);
  return plan;
}

std::string FilePlan::places_text() const {
  std::string out = text(bytes, '\n');
  for (const Place& p : places) out += text(p.vector, ' ', p.begin, ' ', p.count, ' ', p.address, '\n');
  return out;
}

FilePlan FilePlan::from_text(const std::string& lines) {
  FilePlan plan;
  const char *at = lines.data(), *const end = at + lines.size();
  at = std::from_chars(at, end, plan.bytes).ptr + 1;
  while (at < end) {
    Place p{};
    at = std::from_chars(at, end, p.vector).ptr + 1;
    at = std::from_chars(at, end, p.begin).ptr + 1;
    at = std::from_chars(at, end, p.count).ptr + 1;
    at = std::from_chars(at, end, p.address).ptr + 1;
    plan.places.push_back(p);
  }
  return plan;
}

std::vector<Piece> pieces_of(const FilePlan& plan, const std::vector<Stretch>& vectors) {
  std::vector<Piece> out;
  for (const auto& [address, bytes] : plan.own) out.push_back({address, bytes.data(), bytes.size()});
  for (const Place& p : plan.places) {
    const Stretch& s = vectors.at(static_cast<size_t>(p.vector));
    const long begin = std::max(p.begin, s.begin), end = std::min(p.begin + p.count, s.begin + s.count);
    if (begin >= end) continue;
    out.push_back({p.address + 4 * static_cast<std::uint64_t>(begin - p.begin),
                   reinterpret_cast<const char*>(s.data + (begin - s.begin)), 4 * static_cast<size_t>(end - begin)});
  }
  std::sort(out.begin(), out.end(), [](const Piece& a, const Piece& b) { return a.address < b.address; });
  return out;
}

std::vector<Segment> write_pieces(const std::vector<Piece>& pieces, const WriteAt& write) {
  const auto runs = runs_of(pieces);
  std::vector<Segment> segments(runs.size());
  const auto hash = [&] {
    for (size_t i = 0; i < runs.size(); ++i) {
      Segment& s = segments[i];
      s.address = runs[i][0].address;
      for (const Piece& p : runs[i]) s.bytes += p.bytes;
      s.digest = xxh128(runs[i]);
    }
  };
  // The digests are a second thread's work while this one waits for the kernel; of little they are not worth a thread.
  std::thread beside;
  if (runs.size() > 1) try {
      beside = std::thread(hash);
    } catch (const std::system_error&) {
    }
  struct Joined {  // also where writing fails
    std::thread& thread;
    ~Joined() {
      if (thread.joinable()) thread.join();
    }
  } joined{beside};
  for (const auto& run : runs)
    for (const Piece& p : run) write(p.address, p.data, p.bytes);
  if (beside.joinable()) beside.join();
  else hash();
  return segments;
}

void finish_file(PendingFile& file, const FilePlan& plan, std::vector<Segment> segments) {
  std::sort(segments.begin(), segments.end(), [](const Segment& a, const Segment& b) { return a.address < b.address; });
  const std::string end = trailer_of(segments);
  file.write(plan.bytes, end.data(), end.size());
  file.commit();
}

void write_file(const std::string& dir, const std::string& name, const FilePlan& plan, const std::vector<Stretch>& vectors) {
  PendingFile file(dir, name, file_bytes(plan));
  auto segments = write_pieces(pieces_of(plan, vectors),
                               [&](std::uint64_t at, const char* data, size_t n) { file.write(at, data, n); });
  finish_file(file, plan, std::move(segments));
}

std::uint64_t file_bytes(const FilePlan& plan) { return plan.bytes + kTrailer + 75 * ((plan.bytes + kSegment - 1) / kSegment); }

std::vector<Stretch> whole_vectors(const PosteriorFile& p) {
  std::vector<Stretch> out{{p.mean.data(), 0, static_cast<long>(p.mean.size())}};
  for (const auto& [name, flat] : p.states) {
    ensure(flat.size() == p.mean.size(), name, " and mean differ in length");
    out.push_back({flat.data(), 0, static_cast<long>(flat.size())});
  }
  return out;
}

}  // namespace varion::io
