// The encoder: hidden tokens, passages of classes, what they are asked for, and what is refused.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>
#include <set>

#include "core/error.hpp"
#include "data/token_stream.hpp"
#include "io/commit_file.hpp"
#include "ops/gradient_check.hpp"
#include "support/catch.hpp"
#include "support/config.hpp"
#include "support/refusal.hpp"
#include "support/tokens.hpp"
#include "train/evaluator.hpp"
#include "train/text_sampler.hpp"

using namespace varion;
using Catch::Matchers::Contains;

namespace {
using Settings = std::vector<std::pair<std::string, std::string>>;

Config small(const Settings& more = {}) {
  Config c = config_of({{"model.name", "encoder"}, {"data.name", "sentences"}, {"data.length", "12"}, {"data.train_size", "40"},
                        {"data.test_size", "9"}, {"data.global_batch", "4"}});
  for (const auto& [key, value] : Models::of().find("encoder").small) c.set(key, value, "test");
  for (const auto& [key, value] : more) c.set(key, value, "test");
  c.resolve();
  return c;
}

Config classifier(const Settings& more = {}) {
  Config c = small({{"data.name", "slips"}, {"model.task", "classify"}});
  for (const auto& [key, value] : more) c.set(key, value, "test");
  c.resolve();
  return c;
}

/// Weights far from the start, so that predictions differ.
Vec uniform_weights(const Layout& layout, Real bound = Real(0.5)) {
  const Vec w("varion::test::weights", static_cast<size_t>(layout.size()));
  fill_uniform(Exec(), RandomKey::make(1, Stream::test, 3), bound, w);
  return w;
}

/// A folder of texts, one a class: letters of its own, digits in the test part, the last tenth.
std::string authors(const std::vector<size_t>& sizes) {
  const std::string dir = "encoder-test/authors";
  std::filesystem::remove_all(dir);
  io::make_folder(dir);
  for (size_t k = 0; k < sizes.size(); ++k) {
    std::string text;
    for (size_t i = 0; i < sizes[k]; ++i)
      text += static_cast<char>(i < sizes[k] - sizes[k] / 10 ? 'a' + static_cast<char>(5 * k + i % 5) : '0' + static_cast<char>(3 * k + i % 3));
    io::commit_file(dir, text.substr(0, 1) + ".txt", text);
  }
  return dir;
}
}  // namespace

TEST_CASE("masks: shares of tokens hidden, swapped and kept, over many counters") {
  const Masks masks{0.15, 50};
  constexpr size_t length = 100;
  double hidden = 0, covered = 0, kept = 0, swapped = 0;
  int wrong = 0;
  std::vector<int> drawn(50), at(length);
  std::set<std::vector<std::int32_t>> different;
  constexpr std::uint64_t windows = 4000;
  for (std::uint64_t n = 0; n < windows; ++n) {
    std::vector<std::int32_t> tokens(length, 7), targets(length);
    const RandomKey key = Masks::training(3, n << 20);
    masks.apply(key, tokens, targets.data());
    different.insert(targets);
    for (size_t t = 0; t < length; ++t) {
      wrong += (targets[t] == 7) != masks.hides(key, static_cast<Index>(t));
      if (targets[t] != 7) {
        wrong += targets[t] != -1 || tokens[t] != 7;
        continue;
      }
      ++hidden;
      ++at[t];
      covered += tokens[t] == 50;
      if (tokens[t] == 50) continue;
      kept += tokens[t] == 7;
      swapped += tokens[t] != 7;
      ++drawn[static_cast<size_t>(tokens[t])];
    }
  }
  CHECK(wrong == 0);
  const double all = static_cast<double>(windows * length);
  CHECK(hidden / all == Approx(0.15).margin(4 * std::sqrt(0.15 * 0.85 / all)));
  const auto share = [&](double of, double expected) { CHECK(of / hidden == Approx(expected).margin(4 * std::sqrt(expected * (1 - expected) / hidden))); };
  share(covered, 0.8);
  share(kept, 0.1 + 0.1 / 50);  // a random token is now and then the same
  share(swapped, 0.1 - 0.1 / 50);
  CHECK(different.size() == windows);
  for (const int n : at) CHECK(n == Approx(600).margin(5 * std::sqrt(600)));
  for (size_t k = 0; k < 50; ++k)
    if (k != 7) CHECK(drawn[k] == Approx(swapped / 49).margin(5 * std::sqrt(swapped / 49)));
  // Every token.
  std::vector<std::int32_t> tokens(length, 7), targets(length);
  Masks{1, 50}.apply(Masks::training(1, 1), tokens, targets.data());
  CHECK(targets == std::vector<std::int32_t>(length, 7));
  CHECK(Masks::training(1, 5).c0 != Masks::training(1, 6).c0);
  CHECK(Masks::training(0, 5).c3 != Masks::evaluation(5).c3);
  CHECK_THROWS_AS(Masks::training(1, 1ull << 48), Error);
}

