// Windows of a text, what a language model says of it, and decoding.
#include <cmath>
#include <set>

#include "core/error.hpp"
#include "support/catch.hpp"
#include "core/blocks.hpp"
#include "support/config.hpp"
#include "support/tokens.hpp"
#include "train/evaluator.hpp"
#include "train/text_sampler.hpp"

using namespace varion;
using Catch::Matchers::Contains;

namespace {
/// 0, 1, 2 ... modulo 1000: a token tells its place.
class Counting : public TokenStream {
 public:
  explicit Counting(Index size) : size_(size) {}
  Index size() const override { return size_; }
  void read(Index first, Index count, std::int32_t* to) const override {
    ensure(first >= 0 && first + count <= size_, "read past the end");
    for (Index i = 0; i < count; ++i) to[i] = static_cast<std::int32_t>((first + i) % 1000);
  }
  std::uint64_t digest() const override { return 0; }

 private:
  Index size_;
};

Examples counting(Index size, Index length) {
  Examples e;
  e.example = {length};
  e.count = (size - 1) / length;
  e.tokens = std::make_shared<Counting>(size);
  return e;
}

TokenBatch train(Windows& w, std::uint64_t first, Index batch, Index length, std::uint64_t seed = 1) {
  return take(batch * length, batch * length, [&](const IntVec& tokens, const IntVec& targets) { w.train(Exec(), seed, first, tokens, targets); });
}

Config small_gpt(const std::vector<std::pair<std::string, std::string>>& more = {}) {
  Config c = config_of({{"model.name", "gpt2"}, {"model.layers", "2"}, {"model.heads", "2"}, {"model.width", "16"},
                        {"data.name", "sentences"}, {"data.length", "12"}, {"data.train_size", "40"}, {"data.test_size", "9"},
                        {"data.global_batch", "4"}});
  for (const auto& [key, value] : more) c.set(key, value, "test");
  c.resolve();
  if (c.has("optim.ess")) c.set("optim.ess", "1e4", "test");
  return c;
}

/// Weights far from the start, so that predictions differ.
Vec normal_weights(const Layout& layout, std::uint64_t which, Real deviation = Real(0.3)) {
  const Vec w("varion::test::weights", static_cast<size_t>(layout.size()));
  fill_normal(Exec(), RandomKey::make(which, Stream::test, 0), w);
  for_blocks("varion::test::scale", Exec(), 0, layout.size(), KOKKOS_LAMBDA(const Index base, int lo, int hi) {
    for (int i = lo; i < hi; ++i) w(base + i) *= deviation;
  });
  return w;
}
}  // namespace

TEST_CASE("random windows lie anywhere in the text, targets are one further, and position and seed alone choose them") {
  const Index length = 7, size = 1000;  // 993 places
  Windows w(counting(size, length), 500, WindowOrder::random);
  std::set<std::int32_t> begins;
  for (std::uint64_t first = 0; first < 20000; first += 500) {
    const TokenBatch b = train(w, first, 500, length);
    for (size_t i = 0; i < 500; ++i) {
      for (size_t t = 0; t < 7; ++t) {
        REQUIRE(b.tokens[i * 7 + t] == b.tokens[i * 7] + static_cast<std::int32_t>(t));
        REQUIRE(b.targets[i * 7 + t] == b.tokens[i * 7 + t] + 1);
      }
      begins.insert(b.tokens[i * 7]);
    }
  }
  CHECK(begins.size() == 993);  // each with 20 chances
  CHECK(*begins.rbegin() == 992);  // the last window's last target is the text's last token
  Windows three(counting(size, length), 3, WindowOrder::random);
  const TokenBatch all = train(w, 0, 500, length), part = train(three, 100, 3, length);
  CHECK(part.tokens == std::vector<std::int32_t>(all.tokens.begin() + 700, all.tokens.begin() + 721));
  CHECK(train(three, 100, 3, length, 2).tokens != part.tokens);
}

