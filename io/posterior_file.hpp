// The posterior file, version 1.1 (docs/formats.md): one ordinary HDF5 file, which is also the
// checkpoint. HDF5 only ever works in memory (memory_driver.hpp); the bytes reach the disk through commit_file.hpp. What
// stands behind the HDF5 data (segments.hpp), which HDF5 readers ignore, carries length and digests of
// everything before it, so that a damaged file is refused before HDF5 parses a byte.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace varion::io {

/// One tensor of the parameter table.
struct TensorInfo {
  std::string name;
  std::vector<long> shape;  // PyTorch's, C order
  long offset = 0;          // in the flat vectors
  long size = 0;
};

/// What a file holds. Vectors are flat, in the order of `tensors`' offsets.
struct PosteriorFile {
  std::vector<TensorInfo> tensors;
  std::vector<float> mean;
  std::vector<std::pair<std::string, std::vector<float>>> states;  // hess, momentum, exp_avg ...
  std::map<std::string, std::string> root, model, train, rng, data;  // attributes, as text
  std::string optimizer;
  std::map<std::string, double> optim;
  long step = 0;
  std::map<std::string, std::vector<double>> history;  // columns of equal length, `step` among them
  std::map<std::string, std::vector<double>> layers;   // a number a tensor, in their order; not read back
};

/// Starts the HDF5 library. A parallel build that MPI is there for before it would end itself at the begin of MPI_Finalize, on whichever rank
/// leaves, while a thread saves.
void open_hdf5();

/// The version of the HDF5 library, and whether it is a parallel build.
std::string hdf5_version();

/// A random version-4 UUID.
std::string new_uuid();

/// The bytes of the file.
std::string encode_posterior(const PosteriorFile& p);

/// The file of these bytes. `name` stands in messages. Errors: 65 for damage (truncation, digest, not
/// ours), another major version, missing or wrong datasets, non-finite values.
PosteriorFile decode_posterior(const std::string& bytes, const std::string& name);

void save_posterior(const std::string& dir, const std::string& name, const PosteriorFile& p);
/// Of a file that somebody names, wherever it comes from: one that HDF5 crashes on, or takes more memory or time for
/// than its size explains, is refused (65).
PosteriorFile load_posterior(const std::string& path);
/// The same without mean, states and history; all digests are looked at.
PosteriorFile load_attributes(const std::string& path);

struct Checkpoint {
  std::string path;  // empty: none
  PosteriorFile file;
};
/// The newest valid step-*.h5 of a folder that exists, by the step in the file; `refused` collects why others were not taken. Mostly
/// the last name is the newest file: of the others only attributes are taken.
Checkpoint newest_checkpoint(const std::string& dir, std::vector<std::string>& refused);

/// Removes all but the newest `keep` step-*.h5 up to step `last`, the one just written. What bears a later step was not valid when the
/// run went on from an earlier one, and takes nobody's place.
void prune_checkpoints(const std::string& dir, int keep, std::uint64_t last = ~std::uint64_t(0));
/// The name of a step's checkpoint; sorted by name is sorted by step.
std::string checkpoint_name(std::uint64_t step);

}  // namespace varion::io
