#include "data/tokenizer.hpp"

#include <filesystem>
#include <utility>

#include "io/input_file.hpp"

namespace varion {

std::shared_ptr<const Tokenizer> make_tokenizer(const std::string& description) {
  const size_t colon = description.find(':');
  const std::string argument = colon == std::string::npos ? "" : description.substr(colon + 1);
  return Tokenizers::of().find(description.substr(0, colon)).make(argument);
}

std::shared_ptr<const Tokenizer> tokenizer_for(const std::string& name, std::string_view text, const std::string& vocabulary) {
  const TextPieces whole = [text]() mutable { return std::exchange(text, std::string_view()); };
  return tokenizer_for(name, whole, vocabulary);
}

std::shared_ptr<const Tokenizer> tokenizer_for(const std::string& name, const TextPieces& text, const std::string& vocabulary) {
  const TokenizerEntry& entry = Tokenizers::of().find(name);
  return entry.make(entry.argument(text, vocabulary));
}

std::shared_ptr<const Tokenizer> tokenizer_of_files(const std::string& path) {
  if (path.empty()) return nullptr;
  std::error_code none;
  if (std::filesystem::is_directory(path, none)) return tokenizer_for("gpt2", std::string_view(), path);
  std::string line = io::read_file(path, size_t(1) << 26);
  if (!line.empty() && line.back() == '\n') line.pop_back();
  try {
    return make_tokenizer(line);
  } catch (const Error& e) {
    fail(e.code(), path, ": ", e.what());
  }
}

void TokenBytes::add(std::string_view bytes) {
  bytes_ += bytes;
  ends_.push_back(bytes_.size());
}

std::string_view TokenBytes::of(Index token) const {
  const size_t begin = token == 0 ? 0 : ends_[static_cast<size_t>(token - 1)];
  return std::string_view(bytes_).substr(begin, ends_[static_cast<size_t>(token)] - begin);
}

std::string TokenBytes::join(const std::int32_t* tokens, Index count) const {
  std::string out;
  for (Index i = 0; i < count; ++i) {
    require(tokens[i] >= 0 && tokens[i] < size(), Exit::data, "token ", tokens[i], " at place ", i,
            " is not below the vocabulary's size, ", size());
    out += of(tokens[i]);
  }
  return out;
}

}  // namespace varion
