// Files of tokens: formats, rows of several files, every refusal, and the data set made of them.
#include <sys/resource.h>

#include <cstring>
#include <filesystem>

#include "core/error.hpp"
#include "data/dataset.hpp"
#include "data/tokenizer.hpp"
#include "io/text_files.hpp"
#include "io/token_files.hpp"
#include "support/catch.hpp"
#include "support/config.hpp"
#include "support/files.hpp"
#include "support/refusal.hpp"

using namespace varion;

namespace {
const std::string kTokensDir = "token-files-test";

std::string bytes_of(const std::vector<std::uint16_t>& tokens) {
  return {reinterpret_cast<const char*>(tokens.data()), 2 * tokens.size()};
}

std::string llmc(const std::vector<std::uint16_t>& tokens, std::int32_t magic, std::int32_t version, std::int32_t count) {
  std::vector<std::int32_t> head(256, 0);
  head[0] = magic, head[1] = version, head[2] = count;
  return std::string(reinterpret_cast<const char*>(head.data()), 1024) + bytes_of(tokens);
}

std::vector<std::uint16_t> row(const io::TokenFiles& files) {
  std::vector<std::uint16_t> out(static_cast<size_t>(files.size()));
  files.read(0, files.size(), out.data());
  return out;
}

void says(const std::string& what, const std::string& part) {
  INFO(what);
  CHECK(what.find(part) != std::string::npos);
}

std::vector<std::uint16_t> counted(size_t n, std::uint16_t first) {
  std::vector<std::uint16_t> out(n);
  for (size_t i = 0; i < n; ++i) out[i] = static_cast<std::uint16_t>(first + i * 3 % 1000);
  return out;
}
}  // namespace

TEST_CASE("token files: both formats, folders, patterns, in the order of names") {
  std::filesystem::remove_all(kTokensDir);
  const auto a = counted(5, 1), b = counted(700, 2), c = counted(1, 3);
  put(kTokensDir, "f/t_2.bin", bytes_of(b));
  put(kTokensDir, "f/t_1.bin", llmc(a, 20240520, 1, 5));
  put(kTokensDir, "f/v_1.bin", bytes_of(c));
  put(kTokensDir, "f/readme.txt", "no tokens");
  std::vector<std::uint16_t> ab = a, abc;
  ab.insert(ab.end(), b.begin(), b.end());
  abc = ab;
  abc.insert(abc.end(), c.begin(), c.end());
  CHECK(row(io::TokenFiles(kTokensDir + "/f/t_1.bin")) == a);
  CHECK(row(io::TokenFiles(kTokensDir + "/f/t_2.bin")) == b);
  CHECK(row(io::TokenFiles(kTokensDir + "/f/t_*.bin")) == ab);
  const io::TokenFiles all(kTokensDir + "/f");
  CHECK(row(all) == abc);
  std::vector<std::uint16_t> part(4);
  all.read(3, 4, part.data());
  CHECK(part == std::vector<std::uint16_t>{a[3], a[4], b[0], b[1]});
  CHECK(all.place(6) == kTokensDir + "/f/t_2.bin: token 1");
  CHECK_THROWS_AS(all.read(706, 1, part.data()), Error);
  for (const std::string& name : {std::string("/f/x_*.bin"), std::string("/none"), std::string("/f/t_3.bin"), std::string("/none/t_*.bin")})
    says(refusal(Exit::no_input, [&] { io::TokenFiles files(kTokensDir + name); }), kTokensDir + name);
  io::make_folder(kTokensDir + "/empty");
  says(refusal(Exit::no_input, [&] { io::TokenFiles files(kTokensDir + "/empty"); }), "holds no .bin files");
}

TEST_CASE("token files: damage is refused with file and reason") {
  const auto why = [&](const std::string& bytes) {
    const std::string path = put(kTokensDir, "bad.bin", bytes), said = refusal(Exit::data, [&] { io::TokenFiles files(path); });
    says(said, path + ": ");
    says(said, "make it again with `varion data convert`");
    return said;
  };
  says(why(""), "it holds no tokens");
  says(why("abc"), "3 bytes, an odd number, are no 16-bit tokens");
  says(why(llmc({}, 20240520, 1, 0)), "it holds no tokens");
  const std::string good = llmc(counted(9, 4), 20240520, 1, 9);
  CHECK(io::TokenFiles(put(kTokensDir, "good.bin", good)).size() == 9);
  says(why(good.substr(0, 1023)), "it ends inside llm.c's header, after 1023 of 1024 bytes");
  says(why(good.substr(0, 4)), "it ends inside llm.c's header, after 4 of 1024 bytes");
  for (const size_t cut : {size_t(1024), good.size() - 1, good.size() - 2})
    says(why(good.substr(0, cut)), "its header says 9 tokens, " + std::to_string(cut - 1024) + " bytes of tokens follow");
  says(why(good + "ab"), "its header says 9 tokens, 20 bytes of tokens follow");
  says(why(llmc(counted(9, 4), 20240520, 1, -9)), "its header says -9 tokens");
  says(why(llmc(counted(9, 4), 20240520, 7, 9)), "version 7 of llm.c's format, only 1 is read");
  says(why(llmc(counted(9, 4), 20240801, 7, 9)), "32-bit tokens");
  says(refusal(Exit::data, [&] { io::TokenFiles files("/dev/null"); }), "not a regular file");
}

