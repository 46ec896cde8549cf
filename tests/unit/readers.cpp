// Data-set readers: what they read, and that everything else is refused with file, offset and reason (I4, I5).
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <atomic>
#include <clocale>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <thread>

#include "core/random.hpp"
#include "data/dataset.hpp"
#include "io/commit_file.hpp"
#include "io/image_files.hpp"
#include "io/input_file.hpp"
#include "io/posterior_file.hpp"
#include "io/safetensors.hpp"
#include "io/table.hpp"
#include "support/catch.hpp"
#include "support/config.hpp"
#include "support/files.hpp"
#include "support/refusal.hpp"
#include "train/batch.hpp"

using namespace varion;

namespace {
const std::string kReadersDir = "readers-test";

std::string big_endian(std::uint32_t v) {
  return {static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8), static_cast<char>(v)};
}

std::string idx(std::uint32_t magic, const std::vector<std::uint32_t>& dims, size_t values) {
  std::string s = big_endian(magic);
  for (const auto d : dims) s += big_endian(d);
  for (size_t i = 0; i < values; ++i) s += static_cast<char>(i * 7 % 10);
  return s;
}

std::string gzipped(const std::string& bytes) {
  io::make_folder(kReadersDir);
  const std::string path = kReadersDir + "/packed";
  gzFile f = gzopen(path.c_str(), "wb");
  gzwrite(f, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(f);
  return io::read_file(path, 1 << 20);
}

void check_refused(const std::string& path, int dims, const std::string& reason) {
  const std::string why = refusal(Exit::data, [&] { io::read_idx(path, dims); });
  INFO(why);
  CHECK(why.find(path) == 0);
  CHECK(why.find("at byte") != std::string::npos);
  CHECK(why.find(reason) != std::string::npos);
}
}  // namespace

TEST_CASE("IDX files read back, plain and packed") {
  const std::string bytes = idx(0x803, {3, 4, 5}, 60);
  for (const std::string& path : {put(kReadersDir, "plain", bytes), put(kReadersDir, "packed.gz", gzipped(bytes))}) {
    const io::IdxArray a = io::read_idx(path, 3);
    CHECK(a.dims == std::vector<long>{3, 4, 5});
    REQUIRE(a.values.size() == 60);
    CHECK(a.values[59] == 59 * 7 % 10);
  }
}

TEST_CASE("IDX files that lie are refused") {
  check_refused(put(kReadersDir, "a", "\x1f"), 3, "ends inside the magic number");
  check_refused(put(kReadersDir, "b", idx(0x01000803, {3, 4, 5}, 60)), 3, "no IDX file");
  check_refused(put(kReadersDir, "c", idx(0x0d03, {3, 4, 5}, 60)), 3, "element type 13");
  check_refused(put(kReadersDir, "d", idx(0x801, {60}, 60)), 3, "1 dimensions, expected 3");
  check_refused(put(kReadersDir, "e", idx(0x803, {3, 0, 5}, 0)), 3, "extent 1 is 0");
  check_refused(put(kReadersDir, "f", idx(0x803, {0xffffffffu, 0xffffffffu, 0xffffffffu}, 10)), 3, "more than 4 GiB");
  check_refused(put(kReadersDir, "g", idx(0x803, {60000, 28, 28}, 1000)), 3, "1000 of 47040000 bytes");
  check_refused(put(kReadersDir, "h", idx(0x803, {3, 4, 5}, 61)), 3, "behind the end");
  std::string packed = gzipped(idx(0x803, {3, 4, 5}, 60));
  check_refused(put(kReadersDir, "i", packed.substr(0, packed.size() - 9)), 3, "");
  packed[packed.size() - 6] = static_cast<char>(packed[packed.size() - 6] ^ 1);  // its checksum
  check_refused(put(kReadersDir, "j", packed), 3, "damaged gzip data");
  CHECK(refusal(Exit::no_input, [] { io::read_idx(kReadersDir + "/nothing", 3); }).find("nothing") != std::string::npos);
  CHECK(refusal(Exit::data, [] { io::read_idx(kReadersDir, 3); }).find("not a regular file") != std::string::npos);
}

