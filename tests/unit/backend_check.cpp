// verify backend: what agrees passes, a provider that is wrong by little is found, a reference is only taken for what it is.
#include "train/backend_check.hpp"

#include "backends/backend.hpp"
#include "core/error.hpp"
#include "support/catch.hpp"
#include "support/config.hpp"

using namespace varion;

namespace {
/// portable with products 5 % too large.
class Wrong final : public backend::PortableConvolution {
 public:
  std::string name() const override { return "wrong"; }
  std::string description() const override { return "for the test"; }
  void gemm(const Exec& exec, bool ta, bool tb, Index m, Index n, Index k, ConstVec a, ConstVec b, bool add,
            Vec c) const override {
    backend::portable().gemm(exec, ta, tb, m, n, k, a, b, add, c);
    if (!add) Kokkos::parallel_for("varion::test::scale", Range(exec, 0, m * n), KOKKOS_LAMBDA(const Index i) { c(i) *= Real(1.05); });
  }
  void gemm_batched(const Exec& exec, bool ta, bool tb, Index batch, Index m, Index n, Index k, ConstVec a, Index sa, ConstVec b,
                    Index sb, bool add, Vec c, Index sc) const override {
    backend::portable().gemm_batched(exec, ta, tb, batch, m, n, k, a, sa, b, sb, add, c, sc);
  }
};
const Wrong wrong;
const bool registered = backend::add_provider(-1, wrong);

FirstSteps steps_under(const std::string& provider, const std::string& optimizer, Index steps = 4) {
  const std::string used = backend::provider().name();
  backend::use_provider(provider);
  Config c = config_of({{"model.sizes", "24,16"}, {"optim.name", optimizer}, {"data.name", "moons"}});
  FirstSteps out = first_steps(c, steps);
  backend::use_provider(used);
  return out;
}

int wrong_ones(const FirstSteps& a, const io::PosteriorFile& b) {
  int count = 0;
  for (const BackendDifference& d : compare_first_steps(a, b, "test")) count += d.ok() ? 0 : 1;
  return count;
}

int code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& e) {
    return static_cast<int>(e.code());
  }
  return 0;
}
}  // namespace

TEST_CASE("first steps agree between providers and a wrong one is found") {
  REQUIRE(registered);
  for (const std::string optimizer : {"sgd", "adamw", "ivon", "von"}) {
    INFO(optimizer);
    const FirstSteps portable = steps_under("portable", optimizer), again = steps_under("portable", optimizer);
    const auto none = compare_first_steps(again, portable.file, "test");
    const size_t vectors = portable.file.states.size() + 1;  // and the mean
    CHECK(none.size() == 6 * vectors);
    for (const BackendDifference& d : none) CHECK(d.difference == 0);
    CHECK(wrong_ones(steps_under(backend::provider().name(), optimizer), portable.file) == 0);
    CHECK(wrong_ones(steps_under("wrong", optimizer), portable.file) > 0);
  }
}

TEST_CASE("a difference counts against what the steps changed") {
  const FirstSteps a = steps_under("portable", "ivon");
  io::PosteriorFile b = a.file;
  // The Hessian moves by 1e-5 of itself a step: an error of a tenth of that is found.
  for (auto& [name, flat] : b.states)
    if (name == "hess")
      for (size_t i = 0; i < flat.size(); ++i) flat[i] = a.start.at("hess")[i] + (flat[i] - a.start.at("hess")[i]) * 1.1f;
  for (const BackendDifference& d : compare_first_steps(a, b, "test")) CHECK(d.ok() == (d.state != "hess"));
  b.mean[3] = std::nanf("");
  CHECK(wrong_ones(a, b) == 6 + 1);
}

TEST_CASE("a reference from a file") {
  FirstSteps a = steps_under("portable", "ivon", 3);
  io::save_posterior(".", "reference.h5", a.file);
  io::PosteriorFile b = io::load_posterior("reference.h5");
  const auto [config, steps] = reference_config(b, "reference.h5", {});
  CHECK(steps == 3);
  CHECK(config.text("model.sizes") == "24,16");
  CHECK(wrong_ones(a, b) == 0);
  CHECK(code_of([&] { compare_first_steps(steps_under("portable", "adamw"), b, "b"); }) == 65);
  io::PosteriorFile other = b;
  other.data["digest"] = "1";
  CHECK(code_of([&] { compare_first_steps(a, other, "b"); }) == 65);
  other = b;
  other.tensors[1].name = "elsewhere";
  CHECK(code_of([&] { compare_first_steps(a, other, "b"); }) == 65);
  other = b;
  other.root["kind"] = "checkpoint";
  CHECK(code_of([&] { reference_config(other, "b", {}); }) == 65);
}
