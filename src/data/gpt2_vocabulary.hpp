// GPT-2's vocabulary files.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "data/tokenizer.hpp"

namespace varion {

struct Gpt2Merge {
  std::int32_t left, right, token;  // left and right become token
};

struct Gpt2Vocabulary {
  TokenBytes bytes;                      // of every token
  std::array<std::int32_t, 256> of_byte;  // the token that a byte is before anything is merged
  std::vector<Gpt2Merge> merges;         // in the order of their ranks
  std::int32_t end_of_text = -1;         // "<|endoftext|>", which no text becomes; -1: not among them
};

/// encoder.json and vocab.bpe (or vocab.json and merges.txt, the same files under Hugging Face's names) of a folder. Errors: 66 not
/// there; 65 no such JSON, tokens that are not numbered 0 ... n - 1, a byte without a token, a merge whose parts or result are no
/// tokens, or that stands twice.
Gpt2Vocabulary read_gpt2_vocabulary(const std::string& folder);

/// The same from the files' contents; the names stand in messages.
Gpt2Vocabulary parse_gpt2_vocabulary(const std::string& json, const std::string& json_name, const std::string& merges,
                                     const std::string& merges_name);

}  // namespace varion
