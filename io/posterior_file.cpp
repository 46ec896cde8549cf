#include "io/posterior_file.hpp"

#include <hdf5.h>
#include <hdf5_hl.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>

#include "build_info.hpp"
#include "core/error.hpp"
#include "io/commit_file.hpp"

namespace varion::io {

namespace {
constexpr size_t kTrailer = 192;
constexpr char kMagic[] = "varion-posterior 1\n";
constexpr size_t kLimit = size_t(1) << 36;

/// What stands behind the HDF5 data.
std::string trailer(const char* payload, size_t bytes) {
  std::string t = kMagic;
  t += "bytes " + std::to_string(bytes) + "\nsha256 " + sha256(payload, bytes) + "\n";
  t.resize(kTrailer, '\0');
  return t;
}

/// An HDF5 handle; a negative one is an error named by `what`.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t), const std::string& what) : id_(id), close_(close) {
    require(id >= 0, Exit::data, "HDF5: ", what);
  }
  ~Handle() { close_(id_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  operator hid_t() const { return id_; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

void quiet() {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  H5PLset_loading_state(0);  // no plugins from the environment
}

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
  const Handle set(H5Dcreate2(where, name.c_str(), file_type, space, H5P_DEFAULT, H5P_DEFAULT,
                              H5P_DEFAULT),
                   H5Dclose, "dataset " + name);
  ensure(H5Dwrite(set, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0, "HDF5 dataset ", name);
}

hid_t new_group(hid_t where, const std::string& name) {
  const Handle order(H5Pcreate(H5P_GROUP_CREATE), H5Pclose, "property list");
  H5Pset_link_creation_order(order, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
  return H5Gcreate2(where, name.c_str(), H5P_DEFAULT, order, H5P_DEFAULT);
}

void put_tensors(hid_t where, const PosteriorFile& p, const std::vector<float>& flat, bool with_info) {
  int index = 0;
  for (const TensorInfo& t : p.tensors) {
    put_array(where, t.name, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, t.shape, flat.data() + t.offset);
    if (with_info) {
      const Handle set(H5Dopen2(where, t.name.c_str(), H5P_DEFAULT), H5Dclose, t.name);
      put_number(set, "index", index++);
      put_number(set, "offset", static_cast<double>(t.offset));
      put_text(set, "layer", t.name.substr(0, t.name.rfind('.')));
      put_text(set, "kind", t.name.substr(t.name.rfind('.') + 1));
      const char* const labels[] = {"out", "in", "kh", "kw"};
      for (unsigned k = 0; k < t.shape.size() && k < 4; ++k)
        ensure(H5DSset_label(set, k, labels[k]) >= 0, "HDF5 dimension label of ", t.name);
    }
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

std::string get_text(hid_t where, const std::string& name, const std::string& file) {
  const Handle a(H5Aopen(where, name.c_str(), H5P_DEFAULT), H5Aclose, file + ": no attribute " + name);
  const Handle type(H5Aget_type(a), H5Tclose, file + ": type of " + name);
  require(H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) > 0, Exit::data, file,
          ": attribute ", name, " is not text");
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
  double v = 0;
  require(H5Aread(a, H5T_NATIVE_DOUBLE, &v) >= 0, Exit::data, file, ": attribute ", name,
          " is not a number");
  return v;
}

/// A float32 dataset with this shape (empty: any), appended to `out`. Returns its shape.
template <class T>
std::vector<long> get_array(hid_t where, const std::string& name, hid_t type, std::vector<T>& out,
                            const std::string& file) {
  const Handle set(H5Dopen2(where, name.c_str(), H5P_DEFAULT), H5Dclose, file + ": no dataset " + name);
  // Numbers that lie in other files, or come out of a filter, are none of what the digest stands for.
  const Handle how(H5Dget_create_plist(set), H5Pclose, file + ": storage of " + name);
  require(H5Pget_external_count(how) == 0 && H5Pget_layout(how) != H5D_VIRTUAL && H5Pget_nfilters(how) == 0, Exit::data, file, ": ",
          name, " is not stored plainly in the file itself");
  const Handle space(H5Dget_space(set), H5Sclose, file + ": space of " + name);
  const int rank = H5Sget_simple_extent_ndims(space);
  require(rank >= 1 && rank <= 4, Exit::data, file, ": ", name, " has ", rank, " dimensions");
  std::vector<hsize_t> dims(static_cast<size_t>(rank));
  H5Sget_simple_extent_dims(space, dims.data(), nullptr);
  hsize_t total = 1;
  for (const hsize_t d : dims) {
    require(d >= 1 && d < (1ull << 40) / total, Exit::data, file, ": ", name, " has an extent of ", d);
    total *= d;
  }
  const Handle stored(H5Dget_type(set), H5Tclose, file + ": type of " + name);
  require(H5Tget_class(stored) == H5T_FLOAT && H5Dget_storage_size(set) == total * H5Tget_size(stored), Exit::data,
          file, ": ", name, " does not hold its ", total, " numbers");
  const size_t before = out.size();
  out.resize(before + total);
  require(H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out.data() + before) >= 0, Exit::data,
          file, ": cannot read ", name);
  for (size_t i = before; i < out.size(); ++i)
    require(std::isfinite(out[i]), Exit::data, file, ": ", name, " is not finite at index ", i - before);
  return {dims.begin(), dims.end()};
}
}  // namespace

std::string new_uuid() {
  std::random_device source;
  std::string out;
  for (int i = 0; i < 32; ++i) {
    const unsigned r = source() & 15u;
    if (i == 8 || i == 12 || i == 16 || i == 20) out += '-';
    out += "0123456789abcdef"[i == 12 ? 4u : i == 16 ? (r & 3u) | 8u : r];
  }
  return out;
}

std::string encode_posterior(const PosteriorFile& p) {
  quiet();
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "property list");
  H5Pset_fapl_core(access, 1 << 20, 0);
  // The earliest superblock: the newer one's checksum is wrong in images that HDF5 1.10.8 returns.
  H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_V110);
  const Handle create(H5Pcreate(H5P_FILE_CREATE), H5Pclose, "property list");
  H5Pset_link_creation_order(create, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
  const Handle file(H5Fcreate("varion-in-memory", H5F_ACC_TRUNC, create, access), H5Fclose, "file");
  put_text(file, "format", "varion-posterior");
  put_text(file, "format_version", "1.0.0");
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
    put_tensors(g, p, p.mean, true);
  }
  {
    const Handle g(new_group(file, "optim"), H5Gclose, "optim");
    put_text(g, "name", p.optimizer);
    put_number(g, "step", static_cast<double>(p.step));
    for (const auto& [k, v] : p.optim) put_number(g, k, v);
    for (const auto& [name, flat] : p.states) {
      const Handle s(new_group(g, name), H5Gclose, name);
      put_tensors(s, p, flat, false);
      if (name != "hess") continue;
      put_text(s, "sigma_formula", "1/sqrt(ess*(hess+weight_decay))");
      for (const char* k : {"ess", "weight_decay", "weight_decay_1d", "hess_init"})
        if (p.optim.count(k) != 0) put_number(s, k, p.optim.at(k));
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
  ensure(H5Fflush(file, H5F_SCOPE_LOCAL) >= 0, "HDF5 flush");
  const ssize_t size = H5Fget_file_image(file, nullptr, 0);
  ensure(size > 0, "HDF5 image");
  std::string bytes(static_cast<size_t>(size), '\0');
  ensure(H5Fget_file_image(file, bytes.data(), bytes.size()) == size, "HDF5 image");
  bytes += trailer(bytes.data(), bytes.size());
  return bytes;
}

PosteriorFile decode_posterior(const std::string& bytes, const std::string& name) {
  quiet();
  const size_t payload = bytes.size() > kTrailer ? bytes.size() - kTrailer : 0;
  require(payload > 0 && bytes.compare(payload, sizeof kMagic - 1, kMagic) == 0, Exit::data, name,
          ": not a Varion posterior file, or truncated (", bytes.size(), " bytes)");
  // Compared as a whole with what it must be, so that every bit of the trailer counts too.
  require(bytes.compare(payload, kTrailer, trailer(bytes.data(), payload)) == 0, Exit::data, name,
          ": damaged: size or SHA-256 differs from what the file says of itself; take an older "
          "checkpoint");
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "property list");
  H5Pset_fapl_core(access, 1 << 20, 0);
  H5Pset_file_image(access, const_cast<char*>(bytes.data()), payload);
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
  for (const std::string& tensor : link_names(params)) {
    const Handle set(H5Dopen2(params, tensor.c_str(), H5P_DEFAULT), H5Dclose, name + ": " + tensor);
    TensorInfo t;
    t.name = tensor;
    std::vector<float> values;
    t.shape = get_array(params, tensor, H5T_NATIVE_FLOAT, values, name);
    t.size = static_cast<long>(values.size());
    t.offset = static_cast<long>(get_number(set, "offset", name));
    require(t.offset >= 0 && t.offset < static_cast<long>(payload), Exit::data, name, ": offset of ", tensor);
    const auto end = static_cast<size_t>(t.offset + t.size);
    if (p.mean.size() < end) p.mean.resize(end);
    std::copy(values.begin(), values.end(), p.mean.begin() + t.offset);
    p.tensors.push_back(t);
  }
  long covered = 0;
  for (const TensorInfo& t : p.tensors) covered += t.size;
  require(covered > 0 && covered == static_cast<long>(p.mean.size()), Exit::data, name,
          ": tensors cover ", covered, " of ", p.mean.size(), " parameters");
  std::map<long, long> ends;
  for (const TensorInfo& t : p.tensors) ends[t.offset] = t.offset + t.size;
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
  for (const std::string& state : link_names(optim)) {
    const Handle g(H5Gopen2(optim, state.c_str(), H5P_DEFAULT), H5Gclose, name + ": optim/" + state);
    std::vector<float> flat(p.mean.size());
    for (const TensorInfo& t : p.tensors) {
      std::vector<float> values;
      const auto shape = get_array(g, t.name, H5T_NATIVE_FLOAT, values, name);
      require(shape == t.shape, Exit::data, name, ": shape of optim/", state, "/", t.name,
              " differs from params/", t.name);
      std::copy(values.begin(), values.end(), flat.begin() + t.offset);
    }
    p.states.emplace_back(state, std::move(flat));
  }
  const Handle history(H5Gopen2(file, "history", H5P_DEFAULT), H5Gclose, name + ": no group history");
  for (const std::string& column : link_names(history))
    get_array(history, column, H5T_NATIVE_DOUBLE, p.history[column], name);
  return p;
}

void save_posterior(const std::string& dir, const std::string& name, const PosteriorFile& p) {
  commit_file(dir, name, encode_posterior(p));
}

PosteriorFile load_posterior(const std::string& path) {
  return decode_posterior(read_file(path, kLimit), path);
}

namespace {
bool is_checkpoint(const std::string& name) {
  return name.rfind("step-", 0) == 0 && name.size() > 8 && name.substr(name.size() - 3) == ".h5";
}
}  // namespace

std::string newest_checkpoint(const std::string& dir, std::vector<std::string>& refused) {
  std::string best;
  long best_step = -1;
  for (const std::string& name : list_files(dir, true)) {
    if (!is_checkpoint(name)) continue;
    try {
      const PosteriorFile p = load_posterior(dir + "/" + name);
      if (p.step > best_step) {
        best_step = p.step;
        best = dir + "/" + name;
      }
    } catch (const Error& e) {
      refused.push_back(e.what());
    }
  }
  return best;
}

void prune_checkpoints(const std::string& dir, int keep) {
  std::vector<std::string> names;  // zero-padded steps: sorted by name is sorted by step
  for (const std::string& name : list_files(dir))
    if (is_checkpoint(name)) names.push_back(name);
  for (size_t i = 0; i + static_cast<size_t>(keep) < names.size(); ++i)
    ::unlink((dir + "/" + names[i]).c_str());
}

}  // namespace varion::io
