#include "core/options.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "core/error.hpp"
#include "core/suggest.hpp"
#include "io/commit_file.hpp"
#include "support/catch.hpp"
#include "train/run.hpp"

using namespace varion;

namespace {
std::string message(const std::string& ini) {
  Config c;
  try {
    c.read_text(ini, "x.ini");
    c.resolve();
  } catch (const Error& e) {
    REQUIRE(e.code() == Exit::config);
    return e.what();
  }
  return "";
}
}  // namespace

TEST_CASE("a bad configuration is refused with its place and a hint") {
  CHECK(message("[optim]\nlrr = 1\n").find("x.ini:2: unknown key 'optim.lrr' (did you mean 'optim.lr'?)") == 0);
  CHECK(message("[optim]\nlr = fast\n").find("x.ini:2: optim.lr") == 0);
  CHECK(message("[optim]\nlr = nan\n") != "");
  CHECK(message("[optim]\nlr = 1e400\n") != "");
  CHECK(message("[optim]\nlr = -1\n").find("[0, ") != std::string::npos);
  CHECK(message("[run]\nseed = 1.5\n") != "");
  CHECK(message("[run]\nresume = maybe\n").find("auto, never, must") != std::string::npos);
  CHECK(message("[optim]\nlr = 1\nlr = 2\n").find("x.ini:3") == 0);
  CHECK(message("lr = 1\n").find("x.ini:1") == 0);
  CHECK(message("[optim\n").find("x.ini:1") == 0);
  CHECK(message("[model]\nsizes = 3,-1\n") != "");
  CHECK(message("[optim]\nname = sgd\nlr = 1 # comment\n") == "");
}

TEST_CASE("later sources win and are named; keys of others become notes") {
  Config c;
  c.read_text("[optim]\nname = sgd\nlr = 1\nbeta2 = 0.5\n", "a.ini");
  c.set("optim.lr", "2", "command line");
  const auto notes = c.resolve();
  CHECK(c.real("optim.lr") == 2);
  CHECK(c.values().at("optim.lr").source == "command line");
  REQUIRE(notes.size() == 1);
  CHECK(notes[0].find("a.ini:4: optim.beta2") == 0);
  Config again;
  again.read_text(c.ini(true), "echo");
  again.resolve();
  CHECK(again.ini(false) == c.ini(false));
}

TEST_CASE("I8: every key, with values that do not fit, is refused with its place and its name") {
  using T = OptionSpec::Type;
  int cases = 0;
  std::set<std::string> keys;
  const auto refused = [&](const std::string& key, const std::string& value) {
    const size_t dot = key.find('.');
    const std::string why = message("[" + key.substr(0, dot) + "]\n" + key.substr(dot + 1) + " = " + value + "\n");
    INFO(key << " = " << value << ": " << why);
    CHECK(why.rfind("x.ini:2: ", 0) == 0);
    CHECK(why.find(key) != std::string::npos);
    ++cases;
  };
  for (const OptionSpec& o : option_table()) {
    if (!keys.insert(o.key).second) continue;
    const auto same_key = [&](const OptionSpec& p) { return p.key == o.key && p.type != o.type; };
    REQUIRE(std::none_of(option_table().begin(), option_table().end(), same_key));
    for (const char* bad : {"a\tb", "a\x01"}) refused(o.key, bad);  // control characters, in every type
    if (o.type == T::text) refused(o.key, std::string(4097, 'x'));
    if (o.type == T::flag)
      for (const char* bad : {"yes", "1", "TRUE", ""}) refused(o.key, bad);
    if (o.type == T::choice)
      for (const char* bad : {"other", "", "0"}) refused(o.key, bad);
    if (o.type == T::sizes)
      for (const char* bad : {"0", "-1", "1.5", "a", "1,,2", "1;2", "1e10", "nan"}) refused(o.key, bad);
    if (o.type == T::real || o.type == T::integer)
      for (const char* bad : {"", "nan", "-nan", "-inf", "infinity", "1e400", "-1e400", "0x1p3", "1,5", "1 2", "one", "1e", "--1", "1.0.0", "\u0663"})
        refused(o.key, bad);
    if (o.type == T::integer)
      for (const char* bad : {"1.5", "9223372036854775808", "18446744073709551616", "1e16", "inf"}) refused(o.key, bad);
    if (o.low > -1e299) refused(o.key, "-1e299");
    if (o.high < 1e299) refused(o.key, "1e299");
  }
  CHECK(keys.size() >= 40);
  CHECK(cases >= 200);
}

