// GPT-2's own vocabulary, of the folder VARION_TEST_DATA/gpt2-bpe: numbers that tiktoken 0.14 gives for the same files.
#include <cstdlib>

#include "data/tokenizer.hpp"
#include "support/catch.hpp"

using namespace varion;

TEST_CASE("GPT-2's tokens are the published ones") {
  const char* data = std::getenv("VARION_TEST_DATA");
  if (data == nullptr) {
    WARN("[skipped] set VARION_TEST_DATA to a folder with gpt2-bpe");
    return;
  }
  const auto t = tokenizer_for("gpt2", "", std::string(data) + "/gpt2-bpe");
  CHECK(t->size() == 50257);
  const std::vector<std::pair<std::string, std::vector<std::int32_t>>> published{
      {"Hello world", {15496, 995}},
      {"Hello, world!", {15496, 11, 995, 0}},
      {" hello", {23748}},
      {"The quick brown fox jumps over the lazy dog.", {464, 2068, 7586, 21831, 18045, 625, 262, 16931, 3290, 13}},
      {"I'm we're they'LL", {40, 1101, 356, 821, 484, 6, 3069}},
      {"  two spaces\n\n\tand a tab", {220, 734, 9029, 628, 197, 392, 257, 7400}},
      {"na\xc3\xafve caf\xc3\xa9 \xe2\x80\x93 \xe6\xbc\xa2\xe5\xad\x97 \xf0\x9f\x98\x80",
       {2616, 38776, 40304, 784, 10545, 120, 95, 27764, 245, 30325, 222}},
      {"3.14159 2024", {18, 13, 1415, 19707, 48609}},
      {"<|endoftext|>", {27, 91, 437, 1659, 5239, 91, 29}},
      {"\xc2\xa0x\xe3\x80\x80", {1849, 87, 5099, 222}},
      {"supercalifragilisticexpialidocious", {16668, 9948, 361, 22562, 346, 396, 501, 42372, 498, 312, 32346}},
      {"\r\n \r\n x", {201, 198, 220, 201, 198, 2124}},
      {"", {}}};
  for (const auto& [text, tokens] : published) {
    INFO(text);
    CHECK(t->encode(text) == tokens);
    CHECK(t->decode(tokens.data(), static_cast<Index>(tokens.size())) == text);
  }
  const std::int32_t end = 50256;
  CHECK(t->decode(&end, 1) == "<|endoftext|>");
}