TEST_CASE("windows under masks: position and seed alone decide, and evaluation hides the same for every seed") {
  const Config c = small({{"model.masked", "0.3"}});
  const DataSet data = load_data(c);
  const Masks masks = masks_of(Models::of().find("encoder"), c, data);
  CHECK(masks.share == 0.3);
  CHECK(masks.vocabulary == 54);
  CHECK(masks_of(Models::of().find("gpt2"), c, data).share == 0);
  CHECK(masks_of(Models::of().find("mlp"), c, data).share == 0);
  for (const WindowOrder order : {WindowOrder::random, WindowOrder::epoch}) {
    Windows many(data.train, 30, order, masks), few(data.train, 3, order, masks), plain(data.train, 30, order);
    const TokenBatch all = take(360, 360, [&](IntVec x, IntVec y) { many.train(Exec(), 1, 100, x, y); });
    const TokenBatch part = take(36, 36, [&](IntVec x, IntVec y) { few.train(Exec(), 1, 110, x, y); });
    CHECK(part.tokens == std::vector<std::int32_t>(all.tokens.begin() + 120, all.tokens.begin() + 156));
    CHECK(part.targets == std::vector<std::int32_t>(all.targets.begin() + 120, all.targets.begin() + 156));
    CHECK(take(36, 36, [&](IntVec x, IntVec y) { few.train(Exec(), 2, 110, x, y); }).targets != part.targets);
    // Under the masks stand the windows that a model of next tokens sees.
    const TokenBatch open = take(360, 360, [&](IntVec x, IntVec y) { plain.train(Exec(), 1, 100, x, y); });
    for (size_t i = 0; i < 360; ++i) {
      CHECK((all.targets[i] == -1 || all.targets[i] == open.tokens[i]));
      CHECK((all.targets[i] != -1 || all.tokens[i] == open.tokens[i]));
    }
  }
  Windows test(data.test, 4, WindowOrder::epoch, masks);
  const auto in_order = [&](Index first) { return take(48, 48, [&](IntVec x, IntVec y) { test.in_order(Exec(), first, x, y); }); };
  const TokenBatch at = in_order(4), again = in_order(4), next = in_order(5);
  CHECK(at.targets == again.targets);
  CHECK(at.tokens == again.tokens);
  CHECK(std::vector<std::int32_t>(at.targets.begin() + 12, at.targets.end()) == std::vector<std::int32_t>(next.targets.begin(), next.targets.end() - 12));
}

