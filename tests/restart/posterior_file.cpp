// Damage to a checkpoint is refused, and a resumed run equals the unbroken one bit for bit.
#include "io/posterior_file.hpp"

#include <cstdlib>
#include <filesystem>

#include "core/error.hpp"
#include "io/commit_file.hpp"
#include "io/input_file.hpp"
#include "io/posterior_shares.hpp"
#include "io/process_memory.hpp"
#include "support/catch.hpp"
#include "train/run.hpp"

using namespace varion;

namespace {
io::PosteriorFile small_file() {
  io::PosteriorFile p;
  p.tensors = {{"fc.weight", {2, 3}, 0, 6}, {"fc.bias", {2}, 6, 2}};
  p.mean = {1, 2, 3, 4, 5, 6, 7, 8};
  p.states = {{"hess", std::vector<float>(8, 0.5f)}, {"momentum", std::vector<float>(8, -1.f)}};
  p.optimizer = "ivon";
  p.optim = {{"ess", 100}, {"weight_decay", 0.1}};
  p.model = {{"name", "mlp"}};
  p.step = 7;
  return p;
}

/// Several segments long, with tensors below and above HDF5's thresholds.
io::PosteriorFile large_file() {
  io::PosteriorFile p = small_file();
  p.tensors = {{"a.weight", {3000, 1000}, 0, 3000000}, {"b.weight", {70, 100}, 3000000, 7000},
               {"c.weight", {1500, 2000}, 3007000, 3000000}, {"a.bias", {5}, 6007000, 5}};
  p.mean.resize(6007005);
  for (size_t i = 0; i < p.mean.size(); ++i) p.mean[i] = static_cast<float>(i % 100003) - 17;
  p.states = {{"hess", p.mean}, {"momentum", p.mean}};
  for (float& v : p.states[0].second) v = 2 * v + 1;
  for (float& v : p.states[1].second) v = 0.5f * v;
  p.history = {{"step", {1, 2}}, {"train_loss", {0.5, 0.25}}};
  p.layers = {{"numel", {3000000, 7000, 3000000, 5}}};
  return p;
}

bool refused(const std::string& bytes) {
  try {
    io::decode_posterior(bytes, "test");
  } catch (const Error& e) {
    return e.code() == Exit::data;
  }
  return false;
}

Config run_config(const std::string& dir, const std::string& optimizer, int stop) {
  Config c;
  c.read_text("[model]\nname = mlp\nsizes = 16\ndropout = 0.1\n[data]\nname = moons\nglobal_batch = 32\n"
              "[train]\nsteps = 40\n[checkpoint]\nevery = 10st\n[eval]\nsamples = 4\nevery = 0st\n[optim]\nwarmup = 5st\n",
              "test");
  c.set("optim.name", optimizer, "test");
  c.set("run.dir", dir, "test");
  c.set("train.stop_after", std::to_string(stop), "test");
  c.resolve();
  return c;
}

std::vector<std::vector<float>> state_of(const std::string& dir) {
  const io::PosteriorFile f = io::load_posterior(dir + "/final.h5");
  std::vector<std::vector<float>> out{f.mean};
  for (const auto& [name, flat] : f.states) out.push_back(flat);
  return out;
}
}  // namespace

TEST_CASE("a posterior file reads back as written") {
  const io::PosteriorFile p = small_file(), q = io::decode_posterior(io::encode_posterior(p), "test");
  CHECK(q.mean == p.mean);
  CHECK(q.states == p.states);
  CHECK(q.step == 7);
  CHECK(q.optim == p.optim);
  REQUIRE(q.tensors.size() == 2);
  CHECK(q.tensors[0].shape == std::vector<long>{2, 3});
}

TEST_CASE("every truncation and every single-bit flip is refused") {
  const std::string bytes = io::encode_posterior(small_file());
  REQUIRE(!refused(bytes));
  long accepted = 0;
  for (size_t n = 0; n < bytes.size(); ++n) accepted += !refused(bytes.substr(0, n));
  CHECK(accepted == 0);
  std::string damaged = bytes;
  for (size_t i = 0; i < bytes.size(); ++i)
    for (int bit = 0; bit < 8; ++bit) {
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      accepted += !refused(damaged);
      damaged[i] = bytes[i];
    }
  CHECK(accepted == 0);
}

