// Frozen parameters: the same gradients of the others, and nothing spent on them.
#include "core/random.hpp"
#include "models/model.hpp"
#include "support/catch.hpp"

using namespace varion;

namespace {
struct Net {
  Layout layout;
  Graph graph{layout};
  Node x, loss;
};

using Rule = std::function<bool(const std::string&)>;
/// A graph of `build`, its last parameter-free node the loss.
std::unique_ptr<Net> net(const Rule& rule, const std::function<Node(Graph&, Net&)>& build) {
  auto n = std::make_unique<Net>();
  if (rule) n->layout.freeze(rule);
  n->loss = build(n->graph, *n);
  n->graph.output(n->loss);
  n->graph.finish(true);
  return n;
}

std::vector<Real> reals(const ConstVec& v) {
  const auto h = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), v);
  return {h.data(), h.data() + h.extent(0)};
}

/// Gradient of every trained tensor at values that hang on a tensor's name only.
std::map<std::string, std::vector<Real>> gradients(Net& n, const std::function<void(Replay&)>& fill) {
  const auto values = [](const Parameter& p, const Vec& to) {
    std::uint64_t h = 0;
    for (const char c : p.name) h = h * 31 + static_cast<unsigned char>(c);
    const Vec part = slice(to, p.offset, p.size());
    fill_uniform(Exec(), RandomKey::make(h % 1000, Stream::test, 1), Real(0.4), part);
  };
  const Vec weights("varion::test::weights", static_cast<size_t>(n.layout.size())), gradient("varion::test::gradient", static_cast<size_t>(n.layout.size()));
  for (const Parameter& p : n.layout.parameters()) values(p, weights);
  for (const Parameter& p : n.layout.frozen()) values(p, n.layout.frozen_values());
  const std::vector<Real> before = reals(n.layout.frozen_values());
  Replay r(n.graph, Exec());
  r.weights = weights;
  r.gradient = gradient;
  r.train = true;
  fill(r);
  r.forward();
  r.backward(n.loss);
  CHECK(reals(n.layout.frozen_values()) == before);
  std::map<std::string, std::vector<Real>> out;
  const std::vector<Real> all = reals(gradient);
  for (const Parameter& p : n.layout.parameters()) out[p.name] = {all.begin() + p.offset, all.begin() + p.offset + p.size()};
  return out;
}

/// The trained tensors' gradients are those of the model without frozen ones, to the bit.
void check_same(const Rule& rule, size_t trained, const std::function<Node(Graph&, Net&)>& build, const std::function<void(Net&, Replay&)>& fill) {
  const auto whole = net({}, build), part = net(rule, build);
  const auto all = gradients(*whole, [&](Replay& r) { fill(*whole, r); }), some = gradients(*part, [&](Replay& r) { fill(*part, r); });
  REQUIRE(some.size() == trained);
  CHECK(whole->layout.size() == part->layout.size() + part->layout.frozen_size());
  for (const auto& [name, gradient] : some) {
    INFO(name);
    CHECK(gradient == all.at(name));
    CHECK(std::any_of(gradient.begin(), gradient.end(), [](Real v) { return v != 0; }));
  }
  CHECK(part->graph.arena_words() <= whole->graph.arena_words());
  CHECK(part->graph.flops(true) < whole->graph.flops(true));
  CHECK(part->graph.flops(false) == whole->graph.flops(false));
}
}  // namespace

TEST_CASE("adapters beside a frozen GPT-2 have the gradients they have beside a trained one") {
  Config c;
  c.set("model.name", "gpt2", "test");
  for (const auto& [key, value] : Models::of().find("gpt2").small) c.set(key, value, "test");
  c.set("model.lora_rank", "3", "test");
  c.resolve();
  const Model& m = Models::of().find("gpt2");
  const auto rule = [&](const std::string& name) { return m.frozen(name, c); };
  check_same(rule, 2 * 4 * 2,
             [&](Graph& g, Net& n) {
               n.x = g.input({3, 8}, true);
               return tied_cross_entropy(g, m.build(g, n.x, c, 11), m.head, n.x);
             },
             [](Net& n, Replay& r) {
               const IntVec tokens = r.ints(n.x);
               Kokkos::parallel_for("varion::test::tokens", Range(Exec(), 0, 24), KOKKOS_LAMBDA(const Index i) { tokens(i) = static_cast<std::int32_t>(i * 7 % 11); });
             });
}