TEST_CASE("hidden tokens: evaluation means over those that are asked for, and both sides are seen") {
  const Config c = small();
  const DataSet data = load_data(c);
  Layout layout;
  Evaluator evaluator(layout, c, data, Exec());
  const Vec weights = uniform_weights(layout);
  const double nll = evaluator.at(data.test, weights).at("nll");
  CHECK(nll == evaluator.at(data.test, weights).at("nll"));
  Config other = c;
  other.set("run.seed", "77", "test");
  CHECK(Evaluator(layout, other, data, Exec()).at(data.test, weights).at("nll") == nll);

  // The same from logits of one window at a time.
  Graph g(layout);
  const Model& m = Models::of().find("encoder");
  const Node x = g.input({1, 12}, true), logits = tied_linear(g, m.build(g, x, c, data.vocabulary), m.head);
  CHECK(g.shape(logits) == Shape{12, 55});  // one more than the alphabet
  g.output(logits);
  g.finish(false);
  Replay r(g, Exec());
  r.weights = weights;
  const auto probabilities = [&](const std::vector<std::int32_t>& tokens, size_t t) {
    const auto to = Kokkos::create_mirror_view(r.ints(x));
    std::copy(tokens.begin(), tokens.end(), to.data());
    Kokkos::deep_copy(r.ints(x), to);
    r.forward();
    const auto y = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), r.value(logits));
    std::vector<double> p(55);
    double sum = 0;
    for (size_t k = 0; k < 55; ++k) sum += p[k] = std::exp(static_cast<double>(y(t * 55 + k)));
    for (double& v : p) v /= sum;
    return p;
  };
  const Masks masks = masks_of(m, c, data);
  double sum = 0, count = 0;
  for (Index i = 0; i < data.test.count; ++i) {
    std::vector<std::int32_t> tokens(12), targets(12);
    data.test.tokens->read(i * 12, 12, tokens.data());
    masks.apply(Masks::evaluation(static_cast<std::uint64_t>(i)), tokens, targets.data());
    for (size_t t = 0; t < 12; ++t)
      if (targets[t] >= 0) {
        sum -= std::log(probabilities(tokens, t)[static_cast<size_t>(targets[t])]);
        ++count;
      }
  }
  CHECK((count > 5 && count < 40));
  CHECK(nll == Approx(sum / count).epsilon(1e-5));
  std::vector<std::int32_t> tokens(12, 5), before = tokens, behind = tokens;
  before[2] = 9;
  behind[9] = 9;
  const auto p = probabilities(tokens, 5);
  CHECK(std::abs(p[5] - probabilities(before, 5)[5]) > 1e-4);
  CHECK(std::abs(p[5] - probabilities(behind, 5)[5]) > 1e-4);

  // Over draws of a posterior the probabilities of those tokens are averaged.
  Config v = small({{"optim.name", "ivon"}, {"optim.ess", "1e4"}, {"optim.hess_init", "0.01"}});
  const auto optimizer = Optimizers::of().find("ivon").make(layout, v);
  Kokkos::deep_copy(optimizer->mean(), weights);
  optimizer->start(Exec());
  const double averaged = evaluator.averaged(data.test, *optimizer, 5, 2).at("nll");
  CHECK(averaged == Approx(nll).margin(1));
  CHECK(averaged != nll);
}

TEST_CASE("the encoder has as many parameters as the same network of PyTorch's layers") {
  // nn.Embedding(n, D): n D. nn.TransformerEncoderLayer(D, heads, 4 D): in_proj 3 D^2 (+ 3 D), out_proj D^2 (+ D), linear1 4 D^2 (+ 4 D),
  // linear2 4 D^2 (+ D), norm1 and norm2 D (+ D) each; what is in brackets goes with bias=False. nn.LayerNorm(D): D (+ D).
  // nn.Linear(D, C): C D + C.
  constexpr Index d = 64, layers = 2, positions = 64, tokens = 54 + 1;  // the alphabet, and the mask token
  const auto parameters = [](const Config& c) {
    const DataSet data = load_data(c);
    Layout layout;
    const BatchGraph net(layout, c, data, 1, true);
    return layout.size();
  };
  for (const Index bias : {0, 1}) {
    const Index layer = (3 + 1 + 4 + 4) * d * d + 2 * d + bias * (3 + 1 + 4 + 1 + 2) * d;
    const Index body = (tokens + positions) * d + layers * layer + d + bias * d;  // the head of hidden tokens is the table
    const Settings sizes{{"model.layers", "2"}, {"model.heads", "4"}, {"model.width", "64"}, {"data.length", "64"},
                         {"model.bias", bias == 1 ? "true" : "false"}};
    CHECK(parameters(small(sizes)) == body);
    CHECK(parameters(classifier(sizes)) == body + 2 * d + 2);
    if (bias == 0) CHECK(body == 106240);  // what presets and docs/results.md say
  }
}