TEST_CASE("I4: every type code, dimension count and extent that lies is refused with its byte") {
  int cases = 0;
  const auto refused = [&](const std::string& bytes) {
    const std::string path = put(kReadersDir, "lie", bytes);
    const std::string why = refusal(Exit::data, [&] { io::read_idx(path, 3); });
    INFO(why);
    CHECK(why.rfind(path + ": at byte ", 0) == 0);
    ++cases;
  };
  for (std::uint32_t code = 0; code < 256; ++code)
    if (code != 8) refused(idx(code << 8 | 3, {3, 4, 5}, 60));
  for (std::uint32_t count = 0; count < 256; ++count)
    if (count != 3) refused(idx(0x800 | count, {3, 4, 5}, 60));
  for (const std::uint32_t extent : {0u, 127u, 128u, 255u, 256u, 32767u, 32768u, 65535u, 65536u, 0x7fffffffu,
                                     0x80000000u, 0xffffffffu})
    for (int place = 0; place < 3; ++place) {
      std::vector<std::uint32_t> dims{3, 4, 5};
      dims[static_cast<size_t>(place)] = extent;
      refused(idx(0x803, dims, 60));
      refused(idx(0x803, {extent, extent, extent}, 60));
    }
  refused(idx(0x803, {3, 4, 5}, 59));
  refused(idx(0x803, {3, 4, 5}, 61));
  refused(idx(0x03080000, {3, 4, 5}, 60));  // the other byte order
  refused("PK\x03\x04 a zip file of some length");
  refused("<html><body>404 not found</body></html>");
  refused("x");
  refused("");
  CHECK(cases > 500);
  for (const char* odd : {"/dev/zero", "/dev/full", "/dev/null"})
    CHECK(refusal(Exit::data, [&] { io::read_idx(odd, 3); }).find("not a regular file") != std::string::npos);
}

TEST_CASE("a sparse file of gigabytes is refused at the first record too many") {
  const std::string path = put(kReadersDir, "sparse", "");
  REQUIRE(::truncate(path.c_str(), off_t(5) << 30) == 0);
  io::CifarImages into;
  CHECK(refusal(Exit::data, [&] { io::read_cifar(path, 1, 10, into); }).find("more than 50000 records") != std::string::npos);
  CHECK(into.labels.size() == 50000);
  CHECK(refusal(Exit::data, [&] { io::read_idx(path, 3); }).find("element type 0") != std::string::npos);
  CHECK(refusal(Exit::data, [&] { io::read_table(path); }).find("more than the limit") != std::string::npos);
  io::remove_file(path);
}

TEST_CASE("I5: every truncation of a CIFAR file is refused") {
  std::string bytes(2 * 3073, '\1');
  long accepted = 0;
  for (size_t n = 0; n < bytes.size(); n += n < 3080 || n > 6100 ? 1 : 97) {
    io::CifarImages into;
    try {
      io::read_cifar(put(kReadersDir, "short", bytes.substr(0, n)), 1, 10, into);
      accepted += n != 3073;  // a whole record
    } catch (const Error& e) {
      accepted += e.code() != Exit::data;
    }
  }
  CHECK(accepted == 0);
}

TEST_CASE("I5: every truncation of tables and lists is refused or holds the rows before") {
  const std::string table = "a,b\n1.5,2e3\n-3,4.25\n6,-7e-2\n", list = "10\n20\n3\n";
  const std::vector<double> values{1.5, 2e3, -3, 4.25, 6, -7e-2};
  int accepted = 0, refused = 0;
  for (size_t n = 0; n < table.size(); ++n) {
    try {
      const io::Table t = io::read_table(put(kReadersDir, "short", table.substr(0, n)));
      // Whole rows but for the last number, of which the end may be missing: a table does not say how long it is.
      CHECK(t.columns == (t.values.size() == 1 ? 1 : 2));
      const size_t known = t.values.size() - 1;
      CHECK(std::equal(t.values.begin(), t.values.begin() + static_cast<long>(known), values.begin()));
      ++accepted;
    } catch (const Error& e) {
      CHECK(e.code() == Exit::data);
      ++refused;
    }
  }
  for (size_t n = 0; n < list.size(); ++n) {
    try {
      const auto v = io::read_indices(put(kReadersDir, "short", list.substr(0, n)), 0, 100);
      CHECK((v.size() <= 3 && (v.size() < 2 || v[0] == 10)));
      ++accepted;
    } catch (const Error& e) {
      CHECK(e.code() == Exit::data);
      ++refused;
    }
  }
  CHECK(accepted + refused == static_cast<int>(table.size() + list.size()));
  CHECK(refused > 10);
}

