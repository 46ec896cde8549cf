// Memory of the host in pages of 2 MB.
#pragma once

#include <cstddef>

namespace varion {

/// Asks for huge pages where this memory of the host, which nobody has touched yet, holds whole ones.
void wish_huge_pages(void* data, std::size_t bytes);

}  // namespace varion
