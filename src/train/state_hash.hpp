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

/// In two: what this rank's words add up to, on the device; and the digits of it and of the counts. The second one is collective.
std::uint64_t state_sum(const Exec& exec, const Optimizer& optimizer);
std::string state_hash(std::uint64_t sum, const Optimizer& optimizer, std::uint64_t step, std::uint64_t samples, std::uint64_t skipped,
                       const Comm& comm);
/// What `count` words on the host, from number `first` of state vector number `which` (from 1), add to such a sum. One thread.
std::uint64_t hash_words(std::uint64_t which, Index first, const Real* words, Index count);

/// Compares the ranks' hashes. Collective. Errors (70): a rank's state is another one, by whatever fault.
void require_same_state(const std::string& hash, std::uint64_t step, const Comm& comm);

}  // namespace varion