TEST_CASE("every truncation of an IDX and of a packed IDX file is refused") {
  const std::string plain = idx(0x803, {3, 4, 5}, 60), packed = gzipped(plain);
  for (const std::string& whole : {plain, packed})
    for (size_t n = 0; n < whole.size(); ++n) {
      const std::string path = put(kReadersDir, "short", whole.substr(0, n));
      INFO(n << " of " << whole.size());
      refusal(Exit::data, [&] { io::read_idx(path, 3); });
    }
}

TEST_CASE("I6: files that are cut, written over or removed while they are read end in something whole or in an error") {
  struct Format {
    const char* name;
    std::string bytes;
    std::function<bool(const std::string&)> read;  // whether it is whole; tables and lists of fewer rows are, too
  };
  const std::string images = idx(0x803, {3, 200, 100}, 60000);
  std::string numbers;
  for (int i = 0; i < 20000; ++i) numbers += std::to_string(i % 100) + "\n";
  io::make_folder(kReadersDir);
  io::save_safetensors(kReadersDir, "steady", {{{"w", {100, 100}, std::vector<float>(10000, 0.5f)}}, {}});
  const std::string tensors = io::read_file(kReadersDir + "/steady", 1 << 20);
  io::PosteriorFile posterior;
  posterior.tensors = {{"w", {10000}, 0, 10000}};
  posterior.mean.assign(10000, 0.5f);
  posterior.optimizer = "sgd";
  const std::vector<Format> formats{
      {"idx", images, [](const std::string& path) { return io::read_idx(path, 3).values.size() == 60000; }},
      {"packed idx", gzipped(images), [](const std::string& path) { return io::read_idx(path, 3).values.size() == 60000; }},
      {"cifar", std::string(40 * 3073, '\1'),
       [](const std::string& path) {
         io::CifarImages into;
         io::read_cifar(path, 1, 10, into);
         return into.pixels.size() == 3072 * into.labels.size();
       }},
      {"table", numbers, [](const std::string& path) { return io::read_table(path).columns == 1; }},
      {"list", numbers, [](const std::string& path) { return !io::read_indices(path, 0, 100).empty(); }},
      {"safetensors", tensors, [](const std::string& path) { return io::read_safetensors(path).tensors.at(0).values.size() == 10000; }},
      {"posterior", io::encode_posterior(posterior),
       [](const std::string& path) { return io::load_posterior(path).mean == std::vector<float>(10000, 0.5f); }}};
  for (const Format& format : formats) {
    INFO(format.name);
    const std::string path = put(kReadersDir, "changes", format.bytes);
    std::atomic<bool> ends{false};
    std::thread changes([&] {
      for (std::uint32_t k = 0; !ends; ++k) {
        std::error_code gone;
        if (k % 4 == 0) std::filesystem::resize_file(path, k * 2654435761u % format.bytes.size(), gone);
        else if (k % 4 == 1) std::ofstream(path, std::ios::binary | std::ios::in | std::ios::out) << format.bytes;  // in place
        else if (k % 4 == 2) std::filesystem::remove(path, gone);
        else std::ofstream(path, std::ios::binary) << format.bytes;
      }
    });
    int whole = 0, refused = 0;
    std::string other;
    for (int k = 0; k < 200 || (std::min(whole, refused) == 0 && k < 100000); ++k) {
      try {
        if (!format.read(path)) other = "neither whole nor refused";
        ++whole;
      } catch (const Error& e) {
        ++refused;
        if (e.code() != Exit::data && e.code() != Exit::no_input) other = e.what();
      } catch (const std::exception& e) {
        other = e.what();
      }
    }
    ends = true;
    changes.join();
    CHECK(other == "");
    CHECK(whole > 0);
    CHECK(refused > 0);
  }
}

