// What a library may not survive is tried in a copy of this process first.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "core/error.hpp"

namespace varion::io {

/// How a trial ended: both empty where it came to its end, no copy could be made, or somebody else ended it.
struct Trial {
  std::string crash;           // by which signal or exit code, or what it has used up
  std::optional<Error> error;  // that came out of it (70: another exception)
};

/// Runs `body`, which starts no threads, in a copy of this process (fork) that may use so many seconds of processor time, and bytes of
/// memory beyond what this process has. It must need no lock that another thread may hold, and no memory that MPI or a device has
/// registered; a copy that waits is ended a minute later.
Trial try_apart(const std::function<void()>& body, unsigned seconds, std::uint64_t bytes);

}  // namespace varion::io
