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
  const auto layout_of = [](const std::string& name, Shape input, Index outputs) {
    Config c;
    c.set("model.name", name, "test");
    if (name == "mlp") c.set("model.sizes", "50", "test");
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
}

TEST_CASE("GPT-2 has the published numbers of parameters, and nanoGPT's names") {
  const auto layout_of = [](Index layers, Index heads, Index width) {
    Config c;
    c.set("model.name", "gpt2", "test");
    c.set("model.layers", std::to_string(layers), "test");
    c.set("model.heads", std::to_string(heads), "test");
    c.set("model.width", std::to_string(width), "test");
    c.set("model.positions", "1024", "test");
    c.resolve();
    auto layout = std::make_unique<Layout>();
    Graph g(*layout);
    g.output(Models::of().find("gpt2").build(g, g.input({1, 2}, true), c, 50304));
    g.finish(false);
    return layout;
  };
  const auto small = layout_of(12, 12, 768);
  CHECK(small->size() == 124373760);
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
