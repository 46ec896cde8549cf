#include "io/safetensors.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.hpp"
#include "io/commit_file.hpp"
#include "io/input_file.hpp"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors files are little-endian, and so must the machine be"
#endif

namespace varion::io {

namespace {
using Json = nlohmann::json;
constexpr std::uint64_t kLengthBytes = 8, kMostHeader = std::uint64_t(16) << 20;

/// What the header says of one tensor.
struct Entry {
  std::string name, dtype;
  std::vector<long> shape;
  std::uint64_t begin = 0, end = 0, count = 1;
};

/// IEEE half precision: 1 sign, 5 exponent, 10 fraction bits.
float from_half(std::uint16_t h) {
  const int exponent = h >> 10 & 31, fraction = h & 1023;
  const float size = exponent == 0    ? std::ldexp(static_cast<float>(fraction), -24)
                     : exponent == 31 ? (fraction == 0 ? INFINITY : NAN)
                                      : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return (h & 0x8000) != 0 ? -size : size;
}

/// The upper half of a float.
float from_bfloat(std::uint16_t b) {
  const std::uint32_t bits = std::uint32_t(b) << 16;
  float v = 0;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}

std::uint64_t whole_number(const Json& v, const std::string& where) {
  require(v.is_number_unsigned() && v.get<std::uint64_t>() < (std::uint64_t(1) << 62), Exit::data, where, " is no count");
  return v.get<std::uint64_t>();
}

Entry entry_of(const std::string& path, const std::string& name, const Json& v) {
  const std::string where = path + ": tensor '" + printable(name) + "'";
  for (const char* key : {"dtype", "shape", "data_offsets"})
    require(v.is_object() && v.contains(key), Exit::data, where, " has no ", key);
  const Json &dtype = v["dtype"], &shape = v["shape"], &place = v["data_offsets"];
  Entry e;
  e.name = name;
  require(dtype.is_string(), Exit::data, where, ": its dtype is no text");
  e.dtype = dtype.get<std::string>();
  require(e.dtype == "F32" || e.dtype == "F16" || e.dtype == "BF16", Exit::data, where, " is of dtype ", printable(e.dtype),
          "; F32, F16 and BF16 are read");
  require(shape.is_array() && shape.size() <= 8, Exit::data, where, ": its shape is no list of at most 8 extents");
  for (const Json& extent : shape) {
    const std::uint64_t n = whole_number(extent, where + ": an extent");
    require(n == 0 || e.count <= (std::uint64_t(1) << 60) / n, Exit::data, where, ": its shape holds more than 2^60 numbers");
    e.count *= n;
    e.shape.push_back(static_cast<long>(n));
  }
  require(place.is_array() && place.size() == 2, Exit::data, where, ": its data_offsets are no pair");
  e.begin = whole_number(place[0], where + ": a data offset");
  e.end = whole_number(place[1], where + ": a data offset");
  const std::uint64_t bytes = e.count * (e.dtype == "F32" ? 4 : 2);
  require(e.begin <= e.end && e.end - e.begin == bytes, Exit::data, where, ": its shape and dtype take ", bytes, " bytes, its data_offsets are ",
          e.begin, " and ", e.end);
  return e;
}

/// The header as JSON, refused before it is nested deeper, or names something twice.
Json header_of(const std::string& path, const std::string& text) {
  std::vector<std::set<std::string>> names;  // of the objects that are open
  const Json::parser_callback_t look = [&](int depth, Json::parse_event_t event, Json& value) {
    require(depth <= 3, Exit::data, path, ": the header is nested too deep");
    if (event == Json::parse_event_t::object_start) names.emplace_back();
    if (event == Json::parse_event_t::object_end) names.pop_back();
    if (event == Json::parse_event_t::key)
      require(names.back().insert(value.get<std::string>()).second, Exit::data, path, ": the header names '",
              printable(value.get<std::string>()), "' twice");
    return true;
  };
  try {
    Json header = Json::parse(text, look);
    require(header.is_object(), Exit::data, path, ": the header is no JSON object");
    return header;
  } catch (const Json::parse_error& e) {
    fail(Exit::data, path, ": the header is no JSON: wrong at byte ", kLengthBytes + e.byte);
  } catch (const Json::out_of_range&) {
    fail(Exit::data, path, ": the header is no JSON: a number is too large");
  }
}

void read_values(const InputFile& file, const std::string& path, std::uint64_t at, const Entry& e, std::vector<float>& values) {
  values.resize(static_cast<size_t>(e.count));
  if (e.dtype == "F32") {
    file.read(at, reinterpret_cast<char*>(values.data()), values.size() * sizeof(float));
  } else {
    std::vector<std::uint16_t> stored(values.size());
    file.read(at, reinterpret_cast<char*>(stored.data()), stored.size() * sizeof(std::uint16_t));
    std::transform(stored.begin(), stored.end(), values.begin(), e.dtype == "F16" ? from_half : from_bfloat);
  }
  for (size_t i = 0; i < values.size(); ++i)
    require(std::isfinite(values[i]), Exit::data, path, ": tensor '", printable(e.name), "' is not finite at index ", i);
}
}  // namespace

std::string printable(const std::string& name) {
  std::string out = name.substr(0, 80);
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = '?';
  return out;
}

Safetensors read_safetensors(const std::string& path) {
  const InputFile file(path, ~std::uint64_t(0));
  require(file.size() >= kLengthBytes, Exit::data, path, ": ", file.size(), " bytes are no safetensors file");
  std::uint64_t length = 0;
  file.read(0, reinterpret_cast<char*>(&length), sizeof length);
  require(length <= kMostHeader, Exit::data, path, ": a header of ", length, " bytes, more than ", kMostHeader, " are not read");
  require(length <= file.size() - kLengthBytes, Exit::data, path, ": the file ends inside the header: ", file.size() - kLengthBytes, " of ",
          length, " bytes");
  std::string text(static_cast<size_t>(length), '\0');
  file.read(kLengthBytes, text.data(), text.size());
  const Json header = header_of(path, text);
  Safetensors out;
  std::vector<Entry> entries;
  for (const auto& [name, v] : header.items()) {
    if (name != "__metadata__") {
      entries.push_back(entry_of(path, name, v));
      continue;
    }
    require(v.is_object(), Exit::data, path, ": __metadata__ is no object");
    for (const auto& [key, value] : v.items()) {
      require(value.is_string(), Exit::data, path, ": __metadata__ '", printable(key), "' is no text");
      out.metadata[key] = value.get<std::string>();
    }
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;  // what has no bytes first
  });
  const std::uint64_t data = kLengthBytes + length, bytes = file.size() - data;
  std::uint64_t reached = 0;
  for (const Entry& e : entries) {
    require(e.begin == reached, Exit::data, path, ": tensor '", printable(e.name), "' starts at byte ", e.begin, " of the data, ",
            e.begin < reached ? "inside the one before" : "behind a gap", " that ends at ", reached);
    require(e.end <= bytes, Exit::data, path, ": tensor '", printable(e.name), "' ends at byte ", e.end, " of ", bytes, " of the data");
    reached = e.end;
  }
  require(reached == bytes, Exit::data, path, ": ", bytes - reached, " bytes behind the last tensor");
  for (const Entry& e : entries) {
    out.tensors.push_back({e.name, e.shape, {}});
    read_values(file, path, data + e.begin, e, out.tensors.back().values);
  }
  return out;
}

