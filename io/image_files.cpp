#include "io/image_files.hpp"

#include <sys/stat.h>

#include "core/error.hpp"
#include "io/byte_reader.hpp"

namespace varion::io {

std::string plain_or_gz(const std::string& path) {
  struct stat s {};
  const std::string packed = path + ".gz";
  return ::stat(path.c_str(), &s) != 0 && ::stat(packed.c_str(), &s) == 0 ? packed : path;
}

IdxArray read_idx(const std::string& path, int dimensions) {
  ByteReader in(path);
  const std::uint32_t magic = in.big_endian("the magic number");
  if (magic >> 16 != 0) in.refuse(text("no IDX file: it starts with ", magic, ", not two zero bytes"));
  if ((magic >> 8 & 255) != 8) in.refuse(text("element type ", magic >> 8 & 255, ", only 8 (unsigned bytes) is read"));
  if (static_cast<int>(magic & 255) != dimensions)
    in.refuse(text(magic & 255, " dimensions, expected ", dimensions));
  IdxArray out;
  std::uint64_t count = 1;
  for (int k = 0; k < dimensions; ++k) {
    const std::uint32_t extent = in.big_endian("the header");
    if (extent == 0) in.refuse(text("extent ", k, " is 0"));
    out.dims.push_back(static_cast<long>(extent));
    count *= extent;  // each factor < 2^32, product checked before the next one
    if (count > (std::uint64_t(1) << 32)) in.refuse("the header states more than 4 GiB");
  }
  in.append(count, "the values", out.values);
  in.expect_end();
  return out;
}

void read_cifar(const std::string& path, int label_bytes, int classes, CifarImages& into) {
  constexpr size_t kPlane = 32 * 32, kMost = 50000;  // CIFAR-100's training file; CIFAR-10's have 10 000
  ByteReader in(path);
  std::vector<std::uint8_t> record;
  size_t records = 0;
  for (int first = in.byte(); first >= 0; first = in.byte(), ++records) {
    if (records == kMost) in.refuse(text("more than ", kMost, " records"));
    record.assign(1, static_cast<std::uint8_t>(first));
    const auto labels = static_cast<size_t>(label_bytes);
    in.append(labels - 1 + 3 * kPlane, "a record", record);
    const int label = record[labels - 1];
    if (label >= classes)
      in.refuse(text("label ", label, " of record ", records, " is outside [0, ", classes, ")"));
    into.labels.push_back(label);
    const size_t base = into.pixels.size();
    into.pixels.resize(base + 3 * kPlane);
    for (size_t i = 0; i < kPlane; ++i)
      for (size_t c = 0; c < 3; ++c) into.pixels[base + 3 * i + c] = record[labels + c * kPlane + i];
  }
  if (records == 0) in.refuse("the file is empty");
}

}  // namespace varion::io