TEST_CASE("every bit of a table of several segments counts, and of what they cover") {
  const std::string whole = io::encode_posterior(small_file());
  const size_t payload = io::read_trailer(whole.substr(whole.size() - io::kTrailer), whole.size(), "test").payload;
  std::vector<io::Segment> segments;
  const auto cover = [&](size_t from, size_t to) {
    segments.push_back({from, to - from, io::xxh128(whole.data() + from, to - from)});
  };
  cover(0, 700);
  cover(700, 701);
  cover(701, payload);
  const std::string bytes = whole.substr(0, payload) + io::trailer_of(segments);
  CHECK(io::decode_posterior(bytes, "test").mean == small_file().mean);
  std::string damaged = bytes;
  long accepted = 0;
  for (size_t i = 0; i < bytes.size(); i += i + 1 < payload && i > 750 ? 97 : 1)
    for (int bit = 0; bit < 8; ++bit) {
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      accepted += !refused(damaged);
      damaged[i] = bytes[i];
    }
  for (size_t n = payload; n < bytes.size(); ++n) accepted += !refused(bytes.substr(0, n));
  CHECK(accepted == 0);
  // Tables whose own digest is right and which do not cover the data.
  const auto with = [&](std::vector<io::Segment> s) {
    std::string end = io::segments_text(s);
    const size_t table = end.size();
    end += text("varion-posterior 1.1\nbytes ", payload, "\nsegments ", s.size(), "\n");
    end += "xxh3 " + io::xxh128(end.data(), end.size()) + "\n";
    end.resize(table + io::kTrailer, '\0');
    return whole.substr(0, payload) + end;
  };
  CHECK(!refused(with(segments)));
  CHECK(refused(with({segments[0], segments[2]})));               // a gap
  CHECK(refused(with({segments[0], segments[1]})));               // an end without a digest
  CHECK(refused(with({segments[1], segments[0], segments[2]})));  // another order
  CHECK(refused(with({segments[0], segments[1], segments[2], {payload, 0, io::xxh128(whole.data(), 0)}})));
  CHECK(refused(with({segments[0], segments[1], segments[2], {payload, ~std::uint64_t(0) - payload + 1, segments[1].digest}})));
}

TEST_CASE("D6: files of released versions load to the same numbers, and damage to them is refused") {
  const std::string version = GENERATE(as<std::string>{}, "1.0", "1.1");
  const char* const source = std::getenv("VARION_SOURCE_DIR");
  REQUIRE(source != nullptr);  // ctest sets it
  const std::string path = std::string(source) + "/tests/restart/posterior-" + version + ".h5";
  const io::PosteriorFile p = io::load_posterior(path);
  CHECK(p.step == 2);
  CHECK(p.mean.size() == 17);
  CHECK(p.states.size() == 2);
  CHECK(p.model.at("name") == "mlp");
  CHECK(p.history.at("step") == std::vector<double>{1, 2});
  const std::string bytes = io::read_file(path, 1 << 20);
  CHECK((bytes.find("\nsha256 ") != std::string::npos) == (version == "1.0"));
  const auto digest = [](const std::vector<float>& v) { return io::xxh128(reinterpret_cast<const char*>(v.data()), 4 * v.size()); };
  CHECK(digest(p.mean) == "725e6723f374f674249d5f4d12f2b0ee");
  CHECK(digest(p.states[0].second) == "049ff589178a884a753ae520b70669c5");
  CHECK(digest(p.states[1].second) == "5288aceceaf0e7522eea73f3cef3beed");
  CHECK(p.optim.at("ess") == 400);
  std::string damaged = bytes;
  long accepted = 0;
  for (size_t i = 0; i < bytes.size(); i += i + io::kTrailer < bytes.size() ? 13 : 1)
    for (int bit = 0; bit < 8; ++bit) {
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      accepted += !refused(damaged);
      damaged[i] = bytes[i];
    }
  CHECK(accepted == 0);
}

