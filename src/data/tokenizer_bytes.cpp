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
    const auto* b = reinterpret_cast<const unsigned char*>(text.data());
    return std::vector<std::int32_t>(b, b + text.size());
  }
  std::string decode(const std::int32_t* tokens, Index count) const override { return bytes_.join(tokens, count); }
  std::string describe() const override { return "bytes"; }

 private:
  TokenBytes bytes_;
};

const bool registered = Tokenizers::of().add(
    "bytes", {"one token a byte", [](const std::string&) { return std::make_shared<Bytes>(); },
              [](std::string_view, const std::string&) { return std::string(); }});
}  // namespace

}  // namespace varion
