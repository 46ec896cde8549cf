#include "backends/backend.hpp"

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "core/error.hpp"
#include "core/suggest.hpp"

namespace varion::backend {

void refuse_empty(const Conv& s) { ensure(s.n > 0, "convolution of an empty batch"); }
void refuse_empty(const Attention& s) { ensure(s.batch > 0 && s.length > 0 && s.heads > 0 && s.width > 0, "attention over nothing"); }
void refuse_empty(Index batch, Index m, Index n, Index k) { ensure(batch > 0 && m > 0 && n > 0 && k > 0, "GEMM of an empty matrix"); }

namespace {
using Ranked = std::pair<int, const Provider*>;
std::vector<Ranked>& table() {
  static std::vector<Ranked> all;
  return all;
}

const Provider* find(const std::string& name) {
  std::vector<std::string> names;
  for (const Provider* p : providers()) {
    if (p->name() == name) return p;
    names.push_back(p->name());
  }
  fail(Exit::config, "unknown provider '", name, "'", did_you_mean(name, names), "; this build has: ",
       join(names));
}

const Provider*& chosen() {
  static const Provider* current = [] {
    const char* wanted = std::getenv("VARION_PROVIDER");
    return wanted != nullptr && *wanted != '\0' ? find(wanted) : providers().back();
  }();
  return current;
}

Precision current_precision = Precision::fp32;
const char* const precision_names[] = {"fp32", "tf32", "bf16"};  // in the order of the type
}  // namespace

bool mpi_takes_device_memory(const std::string& choice) {
  const char* const cray = std::getenv("MPICH_GPU_SUPPORT_ENABLED");
  return choice == "on" || (choice == "auto" && (mpi_knows_device_memory() || (cray != nullptr && std::string(cray) == "1")));
}

Index Provider::attention_scratch(const Attention& s, bool backward) const { return portable().attention_scratch(s, backward); }
void Provider::attention_forward(const Exec& exec, const Attention& s, ConstVec qkv, Vec y, Vec log_sum, Vec scratch) const {
  portable().attention_forward(exec, s, qkv, y, log_sum, scratch);
}
void Provider::attention_backward(const Exec& exec, const Attention& s, ConstVec qkv, ConstVec y, ConstVec dy, ConstVec log_sum,
                                  bool add, Vec dqkv, Vec scratch) const {
  portable().attention_backward(exec, s, qkv, y, dy, log_sum, add, dqkv, scratch);
}

void Provider::gemm_bf16(const Exec&, bool, bool, Index, Index, Index, const Matrix&, const Matrix&, bool, const Matrix&) const {
  ensure(false, name(), " has no products in bfloat16");
}
void Provider::attention_forward_bf16(const Exec&, const Attention&, ConstBf16Vec, Bf16Vec, Vec) const {
  ensure(false, name(), " has no attention in bfloat16");
}
void Provider::attention_backward_bf16(const Exec&, const Attention&, ConstBf16Vec, ConstBf16Vec, ConstBf16Vec, ConstVec, bool, Bf16Vec, Vec) const {
  ensure(false, name(), " has no attention in bfloat16");
}

bool add_provider(int rank, const Provider& provider) {
  table().emplace_back(rank, &provider);
  std::sort(table().begin(), table().end(), [](const Ranked& a, const Ranked& b) { return a.first < b.first; });
  return true;
}

std::vector<const Provider*> providers() {
  std::vector<const Provider*> all{&portable()};
  for (const Ranked& r : table()) all.push_back(r.second);
  return all;
}

const Provider& provider() { return *chosen(); }

void multiply(const Exec& exec, bool ta, bool tb, Index m, Index n, Index k, const Matrix& a, const Matrix& b, bool add, const Matrix& c) {
  if (a.bf16 || b.bf16 || c.bf16) return provider().gemm_bf16(exec, ta, tb, m, n, k, a, b, add, c);
  ensure(a.pitch == (ta ? m : k) && b.pitch == (tb ? k : n) && c.pitch == n, "GEMM of matrices with gaps");
  const auto factor = [](const Matrix& f) { return ConstVec(static_cast<const Real*>(f.data), static_cast<size_t>(f.size)); };
  provider().gemm(exec, ta, tb, m, n, k, factor(a), factor(b), add, Vec(static_cast<Real*>(const_cast<void*>(c.data)), static_cast<size_t>(c.size)));
}

void use_provider(const std::string& name) { chosen() = find(name); }
void use_provider(const Provider& unlisted) { chosen() = &unlisted; }

Precision precision() { return current_precision; }
bool keeps_bf16() { return precision() == Precision::bf16 && provider().takes_bf16(); }
std::string precision_name() { return precision_names[static_cast<int>(current_precision)]; }

void use_precision(const std::string& name, const std::string& where) {
  require(name == "fp32" || rounds_factors(), Exit::config, where, " = ", name,
          ": only NVIDIA GPUs multiply so, this build computes with ", Exec::name(), ": take fp32");
  const auto* const found = std::find(std::begin(precision_names), std::end(precision_names), name);
  ensure(found != std::end(precision_names), "no precision is called ", name);
  current_precision = static_cast<Precision>(found - precision_names);
}

}  // namespace varion::backend
