// Faults on purpose. They exist in the test program varion_inject only, which is made of the same sources with
// VARION_INJECT; in the program itself these calls are empty (tests/faults/release.py).
//   --inject=PLACE:STEP:RANK:KIND[:INDEX]   once, on that rank
#pragma once

#include <string>

#include "core/types.hpp"

namespace varion::inject {

#ifdef VARION_INJECT  // tests/inject/inject.cpp
inline constexpr bool kOn = true;
/// Whether the word was an --inject option; several may be given. Errors (64).
bool take(const std::string& word);
/// What befalls a process: PLACE init, data (STEP 0), forward, reduce, save, write, finalize (STEP 0).
void process(const char* place, std::uint64_t step);
/// `count` neighbours that go wrong: PLACE input, weight, noise, loss, gradient, or the name of a state vector.
void value(const std::string& place, std::uint64_t step, const Exec& exec, const Vec& v, Index count = 1);
/// The same for PLACE activation, in the step that was last told to `value`: the model's outputs for one example, before the loss.
void activation(const Exec& exec, const Vec& v, Index count);
#else
inline constexpr bool kOn = false;
inline bool take(const std::string&) { return false; }
inline void process(const char*, std::uint64_t) {}
inline void value(const std::string&, std::uint64_t, const Exec&, const Vec&, Index = 1) {}
inline void activation(const Exec&, const Vec&, Index) {}
#endif

}  // namespace varion::inject
