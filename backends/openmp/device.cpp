// The host as a device.
#include <fstream>
#include <thread>

#include "backends/backend.hpp"
#include "core/error.hpp"
#include "core/huge_pages.hpp"

namespace varion::backend {

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

bool rounds_factors() { return false; }
bool mpi_knows_device_memory() { return false; }
std::string missing_device() { return ""; }

std::vector<std::string> devices() {
  if (!Kokkos::is_initialized())
    return {text(Exec::name(), ", ", cpu_fact("model name"), ", ", std::thread::hardware_concurrency(), " hardware threads")};
  return {text(Exec::name(), ", concurrency ", Exec().concurrency())};
}

std::shared_ptr<float> host_words(size_t words) {
  std::shared_ptr<float> memory(new float[words], [](const float* p) { delete[] p; });
  wish_huge_pages(memory.get(), words * sizeof(float));
  return memory;
}

void Mark::set(const Exec&) {}
void Mark::wait() const {}

std::vector<std::pair<std::string, std::string>> device_facts() {
  return {{"back_end", Exec::name()},
          {"device", cpu_fact("model name")},
          {"clock_mhz", cpu_fact("cpu MHz")},
          {"threads", text(Exec().concurrency())}};
}

}  // namespace varion::backend