TEST_CASE("random damage of a header never crashes a reader, and never yields more than the file holds") {
  const std::string whole = idx(0x803, {3, 4, 5}, 60);
  const auto key = RandomKey::make(5, Stream::test, 1);
  for (Index trial = 0; trial < 2000; ++trial) {
    std::string s = whole;
    const Words4 w = key.words(trial);
    s[w.w[0] % 16] = static_cast<char>(w.w[1]);
    if (w.w[2] & 1) s[w.w[2] / 2 % 16] = static_cast<char>(w.w[3]);
    try {
      const io::IdxArray a = io::read_idx(put(kReadersDir, "fuzzed", s), 3);
      CHECK(a.values.size() == 60);
    } catch (const Error& e) {
      CHECK(e.code() == Exit::data);
    }
  }
}

TEST_CASE("CIFAR files: planes become channels, labels are checked") {
  std::string bytes;
  for (int r = 0; r < 2; ++r) {
    bytes += static_cast<char>(r + 3);
    for (int i = 0; i < 3072; ++i) bytes += static_cast<char>(i / 1024 * 50 + i % 7);
  }
  io::CifarImages images;
  io::read_cifar(put(kReadersDir, "ten", bytes), 1, 10, images);
  CHECK(images.labels == std::vector<std::int32_t>{3, 4});
  REQUIRE(images.pixels.size() == 6144);
  CHECK(images.pixels[3 * 5 + 2] == 100 + (2048 + 5) % 7);
  CHECK(images.pixels[3072 + 3 * 9] == 9 % 7);
  const auto why = [&](const std::string& b, int labels, int classes) {
    io::CifarImages into;
    return refusal(Exit::data, [&] { io::read_cifar(put(kReadersDir, "bad", b), labels, classes, into); });
  };
  CHECK(why(bytes.substr(0, 5000), 1, 10).find("ends inside a record") != std::string::npos);
  CHECK(why(bytes, 1, 4).find("label 4 of record 1") != std::string::npos);
  CHECK(why("", 1, 10).find("empty") != std::string::npos);
  CHECK(why(bytes, 2, 100).find("ends inside a record") != std::string::npos);
}

TEST_CASE("tables: separators, names, and what is refused with its line") {
  const io::Table t = io::read_table(put(kReadersDir, "t", "a;b;c\n1;2.5\t-3e2\n\n 4  5,+6 \r\n"));
  CHECK(t.rows == 2);
  CHECK(t.columns == 3);
  CHECK(t.values == std::vector<double>{1, 2.5, -300, 4, 5, 6});
  const auto why = [](const std::string& content) {
    return refusal(Exit::data, [&] { io::read_table(put(kReadersDir, "bad", content)); });
  };
  CHECK(why("1 2\n3\n").find("bad:2: 1 numbers, the rows before have 2") != std::string::npos);
  CHECK(why("1 2\n3 x\n").find("bad:2:3: 'x' is no finite number") != std::string::npos);
  CHECK(why("1 2\n3 nan\n").find("bad:2") != std::string::npos);
  CHECK(why("1 2\n3 1e999\n").find("bad:2") != std::string::npos);
  CHECK(why("1 2\n3 0x10\n").find("bad:2") != std::string::npos);
  CHECK(why("1 x\n3 4\n").find("bad:1:3: 'x'") != std::string::npos);  // no row is lost as column names
  CHECK(why(std::string("1 2\n3 \0\n", 8)).find("bad:2:3") != std::string::npos);
  CHECK(why("1 2\n3 \"4\"\n").find("bad:2:3") != std::string::npos);
  CHECK(why("1 2\n" + std::string(1 << 20, '7') + "x 3\n").find("bad:2:1") != std::string::npos);
  CHECK(why("1 2\n3 inf\n").find("bad:2:3") != std::string::npos);
  CHECK(io::read_table(put(kReadersDir, "bom", "\xef\xbb\xbf" "1 2\n3 4")).values == std::vector<double>{1, 2, 3, 4});
  CHECK(why("").find("holds no numbers") != std::string::npos);
  CHECK(why("names only\n").find("holds no numbers") != std::string::npos);
  CHECK(io::read_indices(put(kReadersDir, "i", "3\n0\n"), 0, 3) == std::vector<long>{3, 0});
  const auto index = [](const std::string& content) {
    return refusal(Exit::data, [&] { io::read_indices(put(kReadersDir, "bad", content), 0, 3); });
  };
  CHECK(index("4\n").find("entry 1 is 4") != std::string::npos);
  CHECK(index("-1\n").find("entry 1") != std::string::npos);
  CHECK(index("1.5\n").find("entry 1") != std::string::npos);
  CHECK(index("1 2\n3 0\n").find("2 x 2") != std::string::npos);
}

