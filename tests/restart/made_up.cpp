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
/// HDF5 data with a tensor of 2 `rows` numbers, each of them 1.5.
std::string hdf5_data(long rows) {
  io::PosteriorFile p;
  p.tensors = {{"fc.weight", {rows, 2}, 0, 2 * rows}, {"fc.bias", {2}, 2 * rows, 2}};
  p.mean.assign(static_cast<size_t>(2 * rows + 2), 1.5f);
  p.states = {{"hess", p.mean}};
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
    CHECK(!t.error);
    return t.crash;
  };
  CHECK(crash([] {}).empty());
  CHECK_THAT(crash([] { ::raise(SIGSEGV); }), Catch::Contains("Segmentation fault"));
  CHECK_THAT(crash([] { std::abort(); }), Catch::Contains("Aborted"));
  CHECK_THAT(crash([] { ::_exit(3); }), Catch::Contains("exit code 3"));
  CHECK_THAT(crash([] { for (volatile int i = 0;; i = 1 - i) {} }), Catch::Contains("no end"));
  CHECK(crash([] { ::raise(SIGKILL); }).empty());  // somebody else's doing
  CHECK(crash([] { std::vector<char>(1 << 27, 'x'); }).empty());
  if (std::getenv("VARION_SANITIZED") == nullptr)  // a sanitizer's memory ends the process otherwise
    CHECK_THAT(crash([] { std::vector<char>(1 << 30, 'x'); }), Catch::Contains("too much memory"));
  const auto error = [](const std::function<void()>& body) { return io::try_apart(body, 1, 1 << 28).error.value(); };
  CHECK(std::string(error([] { fail(Exit::config, "refused"); }).what()) == "refused");
  CHECK(error([] { fail(Exit::config, "refused"); }).code() == Exit::config);
  CHECK(std::string(error([] { fail(Exit::data, ""); }).what()).empty());
  CHECK(error([] { throw std::runtime_error("something"); }).code() == Exit::internal);
  CHECK(std::string(error([] { fail(Exit::data, std::string(100000, 'x')); }).what()) == std::string(4095, 'x'));
}

TEST_CASE("I2: made-up files with right digests are read or refused", "[made_up]") {
  const std::uint64_t files = by_tier(1000, 100000, 10000000);
  // The second has numbers whose pages are given back as they are read.
  const std::string both[] = {hdf5_data(3), hdf5_data(3000)}, path = "made-up.h5";
  const float number = 1.5f;
  const std::string numbers(reinterpret_cast<const char*>(&number), sizeof number);
  for (const std::string& data : both) {
    write_signed(data, path);
    REQUIRE(io::load_posterior(path).mean[1] == number);
  }
  std::map<std::string, long> ends;
  for (std::uint64_t k = 0; k < files; ++k) {
    const RandomKey key = RandomKey::make(17, Stream::test, k);
    std::string bytes = both[k % 2];
    const auto place = [&](std::uint32_t word) { return below(word, static_cast<std::uint32_t>(bytes.size())); };
    const std::uint32_t changes = 1 + below(key.words(0).w[0], 8);
    for (std::uint32_t i = 1, made = 0; made < changes; ++i) {
      const Words4 w = key.words(i);
      const std::uint32_t at = place(w.w[0]), way = below(w.w[1], 4);
      if (bytes.compare(at / 4 * 4, 4, numbers) == 0) continue;  // other numbers are nothing to HDF5
      ++made;
      // A bit, a byte, a small number, or a copy of another place.
      bytes[at] = static_cast<char>(way == 0   ? bytes[at] ^ (1 << below(w.w[2], 8))
                                    : way == 1 ? static_cast<int>(w.w[2] & 0xff)
                                    : way == 2 ? static_cast<int>(below(w.w[2], 4))
                                               : bytes[place(w.w[2])]);
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
  long crashed = 0;
  for (const auto& [how, n] : ends) {
    counts += text("\n  ", n, " ", how);
    if (how != "read" && how != "refused") crashed += n;
  }
  WARN(files << " made-up files:" << counts);
  CHECK(ends["read"] > 0);
  CHECK(ends["refused"] > 0);
  CHECK((crashed > 0 || io::hdf5_version().rfind("1.10.", 0) != 0));  // Debian 12's does not survive them
}
