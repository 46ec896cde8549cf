// Work on parts of a file by several threads. Kokkos' threads stay out of it: saving runs beside training.
#pragma once

#include <cstddef>
#include <functional>

namespace varion::io {

/// part(0) ... part(count - 1), each once, on up to as many threads as this process has processors. Throws what a part threw
/// first; the parts not begun then are left out. With one part everything stays on the caller's thread.
void for_parts(size_t count, const std::function<void(size_t)>& part);

}  // namespace varion::io