void save_safetensors(const std::string& dir, const std::string& name, const Safetensors& content) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!content.metadata.empty()) header["__metadata__"] = content.metadata;
  std::uint64_t at = 0;
  for (const NamedTensor& t : content.tensors) {
    std::uint64_t count = 1;
    for (const long extent : t.shape) count *= static_cast<std::uint64_t>(extent);
    ensure(count == t.values.size() && !header.contains(t.name), "tensor '", t.name, "' has ", t.values.size(), " numbers, not ", count, ", or comes twice");
    const std::uint64_t end = at + count * sizeof(float);
    header[t.name] = {{"dtype", "F32"}, {"shape", t.shape}, {"data_offsets", {at, end}}};
    at = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the numbers start at a multiple of their size
  const std::uint64_t length = text.size();
  PendingFile file(dir, name, kLengthBytes + length + at);
  file.write(0, reinterpret_cast<const char*>(&length), kLengthBytes);
  file.write(kLengthBytes, text.data(), text.size());
  at = kLengthBytes + length;
  for (const NamedTensor& t : content.tensors) {
    file.write(at, reinterpret_cast<const char*>(t.values.data()), t.values.size() * sizeof(float));
    at += t.values.size() * sizeof(float);
  }
  file.commit();
}

}  // namespace varion::io
