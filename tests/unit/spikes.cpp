// U9: the rule for leaps of loss and gradient norm, and its memory.
#include "train/spikes.hpp"

#include <cmath>
#include <limits>

#include "core/error.hpp"
#include "core/random.hpp"
#include "support/catch.hpp"

using namespace varion;

namespace {
/// Standard normal number i of a stream.
double normal(std::uint64_t stream, Index i) {
  const Words4 w = RandomKey::make(9, Stream::test, stream).words(i);
  Real a, b;
  normal_pair(w.w[0], w.w[1], a, b);
  return static_cast<double>(a);
}

/// A loss that falls as losses do, with noise that falls with it; and a gradient norm. (A norm with the longer tail of
/// exp(0.15 z) gives one alarm in a million steps.)
double clean_loss(Index i) { return (0.3 + 2 / (1 + 1e-3 * static_cast<double>(i))) * (1 + 0.1 * normal(1, i)); }
double clean_norm(Index i) { return 1 + 0.15 * normal(2, i); }

/// Mean and deviation of a window, in long double.
std::pair<double, double> moments(const std::vector<double>& v) {
  long double mean = 0, squares = 0;
  for (const double x : v) mean += static_cast<long double>(x);
  mean /= static_cast<long double>(v.size());
  for (const double x : v) squares += (static_cast<long double>(x) - mean) * (static_cast<long double>(x) - mean);
  return {static_cast<double>(mean), static_cast<double>(std::sqrt(squares / static_cast<long double>(v.size() - 1)))};
}
}  // namespace

TEST_CASE("U9: no alarm in a million clean steps, and every leap of 8 deviations or more") {
  const SpikeRule rule(8, 128, 10);
  SpikeMemory m;
  Index alarms = 0, found = 0, tried = 0, early = 0;
  for (Index i = 0; i < 1000000; ++i) {
    if (i % 10000 == 9999) {  // a hundred leaps, by turns of the loss and of the norm, from 8 to 107 deviations of the window
      const bool of_loss = tried % 2 == 0;
      const auto window = moments(of_loss ? m.losses : m.norms);
      const auto at = [&](double sigmas) {
        SpikeMemory copy = m;
        const double value = window.first + sigmas * window.second;
        return !rule.judge(of_loss ? value : clean_loss(i), of_loss ? clean_norm(i) : value, copy).empty();
      };
      found += at(8 + static_cast<double>(tried) + 1e-9);
      early += at(7.999);
      ++tried;
    }
    alarms += !rule.judge(clean_loss(i), clean_norm(i), m).empty();
  }
  CHECK(alarms == 0);
  CHECK(tried == 100);
  CHECK(found == 100);
  CHECK(early == 0);
}

TEST_CASE("what is not finite is a spike from the first step on, and no spike enters the window") {
  const SpikeRule rule(8, 8, 10);
  SpikeMemory m;
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  CHECK(rule.judge(nan, 1, m).find("loss nan is not finite") == 0);
  CHECK(rule.judge(1, -inf, m).find("gradient norm -inf is not finite") == 0);
  CHECK(m.losses.empty());
  for (int i = 0; i < 8; ++i) CHECK(rule.judge(i == 3 ? 1e9 : 1, 1, m).empty());  // nothing leaps before the window is full
  for (int i = 0; i < 20; ++i) CHECK(rule.judge(1, 1, m).empty());
  CHECK(!rule.judge(1.0081, 1, m).empty());  // equal numbers: a thousandth of them counts as a deviation
  CHECK(rule.judge(1.0079, 1, m).empty());
  CHECK(rule.judge(0.1, 0.1, m).empty());  // downwards is no leap
  CHECK(m.losses.size() == 8);
}

TEST_CASE("spikes are counted in a window of steps") {
  const SpikeRule rule(8, 10, 2);
  SpikeMemory m;
  CHECK(!rule.add(5, "a", m));
  CHECK(!rule.add(9, "b", m));
  CHECK(rule.add(14, "c", m));   // 5 .. 14
  CHECK(rule.add(18, "d", m));   // 9 .. 18
  CHECK(!rule.add(30, "e", m));  // alone again
  CHECK(m.spikes.count(5) == 0);
}

TEST_CASE("the memory goes through a file's attributes and back to the same decisions; others are refused") {
  const SpikeRule rule(4, 16, 10);
  SpikeMemory m;
  for (Index i = 0; i < 40; ++i) rule.judge(clean_loss(i) * 1e-7, clean_norm(i), m);
  m.spikes[7] = "loss nan is not finite, the first in gradient of a.b[3]";
  m.spikes[(1ull << 52)] = "x";
  m.skipped = 3;
  std::map<std::string, std::string> train;
  write_spikes(m, train);
  const SpikeMemory back = read_spikes(train, "f.h5");
  CHECK(back.losses == m.losses);
  CHECK(back.norms == m.norms);
  CHECK(back.spikes == m.spikes);
  CHECK(back.skipped == 3);
  const SpikeMemory none = read_spikes({}, "f.h5");  // a checkpoint from before there was a policy
  CHECK((none.losses.empty() && none.spikes.empty() && none.skipped == 0));
  const std::pair<const char*, const char*> bad[] = {{"spike_window", "1\n"}, {"spike_window", "1 nan\n"}, {"spike_window", "1 2 3\n"},
      {"spikes", "x cause\n"}, {"spikes", "-1 cause\n"}, {"spikes", "\n"}, {"skipped", "1.5"}, {"skipped", "9e15"}, {"skipped", "-1"}};
  for (const auto& [key, value] : bad) {
    INFO(key << " " << value);
    try {
      read_spikes({{key, value}}, "f.h5");
      FAIL("accepted");
    } catch (const Error& e) {
      CHECK(e.code() == Exit::data);
      CHECK(std::string(e.what()).find(std::string("f.h5: train/") + key) == 0);
    }
  }
}
