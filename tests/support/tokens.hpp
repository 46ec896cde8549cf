// Tokens as tests see them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "data/tokenizer.hpp"
#include "support/vectors.hpp"

namespace varion {

inline std::string decoded(const Tokenizer& t, const std::vector<std::int32_t>& tokens) {
  return t.decode(tokens.data(), static_cast<Index>(tokens.size()));
}

struct TokenBatch {
  std::vector<std::int32_t> tokens, targets;
};
/// What `fill` writes to vectors of these sizes.
inline TokenBatch take(Index tokens, Index targets, const std::function<void(IntVec, IntVec)>& fill) {
  const IntVec x("varion::test::tokens", at(tokens)), y("varion::test::targets", at(targets));
  fill(x, y);
  return {host(x), host(y)};
}

}  // namespace varion
