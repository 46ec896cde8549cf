// Errors as users see them: a code, and one line that says what and where.
#pragma once

#include <string>

#include "core/error.hpp"
#include "support/catch.hpp"

namespace varion {

/// The message of the error with this code that `f` must end in.
template <class F>
std::string refusal(Exit code, F f) {
  try {
    f();
  } catch (const Error& e) {
    CHECK(e.code() == code);
    CHECK(std::string(e.what()).find('\n') == std::string::npos);
    return e.what();
  }
  FAIL("accepted");
  return "";
}

}  // namespace varion
