// Data sets: what they hold; text to files of tokens and back.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "app/command.hpp"
#include "core/error.hpp"
#include "data/dataset.hpp"
#include "data/tokenizer.hpp"
#include "io/text_files.hpp"
#include "io/token_files.hpp"

namespace varion {

namespace {
constexpr const char* kDataUsage =
    "data info|check [FILE.ini] [data.name=NAME ...] | "
    "convert TEXT OUT.bin [--tokenizer=gpt2|chars|bytes] [--vocab=FOLDER|FILE.tokenizer] [--format=nanogpt|llmc] "
    "[--shard-tokens=N] [--end-of-text] [--force] | decode TOKENS OUT.txt [--vocab=FOLDER|FILE.tokenizer] [--force]";

/// How far a long work is: a bar on a terminal, else a line every half a minute.
class Progress {
 public:
  explicit Progress(std::uint64_t total) : total_(total) {}
  ~Progress() { clear(); }
  /// Takes the bar away.
  void clear() {
    if (drawn_) std::fprintf(stderr, "\r%70s\r", "");
    drawn_ = false;
  }
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  void at(std::uint64_t done) {
    const bool terminal = ::isatty(2) != 0;
    if (is_quiet() || seconds() - told_ < (terminal ? 0.2 : 30)) return;
    told_ = seconds();
    const double share = static_cast<double>(done) / static_cast<double>(total_), mega = static_cast<double>(done) / 1e6;
    const std::string bar = terminal ? "[" + std::string(static_cast<size_t>(20 * share), '#') + std::string(20 - static_cast<size_t>(20 * share), '.') + "] " : "";
    std::fprintf(stderr, "%s%s%3.0f %%, %.0f MB, %.1f MB/s%s", terminal ? "\r" : "", bar.c_str(), 100 * share, mega, mega / told_,
                 terminal ? "  " : "\n");
    drawn_ = terminal;
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::uint64_t total_;
  Clock::time_point start_ = Clock::now();
  double told_ = 0;
  bool drawn_ = false;
};

/// Every token once, so that one that is not below the vocabulary's size is found.
void read_all(const Examples& e) {
  std::vector<std::int32_t> buffer(size_t(1) << 20);
  const Index size = e.tokens ? e.tokens->size() : 0;
  for (Index at = 0; at < size; at += static_cast<Index>(buffer.size()))
    e.tokens->read(at, std::min(static_cast<Index>(buffer.size()), size - at), buffer.data());
}

int describe(Arguments a, bool check) {
  a.words.erase(a.words.begin());
  const DataSet d = load_data(make_config(a));
  std::printf("%s: %lld training, %lld test, %lld shifted examples of %s, %lld classes, digest %016llx\n",
              d.name.c_str(), static_cast<long long>(d.train.count), static_cast<long long>(d.test.count),
              static_cast<long long>(d.shifted.count), d.train.example.text().c_str(),
              static_cast<long long>(d.classes), static_cast<unsigned long long>(d.digest));
  if (!d.train.tokens) return 0;
  const std::string tokenizer = d.tokenizer ? d.tokenizer->describe() : "none";
  std::printf("%lld training, %lld test tokens, tokenizer %s\n", static_cast<long long>(d.train.tokens->size()),
              static_cast<long long>(d.test.tokens->size()), tokenizer.substr(0, tokenizer.find(':')).c_str());
  if (check)
    for (const Examples* e : {&d.train, &d.validation, &d.test}) read_all(*e);
  return 0;
}

/// `path` without its .bin.
std::string stem_of(const std::string& path) {
  return path.size() > 4 && path.compare(path.size() - 4, 4, ".bin") == 0 ? path.substr(0, path.size() - 4) : path;
}

/// With `separate` the token of a text's end stands before every file, and no word goes from one to the next.
int convert(const Arguments& a, bool force, bool separate) {
  const std::string format = a.flag("format", "nanogpt"), vocabulary = a.flag("vocab", ""), out = a.words[2];
  require(format == "nanogpt" || format == "llmc", Exit::usage, "--format must be nanogpt or llmc");
  const auto shard = parse_real(a.flag("shard-tokens", "0"));
  require(shard && *shard >= 0 && *shard <= 2147483647 && *shard == std::floor(*shard), Exit::usage,
          "--shard-tokens must be a whole number up to 2147483647");
  io::TextFiles files(a.words[1]);
  const auto described = place_for(stem_of(out) + ".tokenizer", force, a.words[1]);
  place_for(stem_of(out) + ".bin", true, a.words[1]);  // whether it is there the writer sees, and of shards
  io::TokenWriter writer(out, format == "llmc" ? io::TokenFormat::llmc : io::TokenFormat::nanogpt, static_cast<Index>(*shard), force);
  constexpr size_t kPiece = size_t(4) << 20;
  std::uint64_t before = 0;  // bytes before what is encoded
  std::string rest;
  std::vector<std::int32_t> tokens;
  Progress progress(files.size());
  try {
    std::error_code none;
    std::shared_ptr<const Tokenizer> tokenizer;
    if (std::filesystem::is_regular_file(vocabulary, none)) {
      require(a.flag("tokenizer", "").empty(), Exit::usage, "--vocab=", vocabulary, " says which tokenizer: leave out --tokenizer");
      tokenizer = tokenizer_of_files(vocabulary);
    } else {
      std::string piece;
      const TextPieces pieces = [&]() -> std::string_view {
        piece.clear();
        return files.next(kPiece, piece) ? std::string_view(piece) : std::string_view();
      };
      tokenizer = tokenizer_for(a.flag("tokenizer", "gpt2"), pieces, vocabulary);
      files.rewind();
    }
    const std::int32_t end = tokenizer->end_of_text();
    require(!separate || end >= 0, Exit::usage, "--end-of-text: the tokenizer ", tokenizer->describe().substr(0, tokenizer->describe().find(':')),
            " has no token <|endoftext|>: leave it out, or take gpt2's");
    const auto finish_text = [&] {
      tokens = tokenizer->encode(rest);
      writer.write(tokens.data(), tokens.size());
      before += rest.size();
      rest.clear();
    };
    for (;;) {
      const bool begins = separate && files.at_border();
      if (begins) finish_text();
      if (!files.next(std::max(kPiece, rest.size()), rest)) break;  // `rest` grows only within one word
      if (begins) writer.write(&end, 1);
      tokens.clear();
      const size_t taken = tokenizer->encode_front(rest, tokens);
      writer.write(tokens.data(), tokens.size());
      rest.erase(0, taken);
      before += taken;
      progress.at(before);
    }
    finish_text();
    writer.finish();
    io::commit_file(described.first, described.second, tokenizer->describe() + "\n");
  } catch (const TextError& e) {
    fail(e.code(), files.place(before + e.byte), " ", e.reason);
  }
  progress.clear();
  if (!is_quiet())
    std::printf("%s.bin: %lld tokens in %zu file%s, from %.1f MB of text in %.1f s; the tokenizer is in %s/%s\n", (stem_of(out) + (*shard > 0 ? "_*" : "")).c_str(),
                static_cast<long long>(writer.written()), writer.count_files(), writer.count_files() == 1 ? "" : "s",
                static_cast<double>(files.size()) / 1e6, progress.seconds(), described.first.c_str(), described.second.c_str());
  return 0;
}

int decode(const Arguments& a, bool force) {
  const io::TokenFiles files(a.words[1]);
  const std::string beside = stem_of(a.words[1]) + ".tokenizer";
  const auto tokenizer = tokenizer_of_files(a.flag("vocab", beside));
  require(tokenizer != nullptr, Exit::usage, "--vocab must name gpt2's folder or a .tokenizer file");
  const auto [dir, name] = place_for(a.words[2], force, a.words[1]);
  io::PendingFile out(dir, name, 0);
  std::vector<std::uint16_t> buffer(size_t(1) << 20);
  std::uint64_t address = 0;
  Progress progress(2 * static_cast<std::uint64_t>(files.size()));
  for (Index at = 0; at < files.size(); at += static_cast<Index>(buffer.size())) {
    buffer.resize(static_cast<size_t>(std::min(static_cast<Index>(buffer.size()), files.size() - at)));
    files.read(at, static_cast<Index>(buffer.size()), buffer.data());
    for (size_t i = 0; i < buffer.size(); ++i)
      require(buffer[i] < tokenizer->size(), Exit::data, files.place(at + static_cast<Index>(i)), " is ", buffer[i],
              ", not below the vocabulary's size, ", tokenizer->size());
    const std::vector<std::int32_t> tokens(buffer.begin(), buffer.end());
    const std::string bytes = tokenizer->decode(tokens.data(), static_cast<Index>(tokens.size()));
    out.write(address, bytes.data(), bytes.size());
    address += bytes.size();
    progress.at(2 * static_cast<std::uint64_t>(at));
  }
  out.commit();
  return 0;
}
}  // namespace

int data_command(const std::vector<std::string>& words) {
  auto [plain, force] = without_force(words);
  const bool separate = std::count(plain.begin(), plain.end(), "--end-of-text") > 0;
  plain.erase(std::remove(plain.begin(), plain.end(), "--end-of-text"), plain.end());
  const Arguments a = parse_arguments(plain, {"tokenizer", "vocab", "format", "shard-tokens"});
  const std::string verb = a.words.empty() ? "" : a.words[0];
  const bool shows = verb == "info" || verb == "check";
  require((shows && a.flags.empty() && !force && !separate) ||
              ((verb == "convert" || (verb == "decode" && !separate)) && a.words.size() == 3 && a.settings.empty()),
          Exit::usage, "use: ", kDataUsage);
  if (shows) return describe(a, verb == "check");
  return verb == "convert" ? convert(a, force, separate) : decode(a, force);
}

namespace {
const bool registered_data = Commands::of().add(
    "data", {"a data set's size and digest; text to files of tokens and back", kDataUsage, false, data_command});
}  // namespace

}  // namespace varion
