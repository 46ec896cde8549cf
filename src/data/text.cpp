// `text`: a UTF-8 file or a folder of .txt files, tokenized in memory.
#include <algorithm>
#include <filesystem>

#include "core/error.hpp"
#include "data/token_stream.hpp"
#include "data/tokenizer.hpp"
#include "io/commit_file.hpp"

namespace varion {

namespace {
/// All of it: text of many GiB is converted first, and read as `tokens`.
std::string read_text(const std::string& path) {
  constexpr size_t kMost = size_t(1) << 32;
  std::error_code none;
  if (!std::filesystem::is_directory(path, none)) return io::read_file(path, kMost);
  std::string all;
  bool found = false;
  for (const std::string& name : io::list_files(path, true)) {
    if (name.size() < 5 || name[0] == '.' || name.substr(name.size() - 4) != ".txt") continue;
    found = true;
    all += io::read_file(path + "/" + name, kMost - all.size());
  }
  require(found, Exit::no_input, "'", path, "' holds no .txt files");
  return all;
}

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
  const std::string path = data_path(c), all = read_text(path);
  const size_t cut = cut_at(all, 1 - c.real("data.val_share"));
  DataSet d;
  d.name = "text";
  try {
    d.tokenizer = tokenizer_for(c.text("data.tokenizer"), all, c.text("data.vocab"));
  } catch (const Error& e) {
    if (e.code() != Exit::data) throw;
    fail(e.code(), path, ": ", e.what());
  }
  d.vocabulary = d.classes = d.tokenizer->size();
  const Index length = c.integer("data.length");
  const std::string_view whole = all;
  d.train = windows_of(tokens_in_memory(d.tokenizer->encode(whole.substr(0, cut))), length, path + " (training part)");
  d.test = windows_of(tokens_in_memory(d.tokenizer->encode(whole.substr(cut))), length, path + " (the last data.val_share)");
  return d;
}

using T = OptionSpec::Type;
const bool registered =
    add_options("text", {{"data.path", T::text, "", "UTF-8 file, or folder of .txt files, which are joined in the order of their names"},
                         {"data.length", T::integer, "64", "tokens of a window", {}, 1, 1e6},
                         {"data.tokenizer", T::choice, "chars", "what makes tokens of text", {"chars", "gpt2", "bytes"}},
                         {"data.vocab", T::text, "", "gpt2: folder of encoder.json and vocab.bpe"},
                         {"data.val_share", T::real, "0.1", "share of the characters, at the end, that is the test set", {}, 0.0001, 0.9}}) &&
    DataSets::of().add("text", {"a text file or folder, tokenized at the start", load_text});
}  // namespace

}  // namespace varion