namespace {
/// The file as several processes write it, each of which holds its numbers alone; `lost`: whose share is not written.
std::string written_by(const std::vector<io::Holding>& holdings, const io::PosteriorFile& p, const std::string& dir, size_t segment, int lost = -1) {
  const int ranks = static_cast<int>(holdings.size());
  const io::FilePlan plan = io::plan_posterior(p), places = io::FilePlan::from_text(plan.places_text());
  const auto spans = io::share_out(places, holdings, segment);
  std::vector<std::vector<std::vector<float>>> held(static_cast<size_t>(ranks));
  std::vector<std::vector<io::Stretch>> vectors(held.size());
  std::vector<std::vector<std::string>> sent;
  for (size_t r = 0; r < held.size(); ++r) {
    const long begin = holdings[r].begin, count = holdings[r].end - begin;
    for (const io::Stretch& s : io::whole_vectors(p)) held[r].emplace_back(s.data + begin, s.data + begin + count);
    for (const auto& v : held[r]) vectors[r].push_back({v.data(), begin, count});
    sent.push_back(io::bytes_for_others(spans, r == 0 ? plan : places, vectors[r], static_cast<int>(r), ranks));
  }
  io::PendingFile file(dir, "shared.h5", io::file_bytes(plan));
  std::vector<io::Segment> all;
  for (int r = ranks; r-- > 0;) {
    if (r == lost) continue;
    std::vector<std::string> received;
    for (const auto& from : sent) received.push_back(from[static_cast<size_t>(r)]);
    const auto segments = io::write_share(file.part(), io::share_pieces(spans, r == 0 ? plan : places, vectors[static_cast<size_t>(r)], r, received));
    const auto read = io::segments_from(io::segments_text(segments));
    all.insert(all.end(), read.begin(), read.end());
  }
  io::finish_file(file, plan, all);
  return io::read_file(dir + "/shared.h5", 1 << 28);
}
}  // namespace

TEST_CASE("shares of several writers make the file of one, byte for byte") {
  const io::PosteriorFile p = large_file(), q = small_file();
  const std::string dir = "shares-test";
  std::filesystem::remove_all(dir);
  io::make_folder(dir);
  const std::string whole = io::encode_posterior(p), little = io::encode_posterior(q);
  const long n = static_cast<long>(p.mean.size());
  CHECK(written_by({{0, n}}, p, dir, io::kSegment) == whole);
  CHECK(written_by({{0, n / 3}, {n / 2, n}, {n / 3, n / 2}}, p, dir, io::kSegment) == whole);
  CHECK(written_by({{2, n / 2}, {0, 1}, {1, 2}, {2, 2}, {n - 7, n - 1}, {n / 2, n - 7}, {n - 1, n}}, p, dir, io::kSegment) == whole);  // stretches of a number, and of none
  CHECK(written_by({{0, 3}, {3, 8}}, q, dir, io::kSegment) == little);
  CHECK(written_by({{8, 8}, {0, 8}}, q, dir, io::kSegment) == little);
  CHECK(io::load_posterior(dir + "/shared.h5").states == q.states);
  // Many segments: every writer has some, and nothing is written twice.
  size_t by_second = 0, sent = 0, bytes = 0;
  for (const io::Span& s : io::share_out(io::plan_posterior(p), {{0, n / 3}, {n / 3, n / 2}, {n / 2, n}}, 1 << 16)) {
    by_second += s.writer == 1 ? s.bytes : 0;
    sent += s.writer != s.holder ? s.bytes : 0;
    bytes += s.bytes;
  }
  CHECK(bytes == io::plan_posterior(p).bytes);
  CHECK(by_second > static_cast<size_t>(n) * 12 / 7);
  CHECK(sent < 20u << 16);
  // A share that is missing makes no file, and nothing stays behind.
  CHECK_THROWS_AS(written_by({{0, n / 2}, {n / 2, n}}, p, dir, io::kSegment, 1), Error);
  CHECK(io::list_files(dir) == std::vector<std::string>{"shared.h5"});
  CHECK(io::load_posterior(dir + "/shared.h5").mean == q.mean);
}

