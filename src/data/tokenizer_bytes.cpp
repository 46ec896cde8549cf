// One token a byte: takes any file.
#include "data/tokenizer.hpp"

namespace varion {

namespace {
class Bytes final : public Tokenizer {
 public:
  Bytes() {
    for (int b = 0; b < 256; ++b) bytes_.add(std::string(1, static_cast<char>(b)));
  }
  Index size() const override { return 256; }
  std::vector<std::int32_t> encode(std::string_view text) const override {
    std::vector<std::int32_t> tokens;
    encode_front(text, tokens);
    return tokens;
  }
  size_t encode_front(std::string_view text, std::vector<std::int32_t>& tokens) const override {
    const auto* b = reinterpret_cast<const unsigned char*>(text.data());
    tokens.insert(tokens.end(), b, b + text.size());
    return text.size();
  }
  std::string decode(const std::int32_t* tokens, Index count) const override { return bytes_.join(tokens, count); }
  std::string describe() const override { return "bytes"; }

 private:
  TokenBytes bytes_;
};

bool register_tokenizer_bytes() {
  return Tokenizers::of().add(
      "bytes", {"one token a byte", [](const std::string&) { return std::make_shared<Bytes>(); },
                [](const TextPieces&, const std::string&) { return std::string(); }});
}
const bool registered_tokenizer_bytes = register_tokenizer_bytes();
}  // namespace

}  // namespace varion