TEST_CASE("I7: tables read and are refused alike in every language") {
  struct Sample {
    const char* name;
    std::string content;
    std::vector<double> values;  // empty: refused
  };
  const std::vector<Sample> samples{
      {"dot", "1.5 2\n", {1.5, 2}}, {"comma separates", "1,5\n", {1, 5}}, {"semicolon", "1;5\n", {1, 5}}, {"tab", "1\t5\n", {1, 5}},
      {"exponent", "1e3 -2E-2\n", {1000, -0.02}}, {"plus", "+1 2\n", {1, 2}}, {"leading dot", ".5 2\n", {0.5, 2}},
      {"trailing dot", "1. 2\n", {1, 2}}, {"minus zero", "-0 2\n", {0, 2}}, {"denormal", "4e-320 2\n", {4e-320, 2}},
      {"largest", "1.7976931348623157e308 2\n", {1.7976931348623157e308, 2}}, {"crlf", "1 2\r\n3 4\r\n", {1, 2, 3, 4}},
      {"no end of line", "1 2\n3 4", {1, 2, 3, 4}}, {"blank lines", "\n1 2\n\n\n3 4\n\n", {1, 2, 3, 4}}, {"mark of order", "\xef\xbb\xbf" "1 2\n", {1, 2}},
      {"names", "a b\n1 2\n", {1, 2}}, {"spaces around", "  1   2  \n", {1, 2}}, {"seventeen digits", "0.10000000000000001 2\n", {0.1, 2}},
      {"large field", std::string(1000, '0') + "1 2\n", {1, 2}},
      {"plus minus", "1 2\n+-1 2\n", {}}, {"two dots", "1 2\n1.5.2 2\n", {}}, {"thousands", "1 2\n1'000 2\n", {}}, {"overflow", "1 2\n1e999 2\n", {}}, {"nan", "1 2\nnan 2\n", {}},
      {"NaN", "1 2\nNaN 2\n", {}}, {"inf", "1 2\ninf 2\n", {}}, {"infinity", "1 2\n-Infinity 2\n", {}}, {"hexadecimal", "1 2\n0x1p3 2\n", {}},
      {"quotes", "1 2\n\"1\" 2\n", {}}, {"zero byte", std::string("1 2\n1\0 2\n", 9), {}}, {"ragged", "1 2\n1\n", {}}, {"too many", "1 2\n1 2 3\n", {}},
      {"Arabic digits", "1 2\n\xd9\xa1 2\n", {}}, {"Devanagari digits", "1 2\n\xe0\xa5\xa7 2\n", {}}, {"Arabic decimal mark", "1 2\n1\xd9\xab" "5 2\n", {}},
      {"dotless i", "1 2\n\xc4\xb1nf 2\n", {}}, {"no-break space", "1 2\n1\xc2\xa0" "2\n", {}}, {"unit", "1 2\n1f 2\n", {}}, {"Fortran", "1 2\n1d3 2\n", {}},
      {"only names", "a b\n", {}}, {"nothing", "", {}}, {"form feed", "1 2\n1\f 2\n", {}}, {"million characters", "1 2\n" + std::string(1 << 20, '7') + "x 3\n", {}}};
  std::vector<std::string> languages{"C"};
  io::make_folder(kReadersDir + "/locales");
  ::setenv("LOCPATH", (std::filesystem::current_path() / kReadersDir / "locales").c_str(), 1);
  for (const std::string name : {"de_DE", "tr_TR", "fa_IR", "hi_IN"}) {
    const std::string path = kReadersDir + "/locales/" + name + ".UTF-8";  // takes a second each: made once
    const std::string made = "test -f " + path + "/LC_NUMERIC || localedef -i " + name + " -f UTF-8 " + path + " >/dev/null 2>&1";
    if (std::system(made.c_str()) == 0) languages.push_back(name + ".UTF-8");
  }
  int cases = 0;
  bool comma = false;
  for (const std::string& language : languages) {
    INFO(language);
    REQUIRE(std::setlocale(LC_ALL, language.c_str()) != nullptr);
    comma = comma || std::string(std::localeconv()->decimal_point) == ",";
    for (const Sample& s : samples) {
      INFO(s.name);
      ++cases;
      if (!s.values.empty()) {
        CHECK(io::read_table(put(kReadersDir, "language", s.content)).values == s.values);
        continue;
      }
      const std::string why = refusal(Exit::data, [&] { io::read_table(put(kReadersDir, "language", s.content)); });
      CHECK(why.find("language") != std::string::npos);
      CHECK(why.find("\n") == std::string::npos);
    }
    CHECK(shortest(1234567.5) == "1234567.5");
    CHECK(parse_real("1.5") == std::optional<double>(1.5));
  }
  std::setlocale(LC_ALL, "C");
  ::unsetenv("LOCPATH");
  WARN(cases << " cases in " << languages.size() << " languages");
  if (languages.size() == 5) CHECK((cases >= 120 && comma));
}

