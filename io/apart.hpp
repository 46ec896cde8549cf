// What a library may not survive is tried in a copy of this process first.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace varion::io {

/// How a trial ended: both empty where it came to its end, no copy could be made, or somebody else ended it.
struct Trial {
  std::string crash;  // the signal or exit code of a crash, or what it has used up
  std::string error;  // of the exception that came out
};

/// Runs `body`, which starts no threads, in a copy of this process (fork) that may use so many seconds of processor time, and bytes of
/// memory beyond what this process has.
Trial try_apart(const std::function<void()>& body, unsigned seconds, std::uint64_t bytes);

}  // namespace varion::io