TEST_CASE("the encoder's gradients are finite differences, with either head and where few tokens are asked for") {
  const Model& m = Models::of().find("encoder");
  for (const char* pool : {"mean", "first"}) {
    const Config c = classifier({{"model.pool", pool}, {"model.bias", "true"}});
    const OpCase whole(pool, {{3, 8}}, [&](Graph& g, const std::vector<Node>& x) { return m.build(g, x[0], c, {4, 10}); }, 0, 10, 0.05);
    std::set<std::string> tensors;
    for (const GradientResult& r : check_tensor_gradients("encoder", whole)) {
      INFO(pool << " " << r.label << ": error " << r.error << " of " << r.tolerance);
      CHECK(r.ok);
      tensors.insert(r.label);
    }
    CHECK(tensors.size() == 2 * 12 + 4 + 2);
  }
  // The loss of masked tokens: those with a target and no others. Central differences along the gradient itself.
  const Config c = small();
  Layout layout;
  Graph g(layout);
  const Node x = g.input({2, 8}, true), target = g.input({2, 8}, true);
  const Node loss = tied_cross_entropy(g, m.build(g, x, c, 10), m.head, target);
  g.output(loss);
  g.finish(true);
  const Vec weights = uniform_weights(layout, Real(0.3)), gradient("varion::test::gradient", weights.extent(0)), moved("varion::test::moved", weights.extent(0));
  Replay r(g, Exec());
  r.weights = weights;
  r.gradient = gradient;
  r.train = true;
  std::vector<std::int32_t> tokens(16), targets(16, -1);
  for (size_t i = 0; i < 16; ++i) tokens[i] = static_cast<std::int32_t>(i * 7 % 11);  // 10 is the mask
  targets[3] = 4;
  targets[12] = 9;
  const auto put = [&](Node n, const std::vector<std::int32_t>& v) {
    const auto to = Kokkos::create_mirror_view(r.ints(n));
    std::copy(v.begin(), v.end(), to.data());
    Kokkos::deep_copy(r.ints(n), to);
  };
  const auto value = [&](const Vec& w) {
    r.weights = w;
    put(x, tokens);
    put(target, targets);
    r.forward();
    return static_cast<double>(Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), r.value(loss))(0));
  };
  value(weights);
  r.backward(loss);
  const auto slope = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), gradient), at = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), weights);
  double square = 0;
  for (size_t i = 0; i < slope.extent(0); ++i) square += static_cast<double>(slope(i)) * static_cast<double>(slope(i));
  REQUIRE(square > 0);
  const double step = 0.02 / std::sqrt(square);
  const auto along = [&](double by) {
    const auto to = Kokkos::create_mirror_view(moved);
    for (size_t i = 0; i < slope.extent(0); ++i) to(i) = at(i) + static_cast<Real>(by) * slope(i);
    Kokkos::deep_copy(moved, to);
    return value(moved);
  };
  CHECK((along(step) - along(-step)) / (2 * step) == Approx(square).epsilon(0.01));
  // None is asked for: no loss, no gradient.
  targets.assign(16, -1);
  CHECK(value(weights) == 0);
  r.backward(loss);
  const auto none = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), gradient);
  CHECK(std::all_of(none.data(), none.data() + none.extent(0), [](Real v) { return v == 0; }));
}

