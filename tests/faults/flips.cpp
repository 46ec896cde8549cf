// U8: one bit of a run's live state flips, silently. How many show by themselves, and whether doing the step again finds them all.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>

#include "backends/capture.hpp"
#include "core/error.hpp"
#include "support/catch.hpp"
#include "support/config.hpp"
#include "support/tier.hpp"
#include "train/checkpoint.hpp"
#include "train/spikes.hpp"
#include "train/state_hash.hpp"

using namespace varion;

namespace {
/// A small network in the middle of its training: its state, and a step from there.
struct Job {
  explicit Job(const std::string& optimizer)
      : config(config_of({{"data.name", "moons"}, {"model.sizes", "16"}, {"data.global_batch", "32"}, {"optim.name", optimizer}})) {
    data = load_data(config);
    resolve_ess(config, data);
    trainer = std::make_unique<Trainer>(layout, config, data, exec);
    for (std::uint64_t step = 1; step <= 40; ++step) {
      one(step);
      const StepNews news = trainer->news();
      rule.judge(news.loss, news.gradient_norm, memory);
    }
    for (const StateVector& s : trainer->optimizer().state()) saved.push_back(to_host(s.data));
  }
  void one(std::uint64_t step) { trainer->step(step, step * 32, 0.05, true, [] { return true; }); }
  void put_back() {
    const auto state = trainer->optimizer().state();
    for (size_t k = 0; k < state.size(); ++k)
      Kokkos::deep_copy(state[k].data, Kokkos::View<const float*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(saved[k].data(), saved[k].size()));
    trainer->optimizer().take_report(exec);
  }
  std::string hash(std::uint64_t step) const { return state_hash(exec, trainer->optimizer(), step, step * 32, 0, Comm()); }

  Config config;
  DataSet data;
  Exec exec;
  Layout layout;
  std::unique_ptr<Trainer> trainer;
  SpikeRule rule{8, 32, 10};
  SpikeMemory memory;
  std::vector<std::vector<float>> saved;
};

const char* class_of(int bit) { return bit == 31 ? "sign" : bit >= 27 ? "exponent, upper 4" : bit >= 23 ? "exponent, lower 4" : bit >= 11 ? "mantissa, upper 12" : "mantissa, lower 11"; }

struct Share {
  int tried = 0, loud = 0, differs = 0, found = 0, healed = 0;
};
}  // namespace

TEST_CASE("U8: flips of one bit of the state: seen at once, found by the replay, or without a trace") {
  const int flips = by_tier(500, 5000, 5000);
  constexpr std::uint64_t begin = 41, flipped = 42, end = 44;  // hashes are recorded after step 40 and step 44
  int missed = 0;
  for (const std::string optimizer : {"ivon", "adamw"}) {
    Job job(optimizer);
    const std::string start = job.hash(begin - 1);
    for (std::uint64_t step = begin; step <= end; ++step) job.one(step);
    const std::string sound = job.hash(end);
    job.put_back();
    REQUIRE(job.hash(begin - 1) == start);
    std::map<std::string, Share> shares;
    const RandomKey key = RandomKey::make(12, Stream::test, 1);
    const auto state = job.trainer->optimizer().state();
    for (Index k = 0; k < flips; ++k) {
      job.put_back();
      SpikeMemory memory = job.memory;
      const Words4 w = key.words(k);
      const size_t which = below(w.w[0], static_cast<std::uint32_t>(state.size()));
      const size_t at = below(w.w[1], static_cast<std::uint32_t>(job.layout.size()));
      const int bit = static_cast<int>(below(w.w[2], 32));
      bool loud = false;
      for (std::uint64_t step = begin; step <= end; ++step) {
        if (step == flipped) {
          const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), state[which].data);
          std::uint32_t bits;
          std::memcpy(&bits, &host(at), sizeof bits);
          bits ^= 1u << bit;
          std::memcpy(&host(at), &bits, sizeof bits);
          Kokkos::deep_copy(state[which].data, host);
        }
        job.one(step);
        const StepNews news = job.trainer->news();
        loud = loud || news.report.nonfinite > 0 || news.report.nonpositive > 0 || !job.rule.judge(news.loss, news.gradient_norm, memory).empty();
      }
      // What the flipped run has recorded, and the bits themselves; then the replay from step 40.
      const std::string recorded = job.hash(end);
      std::vector<std::vector<float>> after;
      for (const StateVector& s : state) after.push_back(to_host(s.data));
      job.put_back();
      for (std::uint64_t step = begin; step <= end; ++step) job.one(step);
      bool differs = false;
      for (size_t v = 0; v < state.size(); ++v) differs = differs || std::memcmp(after[v].data(), to_host(state[v].data).data(), after[v].size() * 4) != 0;
      const bool found = job.hash(end) != recorded;
      REQUIRE(job.hash(end) == sound);
      for (const std::string& title : {optimizer + " " + state[which].name, optimizer + " " + class_of(bit)}) {
        Share& s = shares[title];
        ++s.tried;
        s.loud += loud;
        s.differs += differs;
        s.found += found;
        s.healed += !differs;
      }
      missed += differs != found;
    }
    for (const auto& [title, s] : shares)
      std::printf("U8: %-28s %5d flips  %5.1f %% seen by the run itself  %5.1f %% changed the state, of these %d of %d found by the replay  %d left no trace\n",
                  title.c_str(), s.tried, 100.0 * s.loud / s.tried, 100.0 * s.differs / s.tried, s.found, s.differs, s.healed);
  }
  CHECK(missed == 0);
}
