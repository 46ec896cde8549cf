#include "backends/backend.hpp"

#include <cstdlib>
#include <fstream>

#include "core/error.hpp"
#include "core/suggest.hpp"

namespace varion::backend {

void refuse_empty(const Conv& s) { ensure(s.n > 0, "convolution of an empty batch"); }

const std::vector<const Provider*>& providers() {
  static const std::vector<const Provider*> all = [] {
    std::vector<const Provider*> list{&portable()};
    if (kHostExec && host_blas() != nullptr) list.push_back(host_blas());
    if (kHostExec && onednn() != nullptr) list.push_back(onednn());
    return list;
  }();
  return all;
}

namespace {
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
}  // namespace

const Provider& provider() { return *chosen(); }
void use_provider(const std::string& name) { chosen() = find(name); }

std::vector<std::string> devices() {
  return {text(Exec::name(), ", concurrency ", Exec().concurrency())};
}

namespace {
/// The value after `key :` in /proc/cpuinfo; empty where there is none.
std::string cpu_fact(const std::string& key) {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(':');
    if (line.rfind(key, 0) == 0 && colon != std::string::npos && colon + 2 <= line.size()) return line.substr(colon + 2);
  }
  return "";
}
}  // namespace

std::vector<std::pair<std::string, std::string>> device_facts() {
  return {{"back_end", Exec::name()},
          {"device", cpu_fact("model name")},
          {"clock_mhz", cpu_fact("cpu MHz")},
          {"threads", text(Exec().concurrency())}};
}

}  // namespace varion::backend