TEST_CASE("an epoch of windows takes each once, in another order every time") {
  const Index length = 5;
  Windows w(counting(52, length), 10, WindowOrder::epoch);  // 10 windows, one token is left over
  std::vector<TokenBatch> epochs{train(w, 0, 10, length), train(w, 10, 10, length)};
  for (const TokenBatch& b : epochs) {
    std::set<std::int32_t> begins;
    for (size_t i = 0; i < 10; ++i) begins.insert(b.tokens[i * 5]);
    CHECK(begins == std::set<std::int32_t>{0, 5, 10, 15, 20, 25, 30, 35, 40, 45});
  }
  CHECK(epochs[0].tokens != epochs[1].tokens);
  const IntVec tokens("varion::test::tokens", 50), targets("varion::test::targets", 50);
  w.in_order(Exec(), 8, tokens, targets);
  CHECK(host(tokens)[0] == 40);
  CHECK(host(tokens)[5] == 45);
  CHECK(host(tokens)[45] == 45);  // past the end: the last again
}

TEST_CASE("batches of windows queued one after another are right without waiting between them") {
  const Index length = 500, batch = 8;
  Windows queued(counting(100000, length), batch, WindowOrder::random), one(counting(100000, length), batch, WindowOrder::random);
  const Exec exec;
  std::vector<std::pair<IntVec, IntVec>> to;
  for (std::uint64_t k = 0; k < 20; ++k) {
    to.emplace_back(IntVec("varion::test::tokens", batch * length), IntVec("varion::test::targets", batch * length));
    queued.train(exec, 1, k * batch, to.back().first, to.back().second);
  }
  for (std::uint64_t k = 0; k < 20; ++k) {
    const TokenBatch wanted = train(one, k * batch, batch, length);
    CHECK(host(to[k].first) == wanted.tokens);
    CHECK(host(to[k].second) == wanted.targets);
  }
}

TEST_CASE("decoding token by token says what the whole sequence says, and what evaluation says") {
  const Config c = small_gpt();
  const DataSet data = load_data(c);
  Layout layout;
  Evaluator evaluator(layout, c, data, Exec());
  const Vec weights = normal_weights(layout, 1);
  Layout same;
  TextSampler sampler(same, c, data.vocabulary, 12, Exec());
  REQUIRE(same.size() == layout.size());
  double sum = 0;
  const Index windows = data.test.count;
  REQUIRE(windows == 9);
  std::vector<std::int32_t> tokens(13);
  for (Index i = 0; i < windows; ++i) {
    data.test.tokens->read(i * 12, 13, tokens.data());
    for (size_t t = 1; t <= 12; ++t) {
      const std::vector<double> p = sampler.log_probabilities(weights, {tokens.begin(), tokens.begin() + static_cast<long>(t)});
      sum -= p[static_cast<size_t>(tokens[t])];
    }
  }
  const Metrics m = evaluator.at(data.test, weights);
  CHECK(m.at("nll") == Approx(sum / (12.0 * static_cast<double>(windows))).epsilon(1e-5));
  CHECK(m.at("ppl") == Approx(std::exp(m.at("nll"))));
  // A token's probability hangs on those before it, so that the comparison means something.
  const auto one = sampler.log_probabilities(weights, {1, 2, 3, 4}), other = sampler.log_probabilities(weights, {5, 2, 3, 4});
  double apart = 0;
  for (size_t i = 0; i < one.size(); ++i) apart = std::max(apart, std::abs(one[i] - other[i]));
  CHECK(apart > 0.01);
}

TEST_CASE("perplexity over posterior draws is that of the averaged probabilities") {
  Config c = small_gpt({{"optim.name", "ivon"}});
  c.set("optim.hess_init", "0.01", "test");  // sigma 0.1
  const DataSet data = load_data(c);
  Layout layout;
  Evaluator evaluator(layout, c, data, Exec());
  const auto optimizer = Optimizers::of().find("ivon").make(layout, c);
  Kokkos::deep_copy(optimizer->mean(), normal_weights(layout, 2));
  optimizer->start(Exec());
  const Metrics averaged = evaluator.averaged(data.test, *optimizer, 5, 3);
  Layout same;
  TextSampler sampler(same, c, data.vocabulary, 12, Exec());
  std::vector<Vec> draws;
  for (std::uint64_t s = 0; s < 3; ++s) {
    draws.emplace_back("varion::test::draw", static_cast<size_t>(layout.size()));
    optimizer->sample(Exec(), RandomKey::make(5, Stream::eval_noise, 0, s), draws.back());
  }
  std::vector<std::int32_t> tokens(13);
  double nll = 0;
  for (Index i = 0; i < data.test.count; ++i) {
    data.test.tokens->read(i * 12, 13, tokens.data());
    for (size_t t = 1; t <= 12; ++t) {
      double p = 0;
      for (const Vec& w : draws)
        p += std::exp(sampler.log_probabilities(w, {tokens.begin(), tokens.begin() + static_cast<long>(t)})[static_cast<size_t>(tokens[t])]) / 3;
      nll -= std::log(p);
    }
  }
  CHECK(averaged.at("nll") == Approx(nll / (12.0 * static_cast<double>(data.test.count))).epsilon(1e-5));
}