TEST_CASE("token files that change under way end in an error, not in a signal") {
  const std::string path = put(kTokensDir, "shrinks.bin", bytes_of(counted(100000, 1)));
  const io::TokenFiles before(path), during(path);
  std::vector<std::uint16_t> part(10);
  during.read(99990, 10, part.data());
  std::filesystem::resize_file(path, 1000);
  says(refusal(Exit::data, [&] { before.read(0, 10, part.data()); }), path + ": has changed: 1000 bytes, 200000 when it was first opened");
  says(refusal(Exit::data, [&] { during.read(99990, 10, part.data()); }), "ended at byte");
  std::filesystem::remove(path);
  says(refusal(Exit::no_input, [&] { before.read(0, 10, part.data()); }), path);
}

TEST_CASE("token files: the digest sees sizes, ends and blocks between, of every file") {
  std::vector<std::uint16_t> tokens(3000000);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::uint16_t>(i * 2654435761u >> 16);
  const auto digest = [&] { return io::TokenFiles(put(kTokensDir, "digest.bin", bytes_of(tokens))).digest(); };
  const std::uint64_t whole = digest();
  CHECK(digest() == whole);
  int seen = 0;
  for (const size_t at : {size_t(0), size_t(524287), size_t(524288), tokens.size() - 1, tokens.size() - 524288}) {
    tokens[at] ^= 1;
    seen += digest() != whole;
    tokens[at] ^= 1;
  }
  CHECK(seen == 5);
  tokens.pop_back();
  CHECK(digest() != whole);
  put(kTokensDir, "cut/1.bin", bytes_of({1, 2}));
  put(kTokensDir, "cut/2.bin", bytes_of({3}));
  put(kTokensDir, "cut2/1.bin", bytes_of({1}));
  put(kTokensDir, "cut2/2.bin", bytes_of({2, 3}));
  CHECK(io::TokenFiles(kTokensDir + "/cut").digest() != io::TokenFiles(kTokensDir + "/cut2").digest());
}

TEST_CASE("more files than may be open at once") {
  std::vector<std::uint16_t> wanted;
  for (int i = 0; i < 300; ++i) {
    put(kTokensDir, "many/" + std::to_string(1000 + i) + ".bin", bytes_of({static_cast<std::uint16_t>(i), 7}));
    wanted.push_back(static_cast<std::uint16_t>(i)), wanted.push_back(7);
  }
  rlimit old{}, few{};
  getrlimit(RLIMIT_NOFILE, &old);
  few = old;
  few.rlim_cur = 150;
  setrlimit(RLIMIT_NOFILE, &few);
  const io::TokenFiles files(kTokensDir + "/many");
  CHECK(row(files) == wanted);
  std::uint16_t one = 0;
  for (std::int64_t at : {598, 0, 300, 599, 1}) {
    files.read(at, 1, &one);
    CHECK(one == wanted[static_cast<size_t>(at)]);
  }
  setrlimit(RLIMIT_NOFILE, &old);
}

TEST_CASE("the writer: both formats, shards, nothing replaced or left behind unasked") {
  std::filesystem::remove_all(kTokensDir + "/w");
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 1000; ++i) tokens.push_back(i * 61 % 65536);
  const auto write = [&](const std::string& name, io::TokenFormat format, std::int64_t shard, bool force, size_t count) {
    io::TokenWriter w(kTokensDir + "/w/" + name, format, shard, force);
    for (size_t at = 0; at < count; at += 7) w.write(tokens.data() + at, std::min<size_t>(7, count - at));
    w.finish();
    return w.count_files();
  };
  const auto reads = [&](const std::string& name, size_t count) {
    const auto got = row(io::TokenFiles(kTokensDir + "/w/" + name));
    CHECK(std::vector<std::int32_t>(got.begin(), got.end()) == std::vector<std::int32_t>(tokens.begin(), tokens.begin() + static_cast<long>(count)));
  };
  CHECK(write("one.bin", io::TokenFormat::nanogpt, 0, false, 1000) == 1);
  CHECK(std::filesystem::file_size(kTokensDir + "/w/one.bin") == 2000);
  reads("one.bin", 1000);
  says(refusal(Exit::cant_create, [&] { write("one.bin", io::TokenFormat::nanogpt, 0, false, 10); }), "one.bin' is there");
  write("one.bin", io::TokenFormat::llmc, 0, true, 10);
  CHECK(std::filesystem::file_size(kTokensDir + "/w/one.bin") == 1044);
  reads("one.bin", 10);
  for (const io::TokenFormat format : {io::TokenFormat::nanogpt, io::TokenFormat::llmc}) {
    CHECK(write("many.bin", format, 300, true, 1000) == 4);
    reads("many_*.bin", 1000);
    CHECK(io::TokenFiles(kTokensDir + "/w/many_000003.bin").size() == 100);
  }
  CHECK(write("many", io::TokenFormat::nanogpt, 500, true, 1000) == 2);  // no third and fourth of before
  reads("many_*.bin", 1000);
  says(refusal(Exit::cant_create, [&] { write("many", io::TokenFormat::nanogpt, 500, false, 10); }), "many_000000.bin' is there");
  says(refusal(Exit::data, [&] { write("none", io::TokenFormat::nanogpt, 0, false, 0); }), "the text is empty");
  tokens[900] = 65536;
  says(refusal(Exit::data, [&] { write("wide", io::TokenFormat::nanogpt, 100, false, 1000); }), "token 65536 does not fit 16 bits");
  CHECK(io::list_files(kTokensDir + "/w") == std::vector<std::string>{"many_000000.bin", "many_000001.bin", "one.bin"});
}

