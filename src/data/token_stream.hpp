// Token streams: in memory, and parts of others.
#pragma once

#include <memory>
#include <vector>

#include "data/dataset.hpp"

namespace varion {

/// Tokens that are at hand. 4 bytes a token.
std::shared_ptr<const TokenStream> tokens_in_memory(std::vector<std::int32_t> tokens);

/// Tokens [first, first + count) of another stream.
std::shared_ptr<const TokenStream> part_of(std::shared_ptr<const TokenStream> whole, Index first, Index count);

/// The windows of `length` tokens of a stream; `name` stands in the message. Errors (65): less than one window and the token
/// behind it.
Examples windows_of(std::shared_ptr<const TokenStream> tokens, Index length, const std::string& name);

/// Windows [first, first + count) of others, with the token behind them.
Examples some_windows(const Examples& from, Index first, Index count);

}  // namespace varion
