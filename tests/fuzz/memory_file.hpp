// The file that readers are given while they are fuzzed.
#pragma once

#include <cstddef>
#include <cstdint>

/// From now on every file, whatever its path, has these bytes. They must live as long as it is read.
void become_file(const std::uint8_t* data, size_t size);