TEST_CASE("adapters and a new head beside a frozen encoder have the gradients they have beside a trained one") {
  Config c;
  c.set("model.name", "encoder", "test");
  for (const auto& [key, value] : Models::of().find("encoder").small) c.set(key, value, "test");
  c.set("model.lora_rank", "3", "test");
  c.set("model.task", "classify", "test");
  c.resolve();
  const Model& m = Models::of().find("encoder");
  const auto rule = [&](const std::string& name) { return m.frozen(name, c); };
  check_same(rule, 2 * 4 * 2 + 2,
             [&](Graph& g, Net& n) {
               n.x = g.input({3, 8}, true);
               return mean_squared_error(g, m.build(g, n.x, c, {2, 11}), g.input({3, 2}));
             },
             [](Net& n, Replay& r) {
               const IntVec tokens = r.ints(n.x);
               Kokkos::parallel_for("varion::test::tokens", Range(Exec(), 0, 24), KOKKOS_LAMBDA(const Index i) { tokens(i) = static_cast<std::int32_t>(i * 7 % 12); });
             });
}

TEST_CASE("any tensors of a network of images may be frozen") {
  const auto build = [](Graph& g, Net& n) {
    n.x = g.input({4, 6, 6, 3});
    Node y = frn(g, conv2d(g, n.x, "one", 5, 3, {1, true, 1, false}), "norm");
    y = conv2d(g, y, "two", 4, 3, {1, true, 1, false});
    y = linear(g, flatten(g, y), "three", 7, {true, true});
    y = layer_norm(g, y, "four", true);
    y = linear(g, y, "five", 2);
    const Node target = g.input({4, 2});
    return mean_squared_error(g, y, target);
  };
  const auto fill = [](Net& n, Replay& r) {
    fill_uniform(Exec(), RandomKey::make(5, Stream::test, 2), 1, r.value(n.x));
  };
  const auto frozen = [](std::vector<std::string> names) {
    return [names = std::move(names)](const std::string& name) {
      return std::any_of(names.begin(), names.end(), [&](const std::string& n) { return name.find(n) == 0; });
    };
  };
  check_same(frozen({"one", "norm"}), 8, build, fill);
  check_same(frozen({"two"}), 11, build, fill);
  check_same(frozen({"three", "four.weight"}), 10, build, fill);
  check_same(frozen({"two.weight", "three.bias", "five"}), 9, build, fill);
  check_same(frozen({"one", "norm", "two", "three", "four"}), 2, build, fill);
}

TEST_CASE("the lower part of a vision transformer may be frozen") {
  Config c;
  c.set("model.name", "vit", "test");
  for (const auto& [key, value] : Models::of().find("vit").small) c.set(key, value, "test");
  c.set("model.freeze", "patch_embed,cls_token,pos_embed,blocks.0", "test");
  c.resolve();
  const auto build = [&](Graph& g, Net& n) {
    n.x = g.input({2, 8, 8, 3});
    return mean_squared_error(g, Models::of().find("vit").build(g, n.x, c, 4), g.input({2, 4}));
  };
  const auto rule = [&](const std::string& name) {
    for (const std::string& word : words_of(c.text("model.freeze")))
      if (begins(name, word)) return true;
    return false;
  };
  check_same(rule, 12 + 2 + 2, build, [](Net& n, Replay& r) { fill_uniform(Exec(), RandomKey::make(5, Stream::test, 2), 1, r.value(n.x)); });
}

TEST_CASE("frozen parameters start as they would if they were trained") {
  const auto build = [](Graph& g, Net& n) {
    n.x = g.input({4, 3});
    return mean_squared_error(g, linear(g, linear(g, n.x, "a", 5), "b", 2), g.input({4, 2}));
  };
  const auto whole = net({}, build), part = net([](const std::string& name) { return name.find("a.") == 0; }, build);
  const auto start = [](Net& n) {
    const Vec flat("varion::test::flat", static_cast<size_t>(n.layout.size()));
    n.layout.initialise(Exec(), 3, flat);
    std::map<std::string, std::vector<Real>> out;
    for (const auto& [list, values] : {std::pair{&n.layout.parameters(), reals(flat)}, {&n.layout.frozen(), reals(n.layout.frozen_values())}})
      for (const Parameter& p : *list) out[p.name] = {values.begin() + p.offset, values.begin() + p.offset + p.size()};
    return out;
  };
  CHECK(start(*whole) == start(*part));
  CHECK(part->layout.frozen_size() == 20);
}