TEST_CASE("passages: labels, shares of the classes, and nothing of the test part in training") {
  const std::vector<size_t> sizes{1000, 3000, 400};
  const Settings folder{{"data.name", "passages"}, {"data.path", authors(sizes)}, {"data.length", "10"}, {"data.train_size", "0"}, {"data.test_size", "0"}};
  const auto load = [&](Settings more) {
    more.insert(more.begin(), folder.begin(), folder.end());
    return load_data(classifier(more));
  };
  const DataSet d = load({});
  CHECK(d.classes == 3);
  CHECK(d.vocabulary == 15 + 9);
  CHECK(d.train.count == 90 + 270 + 36);
  CHECK(d.test.count == 10 + 30 + 4);
  CHECK_FALSE(d.train.is_row());
  // Which class the letters of a window are of; digits are the test part's.
  const auto check = [&](const std::string& letters, std::int32_t label, bool test) {
    for (const char l : letters) {
      CHECK((l >= '0' && l <= '9') == test);
      CHECK((test ? l - '0' : l - 'a') / (test ? 3 : 5) == label);
    }
  };
  const auto text_of = [&](const TokenBatch& b, size_t i) { return d.tokenizer->decode(b.tokens.data() + 10 * i, 10); };
  const DataSet held = load({{"data.val_size", "44"}, {"data.train_size", "220"}});  // of each a fifth of a half or so
  CHECK(held.train.count == 176);
  CHECK(held.validation.count == 44);
  CHECK(held.digest != d.digest);
  std::map<std::int32_t, std::pair<Index, Index>> last_trained, first_held;
  for (const auto& [e, size, share] : {std::tuple<const Examples*, double, int>{&d.train, 396, 0}, {&held.train, 176, 0}, {&held.validation, 44, 0}, {&d.test, 44, 1}}) {
    const Index n = e->count;
    Windows w(*e, n, WindowOrder::epoch);
    const TokenBatch b = take(n * 10, n, [&](IntVec x, IntVec y) { w.train(Exec(), 1, 0, x, y); });
    std::vector<double> count(3);
    std::set<std::string> seen;
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      check(text_of(b, i), b.targets[i], share == 1);
      ++count[static_cast<size_t>(b.targets[i])];
    }
    for (size_t k = 0; k < 3; ++k) CHECK(count[k] / size == Approx(static_cast<double>(sizes[k]) / 4400).margin(2.01 / size));
    Windows in(*e, n, WindowOrder::epoch);
    const TokenBatch ordered = take(n * 10, n, [&](IntVec x, IntVec y) { in.in_order(Exec(), 0, x, y); });
    CHECK(ordered.targets == e->labels);
    // No targets asked for: none written.
    CHECK(take(n * 10, 0, [&](IntVec x, IntVec y) { in.in_order(Exec(), 0, x, y); }).tokens == ordered.tokens);
  }
  // Random windows: anywhere in the part of training, and only there. Every place is met.
  for (const DataSet* set : {&d, &held}) {
    Windows w(set->train, 500, WindowOrder::random);
    std::map<std::int32_t, Index> count, lowest, highest;
    for (std::int32_t k = 0; k < 3; ++k) lowest[k] = 1 << 20;
    for (std::uint64_t first = 0; first < 20000; first += 500) {
      const TokenBatch b = take(5000, 500, [&](IntVec x, IntVec y) { w.train(Exec(), 3, first, x, y); });
      for (size_t i = 0; i < 500; ++i) {
        check(text_of(b, i), b.targets[i], false);
        ++count[b.targets[i]];
      }
    }
    double places = 0;
    std::vector<double> of(3);
    for (size_t k = 0; k < 3; ++k) {
      const auto n = std::count(set->train.labels.begin(), set->train.labels.end(), static_cast<std::int32_t>(k));
      places += of[k] = static_cast<double>((n - 1) * 10 + 1);
    }
    for (size_t k = 0; k < 3; ++k) CHECK(static_cast<double>(count[static_cast<std::int32_t>(k)]) / 20000 == Approx(of[k] / places).margin(0.015));
  }
  // What is held out lies behind what is trained on, class by class.
  for (std::int32_t k = 0; k < 3; ++k) {
    Index end = 0, begin = Index(1) << 40;
    for (size_t i = 0; i < held.train.labels.size(); ++i)
      if (held.train.labels[i] == k) end = std::max(end, held.train.begins[i] + 10);
    for (size_t i = 0; i < held.validation.labels.size(); ++i)
      if (held.validation.labels[i] == k) begin = std::min(begin, held.validation.begins[i]);
    CHECK(end == begin);
  }
  Windows many(d.train, 30, WindowOrder::random), few(d.train, 3, WindowOrder::random);
  const TokenBatch all = take(300, 30, [&](IntVec x, IntVec y) { many.train(Exec(), 1, 100, x, y); });
  const TokenBatch part = take(30, 3, [&](IntVec x, IntVec y) { few.train(Exec(), 1, 110, x, y); });
  CHECK(part.tokens == std::vector<std::int32_t>(all.tokens.begin() + 100, all.tokens.begin() + 130));
  CHECK(part.targets == std::vector<std::int32_t>(all.targets.begin() + 10, all.targets.begin() + 13));
}

