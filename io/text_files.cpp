#include "io/text_files.hpp"

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "core/error.hpp"
#include "io/commit_file.hpp"
#include "io/input_file.hpp"

namespace varion::io {

TextFiles::TextFiles(const std::string& path) {
  std::error_code none;
  if (std::filesystem::is_directory(path, none)) {
    for (const std::string& name : list_files(path, true))
      if (name.size() > 4 && name[0] != '.' && name.compare(name.size() - 4, 4, ".txt") == 0) paths_.push_back(path + "/" + name);
    require(!paths_.empty(), Exit::no_input, "folder '", path, "' holds no .txt files");
  } else {
    paths_.push_back(path);
  }
  for (const std::string& file : paths_) bytes_.push_back(InputFile(file, ~std::uint64_t(0)).size());
}

std::uint64_t TextFiles::size() const { return std::accumulate(bytes_.begin(), bytes_.end(), std::uint64_t(0)); }

bool TextFiles::next(size_t most, std::string& to) {
  for (; file_ < paths_.size() && at_ == bytes_[file_]; at_ = 0) ++file_;
  if (file_ == paths_.size()) return false;
  const InputFile in(paths_[file_], ~std::uint64_t(0));
  require(in.size() == bytes_[file_], Exit::data, paths_[file_], ": has changed: ", in.size(), " bytes, ", bytes_[file_],
          " when it was first opened");
  const size_t old = to.size(), count = static_cast<size_t>(std::min<std::uint64_t>(most, bytes_[file_] - at_));
  to.resize(old + count);
  in.read(at_, to.data() + old, count);
  at_ += count;
  return true;
}

std::string TextFiles::place(std::uint64_t byte) const {
  size_t file = 0;
  for (; file + 1 < paths_.size() && byte >= bytes_[file]; ++file) byte -= bytes_[file];
  return text(paths_[file], ": byte ", byte);
}

}  // namespace varion::io
