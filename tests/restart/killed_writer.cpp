// K2: a process that does nothing but save checkpoints is killed again and again; what it said it had saved is there.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>

#include "core/error.hpp"
#include "core/random.hpp"
#include "io/commit_file.hpp"
#include "io/posterior_file.hpp"
#include "support/catch.hpp"
#include "support/tier.hpp"

using namespace varion;

namespace {
io::PosteriorFile generation(long step) {
  io::PosteriorFile p;
  p.tensors = {{"fc.weight", {40, 50}, 0, 2000}};
  p.mean.assign(2000, static_cast<float>(step % 1000));
  p.states = {{"hess", std::vector<float>(2000, 1.f)}};
  p.optimizer = "ivon";
  p.step = step;
  return p;
}
}  // namespace

TEST_CASE("K2: kill -9 of a writer loses nothing") {
  const int kills = by_tier(500, 10000, 100000);
  const std::string dir = "killed-writer";
  std::filesystem::remove_all(dir);
  io::make_folder(dir);
  auto* saved = static_cast<std::atomic<long>*>(
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  REQUIRE(static_cast<void*>(saved) != MAP_FAILED);
  std::atomic<long>* begun = saved + 1;
  saved->store(0);
  const auto begin = std::chrono::steady_clock::now();
  for (int k = 0; k < 10; ++k) io::save_posterior(dir, "step-0000000000.h5", generation(0));
  const double one = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / 10;
  // Up to six saves and the first, slower one, uniformly.
  const auto longest = static_cast<std::uint32_t>(1e6 * 7 * one) + 1000;
  const auto key = RandomKey::make(11, Stream::test, 0);
  long lost = 0, unreadable = 0, leftovers = 0, interrupted = 0;
  for (int kill_number = 0; kill_number < kills; ++kill_number) {
    const pid_t writer = ::fork();
    REQUIRE(writer >= 0);
    if (writer == 0) {
      io::remove_leftovers(dir, false);
      begun->store(kill_number + 1);
      for (long step = saved->load() + 1;; ++step) {
        char name[32];
        std::snprintf(name, sizeof name, "step-%010ld.h5", step);
        io::save_posterior(dir, name, generation(step));
        saved->store(step);
        io::prune_checkpoints(dir, 2);
      }
    }
    while (begun->load() != kill_number + 1) ::usleep(50);
    ::usleep(below(key.words(kill_number).w[0], longest));
    ::kill(writer, SIGKILL);
    int status = 0;
    ::waitpid(writer, &status, 0);
    std::vector<std::string> refused;
    const io::Checkpoint newest = io::newest_checkpoint(dir, refused);
    unreadable += static_cast<long>(refused.size());
    long temporary = 0;
    for (const std::string& name : io::list_files(dir)) temporary += name.find(".tmp") != std::string::npos;
    interrupted += temporary;
    leftovers = std::max(leftovers, temporary);
    if (saved->load() == 0) continue;  // killed before its first save
    if (newest.path.empty()) {
      ++lost;
      continue;
    }
    const io::PosteriorFile& p = newest.file;
    // The rename may have happened without the writer living to say so.
    lost += p.step < saved->load() || p.step > saved->load() + 1 || p.mean != generation(p.step).mean;
    saved->store(p.step);
  }
  CHECK(lost == 0);
  CHECK(unreadable == 0);
  CHECK(leftovers <= 1);     // each writer clears what the one before left
  CHECK(saved->load() > 50);
  CHECK(interrupted > 10);   // else the kills missed the saves
  ::munmap(saved, 4096);
}
