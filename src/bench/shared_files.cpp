// One posterior saved by all ranks: by our own writers (io/posterior_shares.hpp) in turns with HDF5's collective one.
#include <fcntl.h>
#include <hdf5.h>
#include <unistd.h>

#include <filesystem>
#include <memory>

#include "bench/bench.hpp"
#include "core/error.hpp"
#include "io/commit_file.hpp"
#include "io/folder_lock.hpp"
#include "io/memory_driver.hpp"
#include "io/posterior_shares.hpp"

namespace varion {

namespace {
const std::vector<std::string> kVectors{"mean", "hess", "momentum"};

/// A file of three vectors of n numbers, of which this rank has a stretch each.
struct SharedFile {
  Comm comm;
  std::string dir;
  Index n;
  std::vector<float> own[3];

  std::vector<io::Stretch> stretches() const {
    std::vector<io::Stretch> all;
    for (const auto& v : own) all.push_back({v.data(), comm.own(n).begin, static_cast<long>(v.size())});
    return all;
  }
};

/// As a run does it (train/checkpoint_writer.cpp), with nothing beside it. Errors (73, 74): a share's on all ranks alike, what fails on the first
/// rank alone ends all from `main`.
void write_by_shares(const SharedFile& f, const std::string& name) {
  io::FilePlan plan;
  std::unique_ptr<io::PendingFile> pending;
  if (f.comm.is_first()) {
    io::PosteriorFile p;
    p.tensors = {{"weight", {f.n, 1}, 0, f.n}};
    p.states = {{kVectors[1], {}}, {kVectors[2], {}}};
    p.optimizer = "ivon";
    plan = io::plan_posterior(p);
    pending = std::make_unique<io::PendingFile>(f.dir, name, io::file_bytes(plan));
  }
  const std::string part = f.comm.from_first(pending ? pending->part() : ""), places = f.comm.from_first(plan.places_text());
  if (!f.comm.is_first()) plan = io::FilePlan::from_text(places);
  std::vector<io::Holding> held;
  for (int r = 0; r < f.comm.size(); ++r) held.push_back({f.comm.stretch_of(f.n, r).begin, f.comm.stretch_of(f.n, r).end});
  const std::vector<io::Span> spans = io::share_out(plan, held);
  const std::vector<io::Stretch> vectors = f.stretches();
  const auto received = f.comm.swap_texts(io::bytes_for_others(spans, plan, vectors, f.comm.rank(), f.comm.size()));
  std::string written;  // an exit code and a line, then the segments or what went wrong
  try {
    written = "0\n" + io::segments_text(io::write_share(part, io::share_pieces(spans, plan, vectors, f.comm.rank(), received)));
  } catch (const Error& e) {
    written = text(static_cast<int>(e.code()), "\n", e.what());
  }
  std::vector<io::Segment> segments;
  for (const std::string& said : f.comm.gather(written)) {
    const std::string rest = said.substr(said.find('\n') + 1);
    if (const int code = std::stoi(said); code != 0) fail(static_cast<Exit>(code), rest);  // the file on its way goes with `pending`
    for (io::Segment& s : io::segments_from(rest)) segments.push_back(std::move(s));
  }
  if (f.comm.is_first()) io::finish_file(*pending, plan, segments);
  f.comm.barrier();
}

/// The same numbers by HDF5 and MPI-IO: no digests, and the file has its name from the start. On the disk as far as fsync says so.
/// Errors (74) on all ranks alike: closing is collective.
void write_collectively(const SharedFile& f, const std::string& name) {
  const std::string path = f.dir + "/" + name;
  const auto agree = [&](bool done) { require(f.comm.any(done ? 0u : 1u) == 0, Exit::io, "HDF5 could not write '", path, "'"); };
  io::quiet_hdf5();
  {
    const auto handle = [&](hid_t id, herr_t (*close)(hid_t)) {
      agree(id >= 0);
      return io::Handle(id, close, path);
    };
    const io::Handle access = handle(H5Pcreate(H5P_FILE_ACCESS), H5Pclose), transfer = handle(H5Pcreate(H5P_DATASET_XFER), H5Pclose);
    const io::Handle layout = handle(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    agree(H5Pset_fapl_mpio(access, MPI_COMM_WORLD, MPI_INFO_NULL) >= 0 && H5Pset_dxpl_mpio(transfer, H5FD_MPIO_COLLECTIVE) >= 0 &&
          H5Pset_fill_time(layout, H5D_FILL_TIME_NEVER) >= 0);
    const io::Handle file = handle(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access), H5Fclose);
    const hsize_t all = static_cast<hsize_t>(f.n), begin = static_cast<hsize_t>(f.comm.own(f.n).begin);
    for (size_t k = 0; k < kVectors.size(); ++k) {
      const hsize_t count = f.own[k].size();
      const io::Handle space = handle(H5Screate_simple(1, &all, nullptr), H5Sclose), memory = handle(H5Screate_simple(1, &count, nullptr), H5Sclose);
      const io::Handle set = handle(H5Dcreate2(file, kVectors[k].c_str(), H5T_IEEE_F32LE, space, H5P_DEFAULT, layout, H5P_DEFAULT), H5Dclose);
      const herr_t chosen = count > 0 ? H5Sselect_hyperslab(space, H5S_SELECT_SET, &begin, nullptr, &count, nullptr) : H5Sselect_none(space);
      agree(chosen >= 0 && H5Dwrite(set, H5T_NATIVE_FLOAT, memory, space, transfer, f.own[k].data()) >= 0);
    }
    agree(H5Fflush(file, H5F_SCOPE_GLOBAL) >= 0);
  }
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = fd >= 0 && ::fsync(fd) == 0;
  if (fd >= 0) ::close(fd);
  agree(synced);
}

/// Takes files away however a case ends; on the first rank.
struct Files {
  std::vector<std::string> paths;
  void remove() const {
    std::error_code none;
    for (const std::string& path : paths) std::filesystem::remove(path, none);
  }
  ~Files() { remove(); }
};

/// Whether all ranks see a folder of the first one's.
bool is_shared(const Comm& comm, const std::string& dir, const std::string& mark) {
  Files probe;
  if (comm.is_first()) {
    io::commit_file(dir, mark, "");
    probe.paths = {dir + "/" + mark};
  }
  comm.barrier();
  std::error_code none;
  return comm.any(std::filesystem::exists(dir + "/" + mark, none) ? 0u : 1u) == 0;  // all have looked
}
}  // namespace

/// Times of this rank, which waits for the others.
void run_shared_files(Bench& bench) {
  const Comm comm = Comm::world();
  if (comm.size() == 1) return;
  const std::string dir = bench.options().dir;
  for (const Index full : {Index(10000000), Index(124000000)}) {
    const Index n = bench.size(full, full / 1000);
    const std::string ours = text("files/shares/", full), theirs = text("files/collective/", full);
    if (!bench.wants(ours) && !bench.wants(theirs)) continue;
    const bool fits = static_cast<double>(io::free_space(dir)) >= 30. * static_cast<double>(n);
    const std::string mark = comm.from_first(text("varion-bench-", ::getpid())), name = mark + ".h5", other = mark + "-collective.h5";
    if (comm.any(fits ? 0u : 1u) != 0 || !is_shared(comm, dir, mark)) continue;
    SharedFile file{comm, dir, n, {}};
    for (auto& v : file.own) v.assign(static_cast<size_t>(comm.own(n).size()), 0.5f);
    Files files;
    if (comm.is_first()) files.paths = {dir + "/" + name, dir + "/" + other};
    const auto remove = [&] {
      comm.barrier();
      files.remove();
      comm.barrier();
    };
    bench.measure_pair(theirs, ours, {12 * static_cast<double>(n), 0, static_cast<double>(n), "", 0}, remove, [&] { write_collectively(file, other); },
                       [&] { write_by_shares(file, name); });
  }
}

namespace {
const bool registered_shared_files = BenchCases::of().add("shared_files", {"a posterior saved by all ranks", 1, run_shared_files});
}  // namespace

}  // namespace varion