TEST_CASE("text files: one, or a folder's, in pieces") {
  std::filesystem::remove_all(kTokensDir + "/t");
  put(kTokensDir, "t/b.txt", "world");
  put(kTokensDir, "t/a.txt", "hello ");
  put(kTokensDir, "t/aa.txt", "");
  put(kTokensDir, "t/c.md", "not read");
  io::TextFiles files(kTokensDir + "/t");
  CHECK(files.size() == 11);
  for (int pass = 0; pass < 2; ++pass, files.rewind()) {
    std::string all;
    std::string borders;
    do borders += files.at_border() ? std::to_string(all.size()) + " " : "";
    while (files.next(4, all));
    CHECK(all == "hello world");
    CHECK(borders == "0 6 11 ");
    CHECK(files.at_border());  // behind the end
  }
  CHECK(files.place(5) == kTokensDir + "/t/a.txt: byte 5");
  CHECK(files.place(6) == kTokensDir + "/t/b.txt: byte 0");
  put(kTokensDir, "t/b.txt", "worlds");
  std::string all;
  says(refusal(Exit::data, [&] {
         while (files.next(100, all)) {
         }
       }), "b.txt: has changed: 6 bytes, 5 when it was first opened");
  says(refusal(Exit::no_input, [&] { io::TextFiles none(kTokensDir + "/none.txt"); }), "none.txt");
}

TEST_CASE("the data set `tokens`") {
  std::filesystem::remove_all(kTokensDir + "/d");
  put(kTokensDir, "d/train_1.bin", bytes_of(counted(500, 0)));
  put(kTokensDir, "d/train_2.bin", bytes_of(counted(501, 5)));
  put(kTokensDir, "d/val.bin", llmc(counted(101, 1), 20240520, 1, 101));
  const auto load = [&](const std::string& vocabulary, const std::string& size, const std::string& held = "0") {
    return load_data(config_of({{"data.name", "tokens"}, {"data.path", kTokensDir + "/d/train_*.bin"}, {"data.val_path", kTokensDir + "/d/val.bin"},
                                {"data.length", "10"}, {"data.vocab", vocabulary}, {"data.vocab_size", size}, {"data.val_size", held}}));
  };
  const DataSet d = load("", "0");
  CHECK(d.vocabulary == 50304);
  CHECK(d.classes == 50304);
  CHECK(!d.tokenizer);
  CHECK(d.train.count == 100);
  CHECK(d.test.count == 10);
  std::int32_t four[4];
  d.train.tokens->read(498, 4, four);
  CHECK(four[1] == 499 * 3 % 1000);
  CHECK(four[2] == 5);
  CHECK(load("", "0").digest == d.digest);
  CHECK(load("", "0", "10").digest != d.digest);
  CHECK(load("", "0", "10").validation.count == 10);
  std::vector<std::int32_t> all(1001);
  says(refusal(Exit::data, [&] { load("", "998").train.tokens->read(0, 1001, all.data()); }),
       "train_1.bin: token 333 is 999, not below the vocabulary's size, 998");
  put(kTokensDir, "d/a.tokenizer", "chars:\"ab\"\n");
  CHECK(load(kTokensDir + "/d/a.tokenizer", "0").vocabulary == 2);
  CHECK(load(kTokensDir + "/d/a.tokenizer", "1000").vocabulary == 1000);
  says(refusal(Exit::config, [&] { load(kTokensDir + "/d/a.tokenizer", "1"); }), "data.vocab_size = 1, the tokenizer has 2 tokens");
  put(kTokensDir, "d/bad.tokenizer", "chars:ab\n");
  says(refusal(Exit::data, [&] { load(kTokensDir + "/d/bad.tokenizer", "0"); }), "bad.tokenizer: the alphabet");
  says(refusal(Exit::no_input, [&] { load(kTokensDir + "/d/no.tokenizer", "0"); }), "no.tokenizer");
  says(refusal(Exit::config, [&] { load_data(config_of({{"data.name", "tokens"}, {"data.path", kTokensDir + "/d"}})); }), "data.val_path");
  put(kTokensDir, "d/val.bin", bytes_of(counted(10, 1)));
  says(refusal(Exit::data, [&] { load("", "0"); }), "val.bin: 10 tokens, a window of data.length = 10 takes 11");
}
