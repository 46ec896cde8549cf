#include "models/model.hpp"

#include <cmath>
#include <set>

#include "support/catch.hpp"
#include "train/model_check.hpp"

using namespace varion;

TEST_CASE("every registered model's gradient is its finite difference, tensor by tensor") {
  std::set<std::string> checked;
  for (const GradientResult& r : check_model_gradients()) {
    INFO(r.name << " " << r.label << ": error " << r.error << " of " << r.tolerance);
    CHECK(r.ok);
    checked.insert(r.name);
  }
  CHECK(checked.size() == Models::of().all().size());
}

TEST_CASE("a model's gradient that is 15 % off is found in every tensor") {
  for (const GradientResult& r : check_model_gradients(1.15)) {
    INFO(r.name << " " << r.label << ": error " << r.error);
    CHECK(!r.ok);
  }
}

TEST_CASE("models have the published numbers of parameters and their tensors PyTorch's names") {
  using Settings = std::vector<std::pair<std::string, std::string>>;
  const auto layout_of = [](const std::string& name, Shape input, Index outputs, const Settings& settings = {}) {
    Config c;
    c.set("model.name", name, "test");
    if (name == "mlp") c.set("model.sizes", "50", "test");
    for (const auto& [key, value] : settings) c.set(key, value, "test");
    c.resolve();
    auto layout = std::make_unique<Layout>();
    Graph g(*layout);
    const Node x = g.input(input);
    g.output(Models::of().find(name).build(g, x, c, outputs));
    g.finish(false);
    return layout;
  };
  CHECK(layout_of("resnet20", {1, 32, 32, 3}, 10)->size() == 274042);
  CHECK(layout_of("alexnet", {1, 32, 32, 3}, 10)->size() == 1488202);
  CHECK(layout_of("lenet", {1, 28, 28, 1}, 10)->size() == 61706);
  CHECK(layout_of("mlp", {1, 8}, 2)->size() == 8 * 50 + 50 + 50 * 2 + 2);
  const auto lenet = layout_of("lenet", {1, 28, 28, 1}, 10);
  const int conv = lenet->find("conv1.weight");
  REQUIRE(conv >= 0);
  CHECK((*lenet)[conv].shape == Shape{6, 1, 5, 5});
  CHECK((*lenet)[lenet->find("fc1.weight")].shape == Shape{120, 400});

  // timm's vit_{tiny,small,base}_patch16_224 for 1000 classes.
  for (const auto& [size, count] : {std::pair<const char*, Index>{"tiny", 5717416}, {"small", 22050664}, {"base", 86567656}})
    CHECK(layout_of("vit", {1, 224, 224, 3}, 1000, {{"model.size", size}, {"model.patch", "16"}})->size() == count);
  const auto vit = layout_of("vit", {1, 8, 12, 3}, 5,
                             {{"model.width", "40"}, {"model.layers", "3"}, {"model.heads", "5"}, {"model.patch", "2"}, {"model.pool", "mean"}});
  const Index d = 40, patches = 24, block = 4 * d + (3 * d * d + 3 * d) + (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d);
  CHECK(vit->size() == d * 3 * 4 + d + patches * d + 3 * block + 2 * d + 5 * d + 5);
  const auto shape_of = [&](const char* name) {
    REQUIRE(vit->find(name) >= 0);
    return (*vit)[vit->find(name)].shape;
  };
  CHECK(shape_of("patch_embed.proj.weight") == Shape{40, 3, 2, 2});
  CHECK(shape_of("pos_embed") == Shape{1, 24, 40});
  CHECK(shape_of("blocks.2.attn.qkv.weight") == Shape{120, 40});
  CHECK(shape_of("blocks.0.mlp.fc2.weight") == Shape{40, 160});
  CHECK(shape_of("norm.bias") == Shape{40});
  CHECK(vit->find("cls_token") < 0);
  CHECK_THROWS_AS(layout_of("vit", {1, 9, 8, 3}, 5), Error);
  CHECK_THROWS_AS(layout_of("vit", {1, 8, 8, 3}, 5, {{"model.heads", "7"}}), Error);
}

TEST_CASE("a vision transformer's weights start as timm's") {
  Config c;
  c.set("model.name", "vit", "test");
  c.resolve();
  Layout layout;
  Graph g(layout);
  g.output(Models::of().find("vit").build(g, g.input({1, 32, 32, 3}), c, 10));
  g.finish(false);
  const Vec flat("varion::test::flat", static_cast<size_t>(layout.size()));
  layout.initialise(Exec(), 3, flat);
  const auto h = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), flat);
  const auto deviation = [&](const char* name) {
    const Parameter& p = layout[layout.find(name)];
    double square = 0;
    for (Index i = p.offset; i < p.offset + p.size(); ++i)
      square += static_cast<double>(h(static_cast<size_t>(i))) * static_cast<double>(h(static_cast<size_t>(i)));
    return std::sqrt(square / static_cast<double>(p.size()));
  };
  for (const char* name : {"pos_embed", "blocks.3.attn.qkv.weight", "blocks.11.mlp.fc1.weight"}) CHECK(deviation(name) == Approx(0.02).epsilon(0.02));
  CHECK(deviation("head.weight") == Approx(0.02).epsilon(0.1));  // 1920 numbers
  CHECK(deviation("cls_token") == Approx(1e-6).epsilon(0.2));    // 192
  CHECK(deviation("patch_embed.proj.weight") == Approx(1 / std::sqrt(3. * 48)).epsilon(0.03));
  CHECK(deviation("norm.weight") == 1);
  for (const char* name : {"blocks.0.attn.qkv.bias", "blocks.0.norm1.bias", "head.bias"}) CHECK(deviation(name) == 0);
}

