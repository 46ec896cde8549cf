// Errors: one clear line (what, where, what to do) and the exit code it ends the program with.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace varion {

enum class Exit : int {
  ok = 0,
  diverged = 10,      // a non-finite number, or the loss ran away
  usage = 64,         // the command line is wrong
  data = 65,          // bad data file or checkpoint
  no_input = 66,      // an input file does not exist
  environment = 69,   // no device, wrong architecture, missing tool
  internal = 70,      // a bug, or the watchdog
  cant_create = 73,   // an output cannot be created
  io = 74,            // reading or writing failed
  stopped = 75,       // stopped early with a complete checkpoint: resubmit
  config = 78,        // bad configuration
};

class Error : public std::runtime_error {
 public:
  Error(Exit code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Exit code() const { return code_; }

 private:
  Exit code_;
};

/// Joins its arguments as a stream would print them.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// Throws an Error whose message is the joined parts.
template <class... Parts>
[[noreturn]] void fail(Exit code, const Parts&... parts) {
  throw Error(code, text(parts...));
}

/// `fail(code, parts...)` unless `ok`.
template <class... Parts>
void require(bool ok, Exit code, const Parts&... parts) {
  if (!ok) fail(code, parts...);
}

/// A broken promise inside the program itself: exit 70.
template <class... Parts>
void ensure(bool ok, const Parts&... parts) {
  if (!ok) fail(Exit::internal, "internal error: ", parts...);
}

}  // namespace varion
