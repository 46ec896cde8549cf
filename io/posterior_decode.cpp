#include <hdf5.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.hpp"
#include "core/huge_pages.hpp"
#include "io/memory_driver.hpp"
#include "io/parallel.hpp"
#include "io/posterior_image.hpp"

namespace varion::io {

namespace {
/// What is read from it has room for one value.
void require_one(hid_t attribute, const std::string& name, const std::string& file) {
  const Handle space(H5Aget_space(attribute), H5Sclose, file + ": space of " + name);
  require(H5Sget_simple_extent_npoints(space) == 1, Exit::data, file, ": attribute ", name, " is not one value");
}

std::string get_text(hid_t where, const std::string& name, const std::string& file) {
  const Handle a(H5Aopen(where, name.c_str(), H5P_DEFAULT), H5Aclose, file + ": no attribute " + name);
  const Handle type(H5Aget_type(a), H5Tclose, file + ": type of " + name);
  require(H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) > 0, Exit::data, file,
          ": attribute ", name, " is not text");
  require_one(a, name, file);
  char* p = nullptr;
  require(H5Aread(a, type, &p) >= 0 && p != nullptr, Exit::data, file, ": attribute ", name);
  const std::string value = p;
  H5free_memory(p);
  return value;
}

std::vector<std::string> attribute_names(hid_t where) {
  std::vector<std::string> names;
  H5Aiterate2(where, H5_INDEX_NAME, H5_ITER_INC, nullptr,
              [](hid_t, const char* name, const H5A_info_t*, void* out) -> herr_t {
                static_cast<std::vector<std::string>*>(out)->emplace_back(name);
                return 0;
              },
              &names);
  return names;
}

std::vector<std::string> link_names(hid_t where) {
  std::vector<std::string> names;
  H5Literate(where, H5_INDEX_CRT_ORDER, H5_ITER_INC, nullptr,
             [](hid_t, const char* name, const H5L_info_t* info, void* out) -> herr_t {
               if (info->type == H5L_TYPE_HARD)
                 static_cast<std::vector<std::string>*>(out)->emplace_back(name);
               return 0;
             },
             &names);
  return names;
}

std::map<std::string, std::string> get_texts(hid_t where, const std::string& file) {
  std::map<std::string, std::string> out;
  for (const std::string& n : attribute_names(where)) out[n] = get_text(where, n, file);
  return out;
}

double get_number(hid_t where, const std::string& name, const std::string& file) {
  const Handle a(H5Aopen(where, name.c_str(), H5P_DEFAULT), H5Aclose, file + ": no attribute " + name);
  require_one(a, name, file);
  double v = 0;
  require(H5Aread(a, H5T_NATIVE_DOUBLE, &v) >= 0, Exit::data, file, ": attribute ", name,
          " is not a number");
  return v;
}

/// Zeros, in huge pages where there are many.
std::vector<float> zeros(size_t count) {
  std::vector<float> v;
  v.reserve(count);
  wish_huge_pages(v.data(), count * sizeof(float));
  v.resize(count);
  return v;
}

/// Numbers in the file itself, in no filter.
struct Dataset {
  Dataset(hid_t where, const std::string& called, const std::string& of)
      : name(called), file(of), id(H5Dopen2(where, called.c_str(), H5P_DEFAULT), H5Dclose, of + ": no dataset " + called) {
    // Numbers that lie in other files, or come out of a filter, are none of what the digest stands for.
    const Handle how(H5Dget_create_plist(id), H5Pclose, file + ": storage of " + name);
    require(H5Pget_external_count(how) == 0 && H5Pget_layout(how) != H5D_VIRTUAL && H5Pget_nfilters(how) == 0, Exit::data, file, ": ",
            name, " is not stored plainly in the file itself");
    const Handle space(H5Dget_space(id), H5Sclose, file + ": space of " + name);
    const int rank = H5Sget_simple_extent_ndims(space);
    require(rank >= 1 && rank <= 4, Exit::data, file, ": ", name, " has ", rank, " dimensions");
    std::vector<hsize_t> dims(static_cast<size_t>(rank));
    H5Sget_simple_extent_dims(space, dims.data(), nullptr);
    for (const hsize_t d : dims) {
      require(d >= 1 && d < (1ull << 40) / total, Exit::data, file, ": ", name, " has an extent of ", d);
      total *= d;
    }
    const Handle stored(H5Dget_type(id), H5Tclose, file + ": type of " + name);
    require(H5Tget_class(stored) == H5T_FLOAT && H5Dget_storage_size(id) == total * H5Tget_size(stored), Exit::data, file, ": ", name,
            " does not hold its ", total, " numbers");
    shape.assign(dims.begin(), dims.end());
  }

