#include "io/process_memory.hpp"

#include <cstdlib>
#include <fstream>
#include <string>

namespace varion::io {

double resident_peak() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);)
    if (line.rfind("VmHWM:", 0) == 0) return 1024 * std::strtod(line.c_str() + 6, nullptr);
  return 0;
}

void reset_resident_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

}  // namespace varion::io