TEST_CASE("sampling: the seed decides, one candidate is the likeliest token, and text goes on past the last position") {
  const Config c = small_gpt();
  Layout layout;
  TextSampler sampler(layout, c, 30, 12, Exec());
  const Vec weights = normal_weights(layout, 3);
  const auto key = [](std::uint64_t n) { return RandomKey::make(1, Stream::text, 0, n); };
  SamplingOptions o;
  o.tokens = 40;  // more than three times the positions
  const auto first = sampler.sample(weights, {1, 2}, o, key(0));
  CHECK(first.size() == 40);
  CHECK(first == sampler.sample(weights, {1, 2}, o, key(0)));
  CHECK(first != sampler.sample(weights, {1, 2}, o, key(1)));
  for (const std::int32_t t : first) CHECK((t >= 0 && t < 30));
  SamplingOptions one = o, cold = o;
  one.top_k = 1;
  cold.temperature = 0;
  CHECK(sampler.sample(weights, {1, 2}, one, key(0)) == sampler.sample(weights, {1, 2}, cold, key(1)));
  // The likeliest token, by the whole sequence.
  std::vector<std::int32_t> text{1, 2};
  const auto likeliest = sampler.sample(weights, text, cold, key(0));
  for (size_t i = 0; i < 18; ++i) {
    const long kept = static_cast<long>(i < 11 ? i + 2 : i - 5);  // with 12 tokens read it goes on from the last 6
    const auto p = sampler.log_probabilities(weights, {text.end() - kept, text.end()});
    CHECK(p[static_cast<size_t>(likeliest[i])] == *std::max_element(p.begin(), p.end()));
    text.push_back(likeliest[i]);
  }
  SamplingOptions known = o;
  known.known = 5;
  for (const std::int32_t t : sampler.sample(weights, {1}, known, key(2))) CHECK(t < 5);
  // Frequencies of the first token are its probabilities.
  SamplingOptions once;
  once.tokens = 1;
  std::vector<double> seen(30);
  const auto p = sampler.log_probabilities(weights, {4});
  for (std::uint64_t n = 0; n < 2000; ++n) seen[static_cast<size_t>(sampler.sample(weights, {4}, once, key(n))[0])] += 1.0 / 2000;
  for (size_t t = 0; t < 30; ++t) CHECK(seen[t] == Approx(std::exp(p[t])).margin(0.05));
}

TEST_CASE("text and models that do not fit are refused") {
  const auto message = [](const Config& c) -> std::string {
    const DataSet data = load_data(c);
    Layout layout;
    try {
      Trainer(layout, c, data, Exec());
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  CHECK_THAT(message(config_of({{"model.name", "mlp"}, {"data.name", "sentences"}})), Contains("reads no text"));
  CHECK_THAT(message(config_of({{"model.name", "gpt2"}, {"data.name", "moons"}})), Contains("reads text only"));
  CHECK_THAT(message(small_gpt({{"model.heads", "3"}})), Contains("no multiple of model.heads"));
  CHECK_THAT(message(small_gpt({{"model.positions", "11"}})), Contains("more than model.positions"));
  const Config images = config_of({{"model.name", "lenet"}});
  Layout layout;
  CHECK_THROWS_WITH(TextSampler(layout, images, 10, 8, Exec()), Contains("writes no text"));
}
