// Saving and loading a posterior, each in turns with a plain write or read of the same bytes in the same folder.
#include <unistd.h>

#include <cstring>

#include "bench/bench.hpp"
#include "io/commit_file.hpp"
#include "io/folder_lock.hpp"
#include "io/input_file.hpp"
#include "io/posterior_file.hpp"

namespace varion {

namespace {
/// IVON's state of a network of n parameters, in tensors of a few million.
io::PosteriorFile made_up_posterior(Index n) {
  io::PosteriorFile p;
  const Index most = Index(4) << 20;
  for (Index at = 0; at < n; at += most) {
    const Index size = std::min(most, n - at);
    p.tensors.push_back({text("layers.", p.tensors.size(), ".weight"), {size, 1}, at, size});
  }
  p.mean.resize(static_cast<size_t>(n));
  for (size_t i = 0; i < p.mean.size(); ++i) p.mean[i] = static_cast<float>(i % 1000003) * 1e-6f;
  p.states = {{"hess", p.mean}, {"momentum", p.mean}};
  p.optimizer = "ivon";
  p.optim = {{"ess", 50000}, {"weight_decay", 1e-4}};
  return p;
}
}  // namespace

/// Times from the first call to the file under its name, on the disk as far as fsync says so. A plain write is one call a
/// vector; a plain read is one into memory that has been touched.
void run_files(Bench& bench) {
  if (Comm::world().size() > 1) return;
  const std::string dir = bench.options().dir;
  for (const Index full : {Index(10000000), Index(124000000)}) {
    const Index n = bench.size(full, full / 10000);
    const std::string save = text("files/save/", full), load = text("files/load/", full);
    if (!bench.wants(save) && !bench.wants(load)) continue;
    if (static_cast<double>(io::free_space(dir)) < 30. * static_cast<double>(n)) continue;  // two files of 12 bytes a parameter
    io::PosteriorFile p = made_up_posterior(n);
    const std::string mark = text("varion-bench-", ::getpid()), name = mark + ".h5", raw = mark + ".raw";
    const size_t vector = p.mean.size() * sizeof(float);
    const Work work{static_cast<double>(3 * vector), 0, static_cast<double>(n), "", 0};
    const auto remove = [&] {
      io::remove_file(dir + "/" + name);
      io::remove_file(dir + "/" + raw);
    };
    const auto write_plainly = [&] {
      io::PendingFile file(dir, raw, 0);
      file.write(0, reinterpret_cast<const char*>(p.mean.data()), vector);
      file.write(vector, reinterpret_cast<const char*>(p.states[0].second.data()), vector);
      file.write(2 * vector, reinterpret_cast<const char*>(p.states[1].second.data()), vector);
      file.commit();
    };
    if (bench.wants(save))
      bench.measure_pair(text("files/write/", full), save, work, remove, write_plainly, [&] { io::save_posterior(dir, name, p); });
    if (bench.wants(load)) {
      remove();
      io::save_posterior(dir, name, p);
      std::string into(3 * vector, '\0');
      p = {};
      bench.measure_pair(text("files/read/", full), load, work, [] {},
                         [&] { io::InputFile(dir + "/" + name, ~std::uint64_t(0)).read(0, into.data(), into.size()); },
                         [&] { io::load_posterior(dir + "/" + name); });
    }
    remove();
  }
}

namespace {
const bool registered_files = BenchCases::of().add("files", {"saving and loading a posterior", 1, run_files});
}  // namespace

}  // namespace varion
