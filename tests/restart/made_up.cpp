// I2: posterior files that were made up, with digests that are right: HDF5 may crash on them, this process does not.
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <stdexcept>
#include <vector>

#include "core/error.hpp"
#include "core/random.hpp"
#include "io/apart.hpp"
#include "io/posterior_file.hpp"
#include "io/segments.hpp"
#include "support/catch.hpp"
#include "support/tier.hpp"

using namespace varion;

namespace {
std::string hdf5_data() {
  io::PosteriorFile p;
  p.tensors = {{"fc.weight", {2, 3}, 0, 6}, {"fc.bias", {2}, 6, 2}};
  p.mean.assign(8, 1.5f);
  p.states = {{"hess", std::vector<float>(8, 0.5f)}};
  p.optimizer = "ivon";
  p.optim = {{"ess", 100}, {"weight_decay", 0.1}};
  p.model = {{"name", "mlp"}, {"config_ini", "[model]\nname = mlp\n"}};
  p.history = {{"step", {1, 2}}, {"train_loss", {0.5, 0.25}}};
  const std::string whole = io::encode_posterior(p);
  const size_t table = io::segments_text({{0, 1, io::xxh128("", 0)}}).size();  // one segment
  return whole.substr(0, whole.size() - io::kTrailer - table);
}

void write_signed(const std::string& data, const std::string& path) {
  std::ofstream out(path, std::ios::binary);
  out << data << io::trailer_of({{0, data.size(), io::xxh128(data.data(), data.size())}});
}
}  // namespace

TEST_CASE("a copy of the process says how it ended") {
  const auto crash = [](const std::function<void()>& body) {
    const io::Trial t = io::try_apart(body, 1, 1 << 28);
    CHECK(t.error.empty());
    return t.crash;
  };
  CHECK(crash([] {}).empty());
  CHECK_THAT(crash([] { ::raise(SIGSEGV); }), Catch::Contains("Segmentation fault"));
  CHECK_THAT(crash([] { std::abort(); }), Catch::Contains("Aborted"));
  CHECK_THAT(crash([] { ::_exit(3); }), Catch::Contains("exit code 3"));
  CHECK_THAT(crash([] { for (volatile int i = 0;; i = 1 - i) {} }), Catch::Contains("no end"));
  CHECK(crash([] { ::raise(SIGKILL); }).empty());  // somebody else's doing
  const auto error = [](const std::function<void()>& body) { return io::try_apart(body, 1, 1 << 28).error; };
  CHECK(error([] { throw std::runtime_error("refused"); }) == "refused");
  CHECK(error([] { throw std::runtime_error(""); }) == "an error without a name");
  CHECK(error([] { throw std::runtime_error(std::string(100000, 'x')); }) == std::string(4096, 'x'));
  CHECK(error([] { std::vector<char>(1 << 27, 'x'); }).empty());
#ifndef __SANITIZE_ADDRESS__  // its allocator ends the process
  CHECK(error([] { std::vector<char>(1 << 30, 'x'); }) == "std::bad_alloc");
#endif
}

TEST_CASE("I2: made-up files with right digests are read or refused", "[made_up]") {
  const std::uint64_t files = by_tier(1000, 100000, 10000000);
  const std::string data = hdf5_data(), path = "made-up.h5";
  write_signed(data, path);
  REQUIRE(io::load_posterior(path).mean == std::vector<float>(8, 1.5f));
  std::map<std::string, long> ends;
  for (std::uint64_t k = 0; k < files; ++k) {
    const RandomKey key = RandomKey::make(17, Stream::test, k);
    std::string bytes = data;
    const Words4 first = key.words(0);
    for (std::uint32_t i = 0; i <= below(first.w[0], 8); ++i) {
      const Words4 w = key.words(i + 1);
      // A bit, a byte, a small number, or a copy of another place.
      char& at = bytes[below(w.w[0], static_cast<std::uint32_t>(bytes.size()))];
      const std::uint32_t way = below(w.w[1], 4);
      at = static_cast<char>(way == 0   ? at ^ (1 << below(w.w[2], 8))
                             : way == 1 ? static_cast<int>(w.w[2] & 0xff)
                             : way == 2 ? static_cast<int>(below(w.w[2], 4))
                                        : bytes[below(w.w[2], static_cast<std::uint32_t>(bytes.size()))]);
    }
    write_signed(bytes, path);
    try {
      io::load_posterior(path);
      ++ends["read"];
    } catch (const Error& e) {
      REQUIRE(e.code() == Exit::data);
      const std::string what = e.what();
      const size_t crash = what.find("HDF5 cannot read it (");
      ++ends[crash == std::string::npos ? "refused" : what.substr(crash, what.find(')') + 1 - crash)];
    }
  }
  std::string counts;
  for (const auto& [how, n] : ends) counts += text("\n  ", n, " ", how);
  WARN(files << " made-up files:" << counts);
  CHECK(ends["read"] > 0);
  CHECK(ends["refused"] > 0);
}
