#include "core/options.hpp"

#include "core/error.hpp"
#include "support/catch.hpp"

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
