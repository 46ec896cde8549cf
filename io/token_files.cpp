#include "io/token_files.hpp"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>

namespace varion::io {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tokens are read and written as they lie in memory");

namespace {
// A nanoGPT file that began with the same bytes would begin with token 55496 (or 56033), which GPT-2 does not have.
constexpr std::int32_t kTokens16 = 20240520, kTokens32 = 20240801;
constexpr std::uint64_t kHeader = 256 * sizeof(std::int32_t);
constexpr int kMostOpen = 64;

std::string folder_of(const std::string& path) {
  const std::string dir = std::filesystem::path(path).parent_path().string();
  return dir.empty() ? "." : dir;
}

bool ends_in_bin(const std::string& name) { return name.size() > 4 && name.compare(name.size() - 4, 4, ".bin") == 0; }

/// The files that `path` means.
std::vector<std::string> files_of(const std::string& path) {
  std::error_code none;
  const std::string name = std::filesystem::path(path).filename().string();
  const bool folder = std::filesystem::is_directory(path, none);
  if (!folder && (name.find('*') == std::string::npos || std::filesystem::exists(path, none))) return {path};
  std::vector<std::string> out;
  const std::string dir = folder ? path : folder_of(path);
  for (const std::string& file : list_files(dir))
    if (file[0] != '.' && (folder ? ends_in_bin(file) : ::fnmatch(name.c_str(), file.c_str(), 0) == 0)) out.push_back(dir + "/" + file);
  require(!out.empty(), Exit::no_input, folder ? "folder '" : "'", path, folder ? "' holds no .bin files" : "' fits no file",
          ": `varion data convert` makes them of text");
  return out;
}
}  // namespace

TokenFiles::TokenFiles(const std::string& path) {
  for (const std::string& file : files_of(path)) add(file);
  open_.resize(files_.size());
}

void TokenFiles::add(const std::string& path) {
  const InputFile in(path, ~std::uint64_t(0));
  File f{path, in.size(), 0, files_.empty() ? 0 : size(), 0};
  const auto refuse = [&](const std::string& reason) { fail(Exit::data, path, ": ", reason, ": make it again with `varion data convert`"); };
  std::array<std::int32_t, 3> head{};  // magic, version, count
  in.read(0, reinterpret_cast<char*>(head.data()), static_cast<size_t>(std::min<std::uint64_t>(sizeof head, f.bytes)));
  if (head[0] == kTokens32) refuse("a file of llm.c with 32-bit tokens, only those of 16 bits are read");
  if (head[0] == kTokens16) {
    f.header = kHeader;
    if (f.bytes < kHeader) refuse(text("it ends inside llm.c's header, after ", f.bytes, " of ", kHeader, " bytes"));
    if (head[1] != 1) refuse(text("version ", head[1], " of llm.c's format, only 1 is read"));
    f.count = head[2];
    if (f.count < 0 || f.bytes != kHeader + 2 * static_cast<std::uint64_t>(f.count))
      refuse(text("its header says ", f.count, " tokens, ", f.bytes - kHeader, " bytes of tokens follow"));
  } else {
    if (f.bytes % 2 != 0) refuse(text(f.bytes, " bytes, an odd number, are no 16-bit tokens"));
    f.count = static_cast<std::int64_t>(f.bytes / 2);
  }
  if (f.count == 0) refuse("it holds no tokens");
  files_.push_back(f);
}

const InputFile& TokenFiles::open(size_t file) const {
  if (!open_[file]) {
    if (open_count_ == kMostOpen) {
      for (auto& f : open_) f.reset();
      open_count_ = 0;
    }
    auto in = std::make_unique<InputFile>(files_[file].path, ~std::uint64_t(0));
    require(in->size() == files_[file].bytes, Exit::data, files_[file].path, ": has changed: ", in->size(), " bytes, ",
            files_[file].bytes, " when it was first opened");
    open_[file] = std::move(in);
    ++open_count_;
  }
  return *open_[file];
}

size_t TokenFiles::file_of(std::int64_t token) const {
  const auto behind = std::upper_bound(files_.begin(), files_.end(), token, [](std::int64_t t, const File& f) { return t < f.first; });
  return static_cast<size_t>(behind - files_.begin()) - 1;
}

void TokenFiles::read(std::int64_t first, std::int64_t count, std::uint16_t* to) const {
  ensure(first >= 0 && count >= 0 && first + count <= size(), "tokens ", first, " .. ", first + count, " of ", size());
  while (count > 0) {
    const size_t at = file_of(first);
    const File& f = files_[at];
    const std::int64_t here = std::min(count, f.first + f.count - first);
    open(at).read(f.header + 2 * static_cast<std::uint64_t>(first - f.first), reinterpret_cast<char*>(to), 2 * static_cast<size_t>(here));
    first += here;
    count -= here;
    to += here;
  }
}

std::uint64_t TokenFiles::digest() const {
  std::uint64_t h = 1469598103934665603ull;  // FNV-1a over whole numbers
  const auto mix = [&](std::uint64_t word) { h = (h ^ word) * 1099511628211ull; };
  constexpr std::int64_t kEnd = 1 << 19, kBlock = 1 << 15, kBlocks = 8;  // tokens
  std::vector<std::uint16_t> buffer(static_cast<size_t>(std::min(kEnd, size())));
  for (const File& f : files_) {
    mix(static_cast<std::uint64_t>(f.count));
    const auto sample = [&](std::int64_t from, std::int64_t count) {
      read(f.first + from, count, buffer.data());
      for (std::int64_t i = 0; i < count; ++i) mix(buffer[static_cast<size_t>(i)]);
    };
    if (f.count <= 2 * kEnd + kBlocks * kBlock) {
      for (std::int64_t at = 0; at < f.count; at += kEnd) sample(at, std::min(kEnd, f.count - at));
      continue;
    }
    sample(0, kEnd);
    const std::int64_t between = f.count - 2 * kEnd;
    for (std::int64_t k = 0; k < kBlocks; ++k) sample(kEnd + (between - kBlock) / (kBlocks - 1) * k, kBlock);
    sample(f.count - kEnd, kEnd);
  }
  return h;
}

std::string TokenFiles::place(std::int64_t token) const {
  const File& f = files_[file_of(token)];
  return text(f.path, ": token ", token - f.first);
}

namespace {
std::string shard_name(const std::string& stem, size_t number) {
  std::string digits = std::to_string(number);
  digits.insert(0, digits.size() < 6 ? 6 - digits.size() : 0, '0');
  return stem + "_" + digits + ".bin";
}

/// Shards of an earlier writing, in the order of their names.
std::vector<std::string> shards_of(const std::string& dir, const std::string& stem) {
  std::vector<std::string> out;
  for (const std::string& name : list_files(dir)) {
    const bool fits = name.size() >= stem.size() + 11 && name.compare(0, stem.size() + 1, stem + "_") == 0 && ends_in_bin(name) &&
                      std::all_of(name.begin() + static_cast<long>(stem.size()) + 1, name.end() - 4, [](char c) { return c >= '0' && c <= '9'; });
    if (fits) out.push_back(name);
  }
  return out;
}
}  // namespace

TokenWriter::TokenWriter(const std::string& path, TokenFormat format, std::int64_t shard, bool force)
    : dir_(folder_of(path)), stem_(std::filesystem::path(path).filename().string()), format_(format), shard_(shard) {
  if (ends_in_bin(stem_)) stem_.resize(stem_.size() - 4);
  std::error_code none;
  std::vector<std::string> there = shard > 0 ? shards_of(dir_, stem_) : std::vector<std::string>{};
  if (shard == 0 && std::filesystem::exists(dir_ + "/" + stem_ + ".bin", none)) there.push_back(stem_ + ".bin");
  require(there.empty() || force, Exit::cant_create, "'", dir_, "/", there.empty() ? "" : there[0], "' is there: take another name, or --force");
  make_folder(dir_);
}

TokenWriter::~TokenWriter() {
  if (finished_) return;
  for (const std::string& name : done_) {
    std::error_code none;
    std::filesystem::remove(dir_ + "/" + name, none);
  }
}

void TokenWriter::write(const std::int32_t* tokens, size_t count) {
  constexpr size_t kBuffer = size_t(1) << 19;
  for (size_t i = 0; i < count; ++i) {
    require(tokens[i] >= 0 && tokens[i] < 65536, Exit::data, "token ", tokens[i], " does not fit 16 bits: files take no larger vocabulary");
    if (!file_) {
      require(done_.size() < 1000000, Exit::data, "more than a million shards: use a larger --shard-tokens");
      const std::string name = shard_ > 0 ? shard_name(stem_, done_.size()) : stem_ + ".bin";
      file_ = std::make_unique<PendingFile>(dir_, name, 0);
      address_ = format_ == TokenFormat::llmc ? kHeader : 0;
      in_file_ = 0;
    }
    buffer_.push_back(static_cast<std::uint16_t>(tokens[i]));
    ++written_;
    if (++in_file_ == shard_) close();
    else if (buffer_.size() == kBuffer) flush();
  }
}

void TokenWriter::flush() {
  file_->write(address_, reinterpret_cast<const char*>(buffer_.data()), 2 * buffer_.size());
  address_ += 2 * buffer_.size();
  buffer_.clear();
}

void TokenWriter::close() {
  flush();
  if (format_ == TokenFormat::llmc) {
    require(in_file_ <= 0x7fffffff, Exit::data, in_file_, " tokens are more than llm.c's header can count: use --shard-tokens");
    std::array<std::int32_t, 256> head{kTokens16, 1, static_cast<std::int32_t>(in_file_)};
    file_->write(0, reinterpret_cast<const char*>(head.data()), sizeof head);
  }
  file_->commit();
  file_.reset();
  done_.push_back(shard_ > 0 ? shard_name(stem_, done_.size()) : stem_ + ".bin");
}

void TokenWriter::finish() {
  require(written_ > 0, Exit::data, "the text is empty: there are no tokens to write");
  if (file_) close();
  finished_ = true;
  if (shard_ > 0)
    for (const std::string& name : shards_of(dir_, stem_))
      if (std::find(done_.begin(), done_.end(), name) == done_.end()) remove_file(dir_ + "/" + name);
}

}  // namespace varion::io