TEST_CASE("GPT-2 has the published numbers of parameters, and nanoGPT's names") {
  const auto layout_of = [](Index layers, Index heads, Index width, Index tokens = 50304) {
    Config c;
    c.set("model.name", "gpt2", "test");
    c.set("model.bias", tokens == 50257 ? "true" : "false", "test");
    c.set("model.layers", std::to_string(layers), "test");
    c.set("model.heads", std::to_string(heads), "test");
    c.set("model.width", std::to_string(width), "test");
    c.set("model.positions", "1024", "test");
    c.resolve();
    auto layout = std::make_unique<Layout>();
    Graph g(*layout);
    g.output(Models::of().find("gpt2").build(g, g.input({1, 2}, true), c, tokens));
    g.finish(false);
    return layout;
  };
  const auto small = layout_of(12, 12, 768);
  CHECK(small->size() == 124373760);
  CHECK(layout_of(12, 12, 768, 50257)->size() == 124439808);  // the published one, with biases
  CHECK(layout_of(24, 16, 1024)->size() == 354599936);
  CHECK(layout_of(36, 20, 1280)->size() == 773582080);
  const auto shape = [&](const std::string& name) {
    const int i = small->find(name);
    INFO(name);
    REQUIRE(i >= 0);
    return (*small)[i].shape;
  };
  CHECK(shape("transformer.wte.weight") == Shape{50304, 768});
  CHECK(shape("transformer.wpe.weight") == Shape{1024, 768});
  CHECK(shape("transformer.h.11.attn.c_attn.weight") == Shape{2304, 768});
  CHECK(shape("transformer.h.0.mlp.c_proj.weight") == Shape{768, 3072});
  CHECK(shape("transformer.ln_f.weight") == Shape{768});
  CHECK(small->find("transformer.ln_f.bias") < 0);
  // What is added to the residual stream starts with less (paper, section 4.1).
  CHECK((*small)[small->find("transformer.h.3.mlp.c_fc.weight")].init.value == Approx(0.02));
  CHECK((*small)[small->find("transformer.h.3.mlp.c_proj.weight")].init.value == Approx(0.02 / std::sqrt(24.0)));
}

TEST_CASE("GPT-2 with biases and GELU by tanh: its gradient is its finite difference") {
  Config c;
  c.set("model.name", "gpt2", "test");
  const Model& m = Models::of().find("gpt2");
  for (const auto& [key, value] : m.small) c.set(key, value, "test");
  c.set("model.bias", "true", "test");
  c.set("model.gelu", "tanh", "test");
  c.resolve();
  const OpCase whole("biases", {{2, 8}}, [&](Graph& g, const std::vector<Node>& x) { return tied_linear(g, m.build(g, x[0], c, 10), m.head); }, 0, 10, 0.05);
  size_t biases = 0;
  for (const GradientResult& r : check_tensor_gradients("gpt2", whole)) {
    INFO(r.label << ": error " << r.error << " of " << r.tolerance);
    CHECK(r.ok);
    biases += r.label.find(".bias") != std::string::npos;
  }
  CHECK(biases == 2 * 6 + 1);
}

TEST_CASE("weights start as PyTorch's: uniform within 1/sqrt(fan in), the same for the same seed") {
  Config c;
  c.set("model.name", "lenet", "test");
  c.resolve();
  Layout layout;
  Graph g(layout);
  g.output(Models::of().find("lenet").build(g, g.input({1, 28, 28, 1}), c, 10));
  g.finish(false);
  const auto start = [&](std::uint64_t seed) {
    const Vec flat("varion::test::flat", static_cast<size_t>(layout.size()));
    layout.initialise(Exec(), seed, flat);
    const auto h = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), flat);
    return std::vector<Real>(h.data(), h.data() + layout.size());
  };
  const std::vector<Real> a = start(1);
  CHECK(a == start(1));
  CHECK(a != start(2));
  for (const auto& [name, fan_in] : {std::pair<const char*, double>{"conv2.weight", 150}, {"conv2.bias", 150}, {"fc1.weight", 400}}) {
    const Parameter& p = layout[layout.find(name)];
    double largest = 0, square = 0;
    for (Index i = p.offset; i < p.offset + p.size(); ++i) {
      largest = std::max(largest, std::abs(static_cast<double>(a[static_cast<size_t>(i)])));
      square += static_cast<double>(a[static_cast<size_t>(i)]) * static_cast<double>(a[static_cast<size_t>(i)]);
    }
    const double bound = 1 / std::sqrt(fan_in);
    INFO(name);
    CHECK(largest <= bound);
    CHECK(largest > 0.8 * bound);
    if (p.size() > 1000) CHECK(square / static_cast<double>(p.size()) == Approx(bound * bound / 3).epsilon(0.06));
  }
}
