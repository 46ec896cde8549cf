// IVON against the golden vectors of the fact sheet (section 9, scalar double implementation), and its
// precision under hostile input.
#include <cmath>
#include <limits>

#include "optim/optimizer.hpp"
#include "support/catch.hpp"

using namespace varion;

namespace {
std::unique_ptr<Optimizer> make(const Layout& layout, const std::string& ini) {
  Config c;
  c.read_text(ini, "test");
  c.resolve();
  return Optimizers::of().find(c.text("optim.name")).make(layout, c);
}

Vec vec(const std::vector<Real>& v) {
  const Vec out("varion::test::vec", v.size());
  const auto h = Kokkos::create_mirror_view(out);
  for (size_t i = 0; i < v.size(); ++i) h(i) = v[i];
  Kokkos::deep_copy(out, h);
  return out;
}

std::vector<Real> host(const Vec& v) {
  const auto h = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), v);
  return {h.data(), h.data() + h.extent(0)};
}
}  // namespace

TEST_CASE("IVON follows the golden trajectory") {
  const double draws[8] = {.5, -1, 1.5, -.25, .75, -1.25, 2, -.5};
  const double a[3] = {1, .25, -.5}, b[3] = {.1, -.2, .3};
  struct Case {
    std::string option;
    double m[3], h[3];
  };
  const Case cases[] = {
      {"", {.456061291372, -1.569509716392, .455958896566}, {.580228414716, .474461437824, .449372468191}},
      {"clip_radius = 0.5\n", {.85, -1.85, .455958896566}, {.588406169548, .474161623359, .449372468191}},
      {"hess_approx = gradsq\n", {.637431232642, -1.645519317487, .457504046783}, {1.139663971245, .688704635109, .498873785847}}};
  for (const Case& c : cases) {
    Layout layout;
    layout.add("w", {3}, {});
    layout.finish();
    const auto o = make(layout, "[optim]\nname = ivon\nlr = 0.1\ness = 10\nbeta2 = 0.99\nweight_decay = 0.1\n"
                                "hess_init = 0.5\nmc_samples = 2\n" + c.option);
    const Exec exec;
    Kokkos::deep_copy(o->mean(), vec({1, -2, .5}));
    o->start(exec);
    const Vec weights("varion::test::weights", 3);
    for (int t = 1; t <= 5; ++t) {
      for (int k = 0; k < 2; ++k) {
        std::vector<Real> eps, g;
        for (int i = 0; i < 3; ++i) eps.push_back(static_cast<Real>(draws[(7 * t + 3 * k + i) % 8]));
        const Noise noise{{}, vec(eps)};
        o->perturb(exec, noise, weights);
        for (int i = 0; i < 3; ++i) g.push_back(static_cast<Real>(a[i] * static_cast<double>(host(weights)[static_cast<size_t>(i)]) + b[i]));
        o->collect(exec, k, noise, weights, vec(g));
      }
      o->update(exec, static_cast<std::uint64_t>(t), 0.1);
    }
    for (size_t i = 0; i < 3; ++i) {
      CHECK(static_cast<double>(host(o->mean())[i]) == Approx(c.m[i]).epsilon(1e-5));
      CHECK(static_cast<double>(host(o->state()[1].data)[i]) == Approx(c.h[i]).epsilon(1e-5));
    }
  }
}

TEST_CASE("IVON's precision stays positive whatever the gradient; VON counts its refusals") {
  const Index n = 1 << 18;
  for (const std::string name : {"ivon", "von"})
    for (const std::string options : {"beta2 = 0.9\nweight_decay = 0.01\n", "beta2 = 0.5\nweight_decay = 0\n",
                                      "beta2 = 0\nweight_decay = 1000\n"}) {
      Layout layout;
      layout.add("w", {1, n}, {});
      layout.finish();
      const auto o = make(layout, "[optim]\nname = " + name + "\ness = 50000\nhess_init = 0.0001\n" + options);
      const Exec exec;
      o->start(exec);
      std::vector<Real> g(static_cast<size_t>(n));
      const Vec weights("varion::test::weights", static_cast<size_t>(n));
      std::int64_t refused = 0;
      for (std::uint64_t step = 1; step <= 8; ++step) {
        const RandomKey key = RandomKey::make(3, Stream::test, step);
        for (Index i = 0; i < n; ++i)  // magnitudes over 16 decades, both signs by the noise
          g[static_cast<size_t>(i)] = std::pow(10.f, static_cast<Real>(16 * unit_interval(key.words(i).w[0]) - 10));
        o->perturb(exec, {key, {}}, weights);
        o->collect(exec, 0, {key, {}}, weights, vec(g));
        o->update(exec, step, 1e-6);
        const StepReport r = o->take_report(exec);
        refused += r.nonpositive;
        for (const Real s : host(o->sigma(exec))) REQUIRE((s > 0 || r.nonfinite > 0));
      }
      if (name == "von") CHECK(refused > 0);
    }
}

