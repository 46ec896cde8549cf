// `text`: a UTF-8 file or a folder of .txt files, tokenized in memory.
#include <algorithm>

#include "core/error.hpp"
#include "data/token_stream.hpp"
#include "data/tokenizer.hpp"
#include "io/text_files.hpp"

namespace varion {

namespace {
/// Where the first `share` of the characters ends, as nanoGPT cuts. What is not UTF-8 counts byte for byte, but for those that
/// look like the later bytes of a character.
size_t cut_at(const std::string& text, double share) {
  const auto starts = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; };
  const auto characters = std::count_if(text.begin(), text.end(), starts);
  auto left = static_cast<Index>(static_cast<double>(characters) * share);
  size_t at = 0;
  while (at < text.size() && (!starts(text[at]) || left-- > 0)) ++at;
  return at;
}

DataSet load_text(const Config& c) {
  constexpr std::uint64_t kMost = std::uint64_t(1) << 32;
  const std::string path = data_path(c);
  io::TextFiles files(path);
  require(files.size() <= kMost, Exit::data, path, ": ", files.size(), " bytes of text, at most ", kMost,
          " are tokenized at the start: use `varion data convert` and data.name=tokens");
  std::string all;
  all.reserve(static_cast<size_t>(files.size()));
  while (files.next(size_t(1) << 30, all)) {
  }
  const size_t cut = cut_at(all, 1 - c.real("data.val_share"));
  const std::string_view whole = all;
  const Index length = c.integer("data.length");
  DataSet d;
  d.name = "text";
  size_t before = 0;  // bytes before what is encoded
  try {
    d.tokenizer = tokenizer_for(c.text("data.tokenizer"), whole, below_root(c, c.text("data.vocab")));
    d.train = windows_of(tokens_in_memory(d.tokenizer->encode(whole.substr(0, cut))), length, path + " (training part)");
    before = cut;
    d.test = windows_of(tokens_in_memory(d.tokenizer->encode(whole.substr(cut))), length, path + " (the last data.val_share)");
  } catch (const TextError& e) {
    fail(e.code(), files.place(before + e.byte), " ", e.reason);
  }
  d.vocabulary = d.classes = d.tokenizer->size();
  return d;
}

using T = OptionSpec::Type;
const bool registered =
    add_options("text", {{"data.path", T::text, "", "UTF-8 file, or folder of .txt files, which are joined in the order of their names"},
                         {"data.length", T::integer, "64", "tokens of a window", {}, 1, 1e6},
                         {"data.tokenizer", T::choice, "chars", "what makes tokens of text", {"chars", "gpt2", "bytes"}},
                         {"data.vocab", T::text, "", "gpt2: folder of encoder.json and vocab.bpe; chars: a posterior file, whose alphabet is taken"},
                         {"data.val_share", T::real, "0.1", "share of the characters, at the end, that is the test set", {}, 0.0001, 0.9}}) &&
    DataSets::of().add("text", {"a text file or folder, tokenized at the start", load_text});
}  // namespace

}  // namespace varion
