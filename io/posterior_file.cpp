#include "io/posterior_file.hpp"

#include <unistd.h>

#include <random>

#include "core/error.hpp"
#include "io/apart.hpp"
#include "io/commit_file.hpp"
#include "io/posterior_image.hpp"
#include "io/posterior_plan.hpp"

namespace varion::io {

std::string new_uuid() {
  std::random_device source;
  std::string out;
  for (int i = 0; i < 32; ++i) {
    const unsigned r = source() & 15u;
    if (i == 8 || i == 12 || i == 16 || i == 20) out += '-';
    out += "0123456789abcdef"[i == 12 ? 4u : i == 16 ? (r & 3u) | 8u : r];
  }
  return out;
}

std::string encode_posterior(const PosteriorFile& p) {
  const FilePlan plan = plan_posterior(p);
  std::string bytes(static_cast<size_t>(plan.bytes), '\0');
  const auto segments = write_pieces(pieces_of(plan, whole_vectors(p)), [&](std::uint64_t at, const char* data, size_t n) {
    bytes.replace(static_cast<size_t>(at), n, data, n);
  });
  return bytes + trailer_of(segments);
}

PosteriorFile decode_posterior(const std::string& bytes, const std::string& name) {
  VerifiedImage image(bytes, name);
  return parse_posterior(image, name);
}

void save_posterior(const std::string& dir, const std::string& name, const PosteriorFile& p) {
  write_file(dir, name, plan_posterior(p), whole_vectors(p));
}

namespace {
/// HDF5 crashes on some files that somebody has made up, digests and all, or takes all memory or time there is (docs/formats.md): a
/// copy of this process reads it first.
PosteriorFile load(const std::string& path, Depth depth) {
  VerifiedImage image(path);
  const Trial trial = try_apart([&] { parse_posterior(image, path, Depth::trial); }, static_cast<unsigned>(2 + (image.size() >> 26)),
                                (std::uint64_t(1) << 28) + 2 * image.size());
  if (trial.error) throw *trial.error;
  require(trial.crash.empty(), Exit::data, path, ": HDF5 cannot read it (", trial.crash,
          "). Its digest is right, so it is not damaged: ask where it comes from");
  return parse_posterior(image, path, depth);
}
}  // namespace

PosteriorFile load_posterior(const std::string& path) { return load(path, Depth::everything); }
PosteriorFile load_attributes(const std::string& path) { return load(path, Depth::attributes); }

namespace {
/// Of a folder's own checkpoint, whose digests say that it is what this program wrote.
PosteriorFile load_own(const std::string& path, Depth depth) {
  VerifiedImage image(path);
  return parse_posterior(image, path, depth);
}

bool is_checkpoint(const std::string& name) {
  return name.rfind("step-", 0) == 0 && name.size() > 8 && name.substr(name.size() - 3) == ".h5";
}
}  // namespace

Checkpoint newest_checkpoint(const std::string& dir, std::vector<std::string>& refused) {
  std::vector<std::string> names = list_files(dir, true);
  Checkpoint best;
  for (auto name = names.rbegin(); name != names.rend(); ++name) {
    if (!is_checkpoint(*name)) continue;
    const std::string path = dir + "/" + *name;
    try {
      if (best.path.empty() || load_own(path, Depth::attributes).step > best.file.step) best = {path, load_own(path, Depth::everything)};
    } catch (const Error& e) {
      refused.push_back(e.what());
    }
  }
  return best;
}

std::string checkpoint_name(std::uint64_t step) {
  char name[40];
  std::snprintf(name, sizeof name, "step-%010llu.h5", static_cast<unsigned long long>(step));
  return name;
}

void prune_checkpoints(const std::string& dir, int keep, std::uint64_t last) {
  std::vector<std::string> names;
  for (const std::string& name : list_files(dir))
    if (is_checkpoint(name) && (last == ~std::uint64_t(0) || name <= checkpoint_name(last))) names.push_back(name);
  for (size_t i = 0; i + static_cast<size_t>(keep) < names.size(); ++i)
    ::unlink((dir + "/" + names[i]).c_str());
}

}  // namespace varion::io