TEST_CASE("a gradient that is not finite is counted in the step that takes it, whatever the clip radius") {
  const Index n = 300;
  for (const std::string options : {"name = ivon\n", "name = ivon\nclip_radius = 0.5\n", "name = ivon\nhess_approx = gradsq\n",
                                    "name = von\n", "name = adamw\n", "name = sgd\n"})
    for (const Real bad : {std::nanf(""), std::numeric_limits<Real>::infinity()}) {
      Layout layout;
      layout.add("w", {1, n}, {Init::Kind::uniform, Real(0.5)});
      layout.finish();
      const auto o = make(layout, "[optim]\ness = 100\n" + options);
      const Exec exec;
      layout.initialise(exec, 3, o->mean());
      o->start(exec);
      const Vec weights = o->is_variational() ? Vec("varion::test::weights", n) : o->mean();
      const auto noise = [](std::uint64_t step) { return Noise{RandomKey::make(5, Stream::test, step), {}}; };
      o->perturb(exec, noise(1), weights);
      for (std::uint64_t step = 1; step <= 4; ++step) {
        std::vector<Real> g(static_cast<size_t>(n), Real(0.01));
        if (step == 3) g[200] = bad;
        o->finish(exec, 0, noise(step), vec(g), step, 0.1, noise(step + 1), weights);
        if (step == 2) CHECK(o->take_report(exec).nonfinite == 0);
      }
      const StepReport r = o->take_report(exec);
      INFO(options << " with " << bad);
      CHECK(r.nonfinite >= 1);
      CHECK(r.first_bad == 3);
    }
}

TEST_CASE("the fused step has the bits of collect, update and perturb") {
  const Index n = 1003;  // no multiple of a noise block, two groups
  for (const std::string options : {"name = ivon\n", "name = von\n", "name = ivon\nhess_approx = gradsq\n",
                                    "name = ivon\nmc_samples = 3\n", "name = adamw\n", "name = sgd\n"}) {
    Layout layout;
    layout.add("w", {10, 100}, {Init::Kind::uniform, Real(0.5)});
    layout.add("b", {3}, {Init::Kind::uniform, Real(0.5)});
    layout.finish();
    std::string ini = "[optim]\n" + options;
    ini += "weight_decay_1d = 0.5\n";
    if (options.find("von") != std::string::npos) ini += "ess = 50\nhess_init_1d = 3\nbeta2 = 0.99\n";
    const auto a = make(layout, ini), b = make(layout, ini);
    const Exec exec;
    const Vec wa("varion::test::wa", static_cast<size_t>(n)), wb("varion::test::wb", static_cast<size_t>(n));
    const auto noise = [](std::uint64_t step, int sample) {
      return Noise{RandomKey::make(5, Stream::test, step, static_cast<std::uint64_t>(sample)), {}};
    };
    for (const auto& o : {a.get(), b.get()}) {
      layout.initialise(exec, 3, o->mean());
      o->start(exec);
    }
    for (std::uint64_t step = 1; step < 5; ++step) {
      const int samples = a->samples_per_step();
      for (int s = 0; s < samples; ++s) {
        if (s > 0 || step == 1) {
          a->perturb(exec, noise(step, s), wa);
          b->perturb(exec, noise(step, s), wb);
        }
        const Vec g("varion::test::g", static_cast<size_t>(n));
        fill_normal(exec, RandomKey::make(6, Stream::test, step, static_cast<std::uint64_t>(s)), g);
        a->collect(exec, s, noise(step, s), wa, g);
        if (s + 1 < samples) {
          b->collect(exec, s, noise(step, s), wb, g);
        } else {
          a->update(exec, step, 0.1);
          a->perturb(exec, noise(step + 1, 0), wa);
          b->finish(exec, s, noise(step, s), g, step, 0.1, noise(step + 1, 0), wb);
        }
      }
      INFO(options);
      CHECK(host(wa) == host(wb));
      for (size_t k = 0; k < a->state().size(); ++k) CHECK(host(a->state()[k].data) == host(b->state()[k].data));
    }
  }
}

TEST_CASE("options of 1-D tensors reach them and nothing else") {
  Layout layout;
  layout.add("w", {2, 3}, {});
  layout.add("b", {4}, {});
  layout.finish();
  const Exec exec;
  for (const std::string name : {"adamw", "sgd"}) {
    const auto o = make(layout, "[optim]\nname = " + name + "\nweight_decay = 0\nweight_decay_1d = 0.5\n");
    Kokkos::deep_copy(o->mean(), Real(1));
    o->start(exec);
    o->collect(exec, 0, {}, o->mean(), vec(std::vector<Real>(10, 0)));
    o->update(exec, 1, 0.1);
    CHECK(host(o->mean())[5] == 1);
    CHECK(host(o->mean())[6] == Approx(0.95));
  }
  const auto o = make(layout, "[optim]\nname = ivon\ness = 4\nhess_init = 1\nhess_init_1d = 9\nweight_decay = 0\n");
  o->start(exec);
  CHECK(host(o->sigma(exec))[5] == Approx(0.5));
  CHECK(host(o->sigma(exec))[6] == Approx(1. / 6));
}
