// One number for an optimizer's whole state: two runs, or a run and its replay, are compared by it.
#pragma once

#include <cstdint>
#include <string>

#include "comm/comm.hpp"
#include "optim/optimizer.hpp"

namespace varion {

/// Of every word of every state vector and of the counts, as 16 hexadecimal digits. Each word is mixed with its place, one to
/// one, and the results are added modulo 2^64: the order does not matter, so that threads, devices and ranks agree; a single
/// changed word always shows, several do but for one case in 2^64. 4 bytes read per word. Waits. Collective where ranks keep a
/// part of the state each.
std::string state_hash(const Exec& exec, const Optimizer& optimizer, std::uint64_t step, std::uint64_t samples, std::uint64_t skipped,
                       const Comm& comm);

}  // namespace varion