  /// Whether its numbers lie in the image as they shall stand in memory: HDF5 has then no part in reading them.
  template <class T>
  bool as_is(hid_t type, const VerifiedImage& image) const {
    const Handle stored(H5Dget_type(id), H5Tclose, file + ": type of " + name);
    const std::uint64_t at = H5Dget_offset(id), bytes = total * sizeof(T);
    return H5Tequal(stored, type) > 0 && at <= image.size() && bytes <= image.size() - at;
  }

  template <class T>
  void read_by_hdf5(hid_t type, T* out) const {
    require(H5Dread(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) >= 0, Exit::data, file, ": cannot read ", name);
  }

  /// What HDF5 does in `read`, which gives the numbers' place back before HDF5 goes on.
  template <class T>
  void try_read(hid_t type, VerifiedImage& image) const {
    const std::uint64_t at = H5Dget_offset(id);
    if (!as_is<T>(type, image)) read_by_hdf5(type, std::vector<T>(total).data());
    image.release(at, H5Dget_storage_size(id));
  }

  /// Its numbers. Gives their place in the image back. Errors (65): one is not finite.
  template <class T>
  void read(hid_t type, T* out, VerifiedImage& image) const {
    const std::uint64_t at = H5Dget_offset(id);
    const bool copied = as_is<T>(type, image);  // by several threads
    if (!copied) read_by_hdf5(type, out);
    constexpr size_t most = size_t(1) << 20;
    for_parts((total + most - 1) / most, [&](size_t part) {
      const size_t begin = part * most, end = std::min<size_t>(begin + most, total);
      if (copied) std::memcpy(out + begin, image.data() + at + begin * sizeof(T), (end - begin) * sizeof(T));
      // A sum of zeros, or not a number: one pass that the compiler can do in vectors.
      T wrong = 0;
      for (size_t i = begin; i < end; ++i) wrong += out[i] - out[i];
      for (size_t i = begin; wrong != 0 && i < end; ++i)
        require(std::isfinite(out[i]), Exit::data, file, ": ", name, " is not finite at index ", i);
    });
    image.release(at, H5Dget_storage_size(id));
  }

  const std::string& name;
  const std::string& file;
  Handle id;
  std::vector<long> shape;
  hsize_t total = 1;
};
}  // namespace

void open_hdf5() { require(H5open() >= 0, Exit::environment, "the HDF5 library does not start"); }

std::string hdf5_version() {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
#ifdef H5_HAVE_PARALLEL
  const char* const kind = ", parallel";
#else
  const char* const kind = ", serial";
#endif
  return text(major, ".", minor, ".", release, kind);
}

