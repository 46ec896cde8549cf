#include "models/model.hpp"

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