TEST_CASE("I8: unknown keys are refused with the one that was meant") {
  std::set<std::string> keys;
  for (const OptionSpec& o : option_table()) keys.insert(o.key);
  for (const std::string& key : keys) {
    const std::string typed = key + "x";
    if (keys.count(typed) != 0) continue;
    const size_t dot = key.find('.');
    const std::string why = message("[" + key.substr(0, dot) + "]\n" + typed.substr(dot + 1) + " = 1\n");
    INFO(why);
    CHECK(why.rfind("x.ini:2: unknown key '" + typed + "' (did you mean '", 0) == 0);
  }
  // The distance counts swaps, and is the same from both sides.
  CHECK(edit_distance("optim.lr", "optim.rl") == 1);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("abc", "") == 3);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("ca", "abc") == 3);  // a swapped pair is not edited again
  for (const std::string& a : keys)
    for (const std::string& b : keys) {
      const int whole = edit_distance(a, b), bounded = edit_distance(a, b, 4);
      CHECK((whole == edit_distance(b, a) && (whole <= 4 ? bounded == whole : bounded > 4)));
    }
}

TEST_CASE("I8: files that are no configuration are refused") {
  CHECK(message(std::string("[optim]\nlr = 1\0\n", 16)) != "");
  CHECK(message("[optim]\nlr = \xff\xfe\n") != "");
  CHECK(message("[op\xc3\x28tim]\nlr = 1\n") != "");
  CHECK(message("\xef\xbb\xbf[optim]\nlr = 1\n") != "");
  CHECK(message("lr = 1\n[optim]\n").find("x.ini:1") == 0);
  CHECK(message("[]\nlr = 1\n") != "");
  CHECK(message("[a.b]\nc = 1\n").find("unknown key 'a.b.c'") != std::string::npos);
  CHECK(message("[optim]\n= 1\n") != "");
  CHECK(message("[optim]\nlr\n").find("x.ini:2") == 0);
  CHECK(message("include = other.ini\n") != "");
  CHECK(message("[include]\nfile = x.ini\n") != "");
  std::string nested;
  for (int i = 0; i < 1000; ++i) nested += "[a\n";
  CHECK(message(nested).find("x.ini:1") == 0);
  CHECK(message(std::string(1000, '[') + std::string(1000, ']') + "\nx = 1\n") != "");
  CHECK(message("[optim]\r\nlr = 1\r\n") == "");  // another system's line ends
  CHECK(message("[optim]\nlr = -0\n") == "");
  const std::string path = "options-test.ini";
  io::commit_file(".", path, "[optim]\n" + std::string((10 << 20), '#') + "\n");
  for (const std::string& bad : {path, std::string("."), std::string("nothing.ini")}) {
    Config c;
    INFO(bad);
    try {
      c.read_file(bad);
      FAIL("accepted");
    } catch (const Error& e) {
      CHECK((e.code() == Exit::config || e.code() == Exit::no_input));
      CHECK(std::string(e.what()).find(bad) != std::string::npos);
    }
  }
  io::remove_file(path);
}

TEST_CASE("I8: names of runs that would leave their folder are refused before anything is made") {
  for (const std::string& name : {std::string("../x"), std::string("/etc/x"), std::string("a/b"), std::string("~"), std::string("$HOME"),
                                  std::string(".hidden"), std::string(".."), std::string("."), std::string(""), std::string("a b"),
                                  std::string("a;b"), std::string("a\\b"), std::string("a*"), std::string("\xc3\xa4"), std::string("a%n"),
                                  std::string("`x`"), std::string("a|b"), std::string("a\"b"), std::string(200, 'x'), std::string(256, 'x')}) {
    Config c;
    c.set("run.name", name, "test");
    c.resolve();
    INFO(name);
    try {
      train_run(c, true);
      FAIL("accepted");
    } catch (const Error& e) {
      CHECK(e.code() == Exit::config);
      CHECK(std::string(e.what()).find("run.name") == 0);
    }
  }
  CHECK(!std::filesystem::exists("runs"));
}
