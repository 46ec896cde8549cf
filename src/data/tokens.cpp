// `tokens`: files of tokens that may be larger than memory (nanoGPT's and llm.c's .bin; `varion data convert` makes them of text).
#include <algorithm>
#include <filesystem>

#include "core/error.hpp"
#include "data/token_stream.hpp"
#include "data/tokenizer.hpp"
#include "io/token_files.hpp"

namespace varion {

namespace {
class InFiles final : public TokenStream {
 public:
  InFiles(const std::string& path, Index vocabulary) : files_(path), vocabulary_(vocabulary) {}
  Index size() const override { return files_.size(); }
  void read(Index first, Index count, std::int32_t* to) const override {
    for (Index done = 0; done < count; done += static_cast<Index>(buffer_.size())) {
      buffer_.resize(static_cast<size_t>(std::min<Index>(count - done, 1 << 16)));
      files_.read(first + done, static_cast<Index>(buffer_.size()), buffer_.data());
      for (size_t i = 0; i < buffer_.size(); ++i) {
        const Index at = done + static_cast<Index>(i);
        require(buffer_[i] < vocabulary_, Exit::data, files_.place(first + at), " is ", buffer_[i], ", not below the vocabulary's size, ",
                vocabulary_, ": set data.vocab_size, or the data.vocab that it was made with");
        to[at] = buffer_[i];
      }
    }
  }
  std::uint64_t digest() const override { return files_.digest(); }

 private:
  io::TokenFiles files_;
  Index vocabulary_;
  mutable std::vector<std::uint16_t> buffer_;
};

DataSet load_tokens(const Config& c) {
  const std::string path = data_path(c), tests = below_root(c, c.text("data.val_path"));
  require(!tests.empty(), Exit::config, "data.name = tokens: set data.val_path to the file or folder of the test set");
  DataSet d;
  d.name = "tokens";
  d.tokenizer = tokenizer_of_files(below_root(c, c.text("data.vocab")));
  const Index given = c.integer("data.vocab_size"), known = d.tokenizer ? d.tokenizer->size() : 0;
  require(given == 0 || given >= known, Exit::config, "data.vocab_size = ", given, ", the tokenizer has ", known, " tokens");
  d.vocabulary = d.classes = given > 0 ? given : known > 0 ? known : 50304;
  const Index length = c.integer("data.length");
  d.train = windows_of(std::make_shared<InFiles>(path, d.vocabulary), length, path);
  d.test = windows_of(std::make_shared<InFiles>(tests, d.vocabulary), length, tests);
  return d;
}

using T = OptionSpec::Type;
const bool registered_tokens =
    add_options("tokens", {{"data.path", T::text, "", "a .bin file, a folder of them, or a pattern such as train_*.bin"},
                           {"data.val_path", T::text, "", "the same, of the test set"},
                           {"data.length", T::integer, "64", "tokens of a window", {}, 1, 1e6},
                           {"data.vocab", T::text, "", "the .tokenizer file beside the tokens, or gpt2's folder; empty: text is not needed"},
                           {"data.vocab_size", T::integer, "0", "number of tokens (0: the tokenizer's, or 50304, GPT-2's rounded up)", {}, 0, 65536}}) &&
    DataSets::of().add("tokens", {"files of tokens, nanoGPT's or llm.c's, larger than memory or not", load_tokens});
}  // namespace

}  // namespace varion