PosteriorFile parse_posterior(VerifiedImage& image, const std::string& name, Depth depth) {
  quiet_hdf5();
  const std::uint64_t payload = image.size();
  const Handle access(access_image(image.data(), payload), H5Pclose, "property list");
  const Handle file(H5Fopen("varion-in-memory", H5F_ACC_RDONLY, access), H5Fclose,
                    name + ": not an HDF5 file");
  PosteriorFile p;
  p.root = get_texts(file, name);
  require(p.root["format"] == "varion-posterior", Exit::data, name, ": format is '",
          p.root["format"], "'");
  require(p.root["format_version"].rfind("1.", 0) == 0, Exit::data, name, ": version ",
          p.root["format_version"], " needs a newer Varion; this one reads 1.x");
  for (const char* k : {"format", "format_version", "complete", "software", "softwareVersion"})
    p.root.erase(k);
  const auto texts = [&](const char* group) {
    const Handle g(H5Gopen2(file, group, H5P_DEFAULT), H5Gclose, name + ": no group " + group);
    return get_texts(g, name);
  };
  p.model = texts("model");
  p.train = texts("train");
  p.rng = texts("rng");
  p.data = texts("data");
  const Handle params(H5Gopen2(file, "params", H5P_DEFAULT), H5Gclose, name + ": no group params");
  const std::vector<std::string> names = link_names(params);
  for (const std::string& tensor : names) {
    const Dataset set(params, tensor, name);
    TensorInfo t;
    t.name = tensor;
    t.offset = static_cast<long>(get_number(set.id, "offset", name));
    require(t.offset >= 0 && t.offset < static_cast<long>(payload) && set.total <= payload, Exit::data, name, ": offset of ", tensor);
    t.shape = set.shape;
    t.size = static_cast<long>(set.total);
    p.tensors.push_back(t);
  }
  long covered = 0, last = 0;
  std::map<long, long> ends;
  for (const TensorInfo& t : p.tensors) {
    covered += t.size;
    ends[t.offset] = t.offset + t.size;
    last = std::max(last, t.offset + t.size);
  }
  require(covered > 0 && covered == last && static_cast<std::uint64_t>(covered) <= payload, Exit::data, name, ": tensors cover ", covered,
          " of ", last, " parameters");
  long reached = 0;
  for (const auto& [begin, end] : ends) {
    require(begin == reached, Exit::data, name, ": tensors overlap at offset ", begin);
    reached = end;
  }
  const Handle optim(H5Gopen2(file, "optim", H5P_DEFAULT), H5Gclose, name + ": no group optim");
  p.optimizer = get_text(optim, "name", name);
  for (const std::string& a : attribute_names(optim))
    if (a != "name" && a != "step") p.optim[a] = get_number(optim, a, name);
  p.step = static_cast<long>(get_number(optim, "step", name));
  require(p.step >= 0, Exit::data, name, ": step ", p.step, " is negative");
  if (depth == Depth::attributes) return p;
  const bool trial = depth == Depth::trial;
  const auto read_floats = [&](const Dataset& set, std::vector<float>& flat, long offset) {
    trial ? set.try_read<float>(H5T_NATIVE_FLOAT, image) : set.read(H5T_NATIVE_FLOAT, flat.data() + offset, image);
  };
  if (!trial) p.mean = zeros(static_cast<size_t>(covered));
  for (const TensorInfo& t : p.tensors) read_floats(Dataset(params, t.name, name), p.mean, t.offset);
  for (const std::string& state : link_names(optim)) {
    const Handle g(H5Gopen2(optim, state.c_str(), H5P_DEFAULT), H5Gclose, name + ": optim/" + state);
    std::vector<float> flat = zeros(p.mean.size());
    for (const TensorInfo& t : p.tensors) {
      const Dataset set(g, t.name, name);
      require(set.shape == t.shape, Exit::data, name, ": shape of optim/", state, "/", t.name, " differs from params/", t.name);
      read_floats(set, flat, t.offset);
    }
    p.states.emplace_back(state, std::move(flat));
  }
  const Handle history(H5Gopen2(file, "history", H5P_DEFAULT), H5Gclose, name + ": no group history");
  for (const std::string& column : link_names(history)) {
    const Dataset set(history, column, name);
    require(set.total <= payload, Exit::data, name, ": history/", column, " is longer than the file");
    if (trial) {
      set.try_read<double>(H5T_NATIVE_DOUBLE, image);
      continue;
    }
    std::vector<double>& rows = p.history[column];
    rows.resize(set.total);
    set.read(H5T_NATIVE_DOUBLE, rows.data(), image);
  }
  return p;
}

}  // namespace varion::io