TEST_CASE("a large file holds its numbers where they belong, and loads without a second copy") {
  const io::PosteriorFile p = large_file();
  io::make_folder("large-test");
  io::save_posterior("large-test", "p.h5", p);
  const auto bytes = static_cast<double>(std::filesystem::file_size("large-test/p.h5"));
  io::reset_resident_peak();
  const double before = io::resident_peak();
  const io::PosteriorFile q = io::load_posterior("large-test/p.h5");
  const double took = io::resident_peak() - before;
  CHECK(q.mean == p.mean);
  CHECK(q.states == p.states);
  // The image and the numbers are twice the file. The address sanitizer keeps books of its own.
#ifdef __SANITIZE_ADDRESS__
  CHECK(took < 2.2 * bytes);
#else
  CHECK(took < 1.5 * bytes);
#endif
  io::reset_resident_peak();
  [[maybe_unused]] const double saving = io::resident_peak();
  io::save_posterior("large-test", "p.h5", p);
#ifndef __SANITIZE_ADDRESS__
  CHECK(io::resident_peak() - saving < 0.1 * bytes);
#endif
  // One bit of a number in the middle.
  std::string damaged = io::read_file("large-test/p.h5", 1 << 28);
  damaged[damaged.size() / 2] = static_cast<char>(damaged[damaged.size() / 2] ^ 4);
  io::commit_file("large-test", "damaged.h5", damaged);
  CHECK_THROWS_WITH(io::load_posterior("large-test/damaged.h5"), Catch::Contains("damaged: the digest of"));
}

TEST_CASE("values that are not finite are refused") {
  io::PosteriorFile p = small_file();
  p.mean[3] = std::numeric_limits<float>::quiet_NaN();
  CHECK(refused(io::encode_posterior(p)));
}

TEST_CASE("stopped and resumed equals unbroken, bit for bit") {
  const std::string root = "restart-test";
  std::filesystem::remove_all(root);
  for (const std::string optimizer : {"ivon", "von", "adamw", "sgd"}) {
    const std::string whole = root + "/whole-" + optimizer;
    REQUIRE(train_run(run_config(whole, optimizer, 0), true).code == Exit::ok);
    for (const int stop : {1, 20, 39}) {
      const std::string part = root + "/part-" + optimizer + std::to_string(stop);
      REQUIRE(train_run(run_config(part, optimizer, stop), true).code == Exit::stopped);
      REQUIRE(train_run(run_config(part, optimizer, 0), true).code == Exit::ok);
      CHECK(state_of(part) == state_of(whole));
    }
  }
}

TEST_CASE("each field dropped on load changes the resumed run") {
  const std::string root = "forget-test";
  std::filesystem::remove_all(root);
  for (const std::string optimizer : {"ivon", "adamw", "sgd"}) {
    const std::string whole = root + "/whole-" + optimizer, part = root + "/part-" + optimizer;
    train_run(run_config(whole, optimizer, 0), true);
    train_run(run_config(part, optimizer, 20), true);
    std::vector<std::string> why;
    const auto [newest, saved] = io::newest_checkpoint(part + "/checkpoints", why);
    const size_t vectors = saved.states.size();
    for (size_t k = 0; k < vectors + 3; ++k) {
      io::PosteriorFile f = saved;
      std::string field = k < vectors ? saved.states[k].first : k == vectors ? "step" : k == vectors + 1 ? "samples_seen" : "mean";
      if (field == "step") {
        f.step = 19;
        f.train["step"] = "19";
      } else if (field == "samples_seen") {
        f.train["samples_seen"] = "0";
      } else if (field == "mean") {
        f.mean.assign(f.mean.size(), 0.f);
      } else {
        for (float& v : f.states[k].second) v = field == "hess" ? 0.1f : 0.f;
      }
      const std::string copy = root + "/copy-" + optimizer + std::to_string(k);
      io::make_folder(copy + "/checkpoints");
      io::save_posterior(copy + "/checkpoints", "step-0000000020.h5", f);
      train_run(run_config(copy, optimizer, 0), true);
      INFO(optimizer << " without " << field);
      CHECK(state_of(copy) != state_of(whole));
    }
  }
}

TEST_CASE("a damaged newest checkpoint gives way to the one before") {
  const std::string root = "damage-test";
  std::filesystem::remove_all(root);
  train_run(run_config(root, "ivon", 20), true);
  const std::string newest = root + "/checkpoints/step-0000000020.h5";
  std::string bytes = io::read_file(newest, 1 << 26);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  io::commit_file(root + "/checkpoints", "step-0000000020.h5", bytes);
  std::vector<std::string> why;
  CHECK(io::newest_checkpoint(root + "/checkpoints", why).path == root + "/checkpoints/step-0000000010.h5");
  CHECK(why.size() == 1);
}