namespace {
void put_uci(const std::string& test_rows) {
  put(kReadersDir, "data.txt", "1 10 0.5\n2 10 1.5\n3 10 2.5\n4 10 9.5\n");
  put(kReadersDir, "index_features.txt", "0\n1\n");
  put(kReadersDir, "index_target.txt", "2\n");
  put(kReadersDir, "n_splits.txt", "2\n");
  for (const char* k : {"0", "1"}) {
    put(kReadersDir, std::string("index_train_") + k + ".txt", "0\n1\n2\n");
    put(kReadersDir, std::string("index_test_") + k + ".txt", test_rows);
  }
}
}  // namespace

TEST_CASE("UCI tables are standardised by their training rows") {
  put_uci("3\n");
  const DataSet d = load_data(config_of({{"data.name", "uci"}, {"data.path", kReadersDir}}));
  CHECK(d.train.count == 3);
  CHECK(d.target_scale == Approx(std::sqrt(2. / 3)));
  CHECK(d.train.x[0] == Approx(-std::sqrt(1.5)));
  CHECK(d.train.x[1] == 0);  // a constant column
  CHECK(d.test.x[0] == Approx(2 * std::sqrt(1.5)));
  CHECK(d.test.targets[0] == Approx(8 / std::sqrt(2. / 3)));
  put_uci("2\n");
  CHECK(refusal(Exit::data, [] { load_data(config_of({{"data.name", "uci"}, {"data.path", kReadersDir}})); })
            .find("row 2 is also a training row") != std::string::npos);
  put_uci("3\n");
  CHECK(refusal(Exit::config, [] {
          load_data(config_of({{"data.name", "uci"}, {"data.path", kReadersDir}, {"data.split", "2"}}));
        }).find("data.split") != std::string::npos);
  CHECK(refusal(Exit::config, [] { load_data(config_of({{"data.name", "uci"}})); }).find("data.path") !=
        std::string::npos);
}

TEST_CASE("IDX sets whose parts disagree are refused") {
  put(kReadersDir, "train-images-idx3-ubyte", idx(0x803, {3, 4, 5}, 60));
  put(kReadersDir, "train-labels-idx1-ubyte", idx(0x801, {3}, 3));
  put(kReadersDir, "t10k-images-idx3-ubyte", idx(0x803, {2, 4, 5}, 40));
  put(kReadersDir, "t10k-labels-idx1-ubyte", idx(0x801, {2}, 2));
  const auto load = [](const std::string& classes, const std::string& mean) {
    return load_data(config_of({{"data.name", "idx"}, {"data.path", kReadersDir}, {"data.classes", classes}, {"data.mean", mean}}));
  };
  CHECK(load("10", "0.1").train.labels == std::vector<std::int32_t>{0, 7, 4});
  CHECK(refusal(Exit::data, [&] { load("7", "0.1"); }).find("label 1 is 7") != std::string::npos);
  CHECK(refusal(Exit::config, [&] { load("10", "0.1,0.2"); }).find("data.mean") != std::string::npos);
  put(kReadersDir, "t10k-labels-idx1-ubyte", idx(0x801, {3}, 3));
  CHECK(refusal(Exit::data, [&] { load("10", "0.1"); }).find("2 images, but") != std::string::npos);
}

