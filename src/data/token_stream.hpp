// Token streams: in memory, and parts of others.
#pragma once

#include <memory>
#include <string>
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

/// Passages of `length` tokens, cut from what each class has, one behind another; their order mixes the classes evenly, so that the
/// first n hold as large a share of each. names: of the classes, for the message. Errors (65): a class without a passage.
Examples passages_of(const std::vector<std::vector<std::int32_t>>& classes, Index length, const std::vector<std::string>& names);

/// Windows [first, first + count) of others, with the token behind them; passages.
Examples some_windows(const Examples& from, Index first, Index count);

}  // namespace varion
