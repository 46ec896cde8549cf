#include "train/ranks.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "backends/backend.hpp"
#include "core/error.hpp"

namespace varion {

std::string host_name() {
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  return host;
}

namespace {
/// The processors this process may run on, as "0-3,8".
std::string processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return "?";
  std::string out;
  for (int first = 0; first < CPU_SETSIZE; ++first) {
    if (!CPU_ISSET(first, &set)) continue;
    int last = first;
    while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, &set)) ++last;
    out += text(out.empty() ? "" : ",", first, last > first ? text("-", last) : "");
    first = last;
  }
  return out;
}

std::string fact(const std::string& key) {
  for (const auto& [name, value] : backend::device_facts())
    if (name == key) return value;
  return "";
}
}  // namespace

void require_alike(const Comm& comm, const std::vector<std::pair<std::string, std::string>>& fields) {
  for (const auto& [name, value] : fields) {
    const std::vector<std::string> all = comm.gather(value);
    for (size_t rank = 1; rank < all.size(); ++rank)
      require(all[rank] == all[0], Exit::config, "rank ", rank, " has another ", name, " than rank 0",
              value.size() < 200 ? text(": ", all[rank], " instead of ", all[0]) : "",
              "; all ranks must start the same program on the same files");
  }
}

std::vector<std::string> rank_map(const Comm& comm, bool may_share) {
  const std::vector<std::string> hosts = comm.gather(host_name()), devices = comm.gather(fact("device")),
                                 uuids = comm.gather(fact("uuid")), pcis = comm.gather(fact("pci")),
                                 cpus = comm.gather(processors()), threads = comm.gather(fact("threads"));
  std::vector<std::string> lines;
  std::map<std::string, size_t> gpu_of, cpus_of;
  bool shares = false;
  for (size_t r = 0; r < hosts.size(); ++r) {
    lines.push_back(text("rank ", r, "  ", hosts[r], "  ", devices[r], uuids[r].empty() ? "" : "  " + uuids[r] + "  " + pcis[r],
                         threads[r].empty() ? "" : "  " + threads[r] + " threads", "  processors ", cpus[r]));
    if (!uuids[r].empty()) {
      const auto [other, fresh] = gpu_of.emplace(hosts[r] + uuids[r], r);
      require(fresh || may_share, Exit::environment, "ranks ", other->second, " and ", r, " use the same GPU ", uuids[r],
              ": start as many ranks as GPUs, or set parallel.share_devices=true");
    }
    shares = shares || (uuids[r].empty() && !cpus_of.emplace(hosts[r] + " " + cpus[r], r).second);
  }
  if (std::any_of(threads.begin(), threads.end(), [&](const std::string& t) { return t != threads[0]; }))
    lines.push_back("note: ranks have different numbers of threads: products of BLAS and oneDNN, and with them the bits of the run, depend "
                    "on who computes what; set one OMP_NUM_THREADS for all");
  if (shares)
    lines.push_back("note: ranks share processors; bind them (mpirun --map-by socket:PE=THREADS --bind-to core) with "
                    "OMP_NUM_THREADS=THREADS each");
  return lines;
}

}  // namespace varion