TEST_CASE("a validation set is held out, the same for the same seed") {
  const auto load = [](const std::string& seed, const std::string& held) {
    return load_data(config_of({{"data.name", "moons"}, {"run.seed", seed}, {"data.val_size", held}}));
  };
  const DataSet all = load("1", "0"), a = load("1", "100"), b = load("1", "100"), c = load("2", "100");
  CHECK(a.train.count == 300);
  CHECK(a.validation.count == 100);
  CHECK(a.validation.x == b.validation.x);
  CHECK(a.validation.x != c.validation.x);
  std::vector<float> joined = a.train.x, whole = all.train.x;
  joined.insert(joined.end(), a.validation.x.begin(), a.validation.x.end());
  std::sort(joined.begin(), joined.end());
  std::sort(whole.begin(), whole.end());
  CHECK(joined == whole);
  CHECK(refusal(Exit::config, [&] { load("1", "400"); }).find("leaves nothing") != std::string::npos);
}

TEST_CASE("batches: every example once an epoch, images mirrored and shifted, normalised from bytes") {
  Examples e;
  e.example = {3, 4, 2};
  e.count = 7;
  for (int i = 0; i < 7 * 24; ++i) e.pixels.push_back(static_cast<std::uint8_t>(i + 1));
  for (int i = 0; i < 7; ++i) e.labels.push_back(i);
  e.pixel_mean = {0.5f, 0.25f};
  e.pixel_std = {0.25f, 0.5f};
  const Exec exec;
  const DeviceExamples device(exec, e);
  const auto host = [](const auto& v) { return Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), v); };
  const Vec x("varion::test::x", 5 * 24);
  const IntVec labels("varion::test::labels", 5);

  const BatchPlan plain(5, false, 0);
  plain.in_order(exec, 5, 7);
  plain.gather(exec, device, x);
  plain.gather_labels(exec, device, labels);
  CHECK(host(labels)(0) == 5);
  CHECK(host(labels)(1) == 6);
  CHECK(host(labels)(4) == 6);  // the last one, repeated
  CHECK(host(x)(0) == Approx((121 / 255. - 0.5) / 0.25));
  CHECK(host(x)(1) == Approx((122 / 255. - 0.25) / 0.5));

  std::vector<int> seen(7, 0);
  bool mirrored = false, shifted = false;
  const BatchPlan plan(5, true, 1);
  for (std::uint64_t first = 0; first < 35; first += 5) {  // five epochs
    plan.shuffled(exec, 9, first, 7);
    plan.gather(exec, device, x);
    plan.gather_labels(exec, device, labels);
    const auto hx = host(x);
    const auto hl = host(labels);
    const auto placed = host(plan.placed);
    for (int i = 0; i < 5; ++i) {
      ++seen[static_cast<size_t>(hl(i))];
      const int dy = (placed(i) >> 16) - 1, dx = (placed(i) >> 1 & 0x7fff) - 1, flip = placed(i) & 1;
      mirrored = mirrored || flip;
      shifted = shifted || dy != 0;
      for (int row = 0; row < 3; ++row)
        for (int column = 0; column < 4; ++column)
          for (int k = 0; k < 2; ++k) {
            const int y = row + dy, at = column + dx;
            double p = 0;
            if (y >= 0 && y < 3 && at >= 0 && at < 4)
              p = e.pixels[static_cast<size_t>(((hl(i) * 3 + y) * 4 + (flip ? 3 - at : at)) * 2 + k)];
            const double mean = k == 0 ? 0.5 : 0.25, sd = k == 0 ? 0.25 : 0.5;
            CHECK(hx(((i * 3 + row) * 4 + column) * 2 + k) == Approx((p / 255 - mean) / sd).margin(1e-5));
          }
    }
  }
  CHECK(seen == std::vector<int>(7, 5));
  CHECK(mirrored);
  CHECK(shifted);
}
