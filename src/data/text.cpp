// `text`: a UTF-8 file or a folder of .txt files, tokenized in memory. `passages`: a folder of them, each of which is a class.
#include <algorithm>

#include "core/error.hpp"
#include "data/token_stream.hpp"
#include "data/tokenizer.hpp"
#include "io/text_files.hpp"

namespace varion {

namespace {
/// Where the first `share` of the characters ends, as nanoGPT cuts. What is not UTF-8 counts byte for byte, but for those that
/// look like the later bytes of a character.
size_t cut_at(std::string_view text, double share) {
  const auto starts = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; };
  const auto characters = std::count_if(text.begin(), text.end(), starts);
  auto left = static_cast<Index>(static_cast<double>(characters) * share);
  size_t at = 0;
  while (at < text.size() && (!starts(text[at]) || left-- > 0)) ++at;
  return at;
}

/// All of the files. Errors (65): too much.
std::string joined(io::TextFiles& files, const std::string& path) {
  constexpr std::uint64_t kMost = std::uint64_t(1) << 32;
  require(files.size() <= kMost, Exit::data, path, ": ", files.size(), " bytes of text, at most ", kMost,
          " are tokenized at the start: use `varion data convert` and data.name=tokens");
  std::string all;
  all.reserve(static_cast<size_t>(files.size()));
  while (files.next(size_t(1) << 30, all)) {
  }
  return all;
}

DataSet load_text(const Config& c) {
  const std::string path = data_path(c);
  io::TextFiles files(path);
  const std::string all = joined(files, path);
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

/// Every file is a class, and the end of each is of the test set.
DataSet load_passages(const Config& c) {
  const std::string path = data_path(c);
  io::TextFiles files(path);
  require(files.paths().size() > 1, Exit::data, path, ": passages need a folder of two .txt files or more, each of which is a class");
  const std::string all = joined(files, path);
  DataSet d;
  d.name = "passages";
  std::vector<std::vector<std::int32_t>> train, test;
  std::vector<std::string> train_names, test_names;
  size_t before = 0;  // bytes before what is encoded
  try {
    d.tokenizer = tokenizer_for(c.text("data.tokenizer"), std::string_view(all), below_root(c, c.text("data.vocab")));
    for (size_t k = 0; k < files.paths().size(); ++k) {
      const std::string_view of = std::string_view(all).substr(before, static_cast<size_t>(files.sizes()[k]));
      const size_t cut = cut_at(of, 1 - c.real("data.val_share"));
      train.push_back(d.tokenizer->encode(of.substr(0, cut)));
      before += cut;
      test.push_back(d.tokenizer->encode(of.substr(cut)));
      before += of.size() - cut;
      train_names.push_back(files.paths()[k] + " (training part)");
      test_names.push_back(files.paths()[k] + " (the last data.val_share)");
    }
  } catch (const TextError& e) {
    fail(e.code(), files.place(before + e.byte), " ", e.reason);
  }
  d.train = passages_of(train, c.integer("data.length"), train_names);
  d.test = passages_of(test, c.integer("data.length"), test_names);
  d.vocabulary = d.tokenizer->size();
  d.classes = static_cast<Index>(train.size());
  return d;
}

using T = OptionSpec::Type;
std::vector<OptionSpec> options(const std::string& path_help, const std::string& share_help) {
  return {{"data.path", T::text, "", path_help},
          {"data.length", T::integer, "64", "tokens of a window", {}, 1, 1e6},
          {"data.tokenizer", T::choice, "chars", "what makes tokens of text", {"chars", "gpt2", "bytes"}},
          {"data.vocab", T::text, "", "gpt2: folder of encoder.json and vocab.bpe; chars: a posterior file, whose alphabet is taken"},
          {"data.val_share", T::real, "0.1", share_help, {}, 0.0001, 0.9}};
}
const bool registered_text =
    add_options("text", options("UTF-8 file, or folder of .txt files, which are joined in the order of their names",
                                "share of the characters, at the end, that is the test set")) &&
    add_options("passages", options("folder of UTF-8 .txt files, each of which is a class, in the order of their names",
                                    "share of each file's characters, at its end, that is the test set")) &&
    DataSets::of().add("text", {"a text file or folder, tokenized at the start", load_text}) &&
    DataSets::of().add("passages", {"passages of text files, each of which is a class", load_passages});
}  // namespace

}  // namespace varion