TEST_CASE("slips: the alphabet of sentences, as many passages of either class, right lines and wrong ones") {
  const DataSet d = load_data(config_of({{"data.name", "slips"}})), s = load_data(config_of({{"data.name", "sentences"}}));
  CHECK(d.tokenizer->describe() == s.tokenizer->describe());
  CHECK(d.classes == 2);
  CHECK(d.test.count == Approx(1000).margin(5));
  CHECK(std::accumulate(d.train.labels.begin(), d.train.labels.end(), Index(0)) == Approx(static_cast<double>(d.train.count) / 2).margin(3));
  // Sums tell the class: right in one, wrong in the other.
  std::vector<std::int32_t> all(static_cast<size_t>(d.train.tokens->size()));
  d.train.tokens->read(0, d.train.tokens->size(), all.data());
  const std::string text = d.tokenizer->decode(all.data(), static_cast<Index>(all.size()));
  Index border = d.train.tokens->size();
  for (size_t i = 0; i < d.train.labels.size(); ++i)
    if (d.train.labels[i] == 1) border = std::min(border, d.train.begins[i]);
  int right[2] = {}, wrong[2] = {};
  for (size_t at = 0; (at = text.find(" = ", at)) != std::string::npos; ++at) {
    const size_t line = text.rfind('\n', at) + 1;
    int a = 0, b = 0, sum = 0;
    if (std::sscanf(text.c_str() + line, "%d + %d = %d.\n", &a, &b, &sum) != 3) continue;
    ++(a + b == sum ? right : wrong)[static_cast<Index>(line) >= border ? 1 : 0];
  }
  CHECK((right[0] > 200 && wrong[0] == 0));
  CHECK((right[1] == 0 && wrong[1] > 200));
}

TEST_CASE("what an encoder cannot do is refused") {
  const auto message = [](const Config& c) { return refusal(Exit::config, [&] {
    const DataSet data = load_data(c);
    Layout layout;
    Trainer(layout, c, data, Exec());
  }); };
  CHECK_THAT(message(small({{"model.task", "classify"}})), Contains("model.name = encoder classifies passages, data.name = sentences is one text: set model.task=masked"));
  CHECK_THAT(message(small({{"data.name", "slips"}})), Contains("predicts tokens, data.name = slips is passages of classes: set model.name=encoder model.task=classify"));
  CHECK_THAT(message(config_of({{"model.name", "gpt2"}, {"data.name", "slips"}})), Contains("set model.name=encoder model.task=classify"));
  CHECK_THAT(message(config_of({{"model.name", "mlp"}, {"data.name", "slips"}})), Contains("reads no text"));
  CHECK_THAT(message(config_of({{"model.name", "encoder"}, {"data.name", "moons"}})), Contains("reads text only"));
  Layout layout;
  CHECK_THAT(refusal(Exit::config, [&] { TextSampler(layout, small(), 54, 12, Exec()); }), Contains("writes no text"));
  const Config rare = small({{"model.masked", "0.001"}, {"data.test_size", "1"}});
  const DataSet data = load_data(rare);
  Layout other;
  Evaluator evaluator(other, rare, data, Exec());
  CHECK_THAT(refusal(Exit::config, [&] { evaluator.at(data.test, uniform_weights(other)); }), Contains("model.masked = 0.001 asks for none of the 12 tokens"));

  const auto load = [](const std::string& path, const char* length) {
    return [=] { load_data(classifier({{"data.name", "passages"}, {"data.path", path}, {"data.length", length}})); };
  };
  const std::string folder = authors({100, 50});
  CHECK_THAT(refusal(Exit::data, load(folder, "6")), Contains("f.txt (the last data.val_share): 5 tokens, a passage is data.length = 6"));
  CHECK_THAT(refusal(Exit::data, load(folder, "60")), Contains("f.txt (training part): 45 tokens"));
  CHECK_THAT(refusal(Exit::data, load(folder + "/a.txt", "5")), Contains("a.txt: passages need a folder of two .txt files or more"));
  io::commit_file(folder, "g.txt", std::string(100, 'x') + "\xff");
  CHECK_THAT(refusal(Exit::data, load(folder, "5")), Contains("g.txt: byte 100 is not UTF-8"));
}
