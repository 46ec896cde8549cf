// A trainer whose state is replaced goes on as one that was made with it; what IVON collects of clipped gradients.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "support/catch.hpp"
#include "support/config.hpp"
#include "support/vectors.hpp"
#include "train/network.hpp"

using namespace varion;

namespace {
using Settings = std::vector<std::pair<std::string, std::string>>;
Settings joined(Settings a, const Settings& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct Run {
  // Every slot has weights of its own, and the last step leaves those of the next.
  explicit Run(const Settings& more = {})
      : config(config_of(joined({{"data.name", "moons"}, {"model.sizes", "9"}, {"data.global_batch", "32"}, {"parallel.slots", "2"},
                                 {"optim.ess", "1000"}}, more))) {}
  const Config config;
  const DataSet data = load_data(config);
  Layout layout;
  Trainer trainer{layout, config, data, Exec()};
  void step(std::uint64_t k) { trainer.step(k, (k - 1) * 32, 0.1, false); }
  std::vector<std::vector<double>> state() {
    std::vector<std::vector<double>> out;
    for (const StateVector& s : trainer.optimizer().state()) out.push_back(host(s.data));
    return out;
  }
  void take_up(Run& from) {
    const auto own = trainer.optimizer().state(), other = from.trainer.optimizer().state();
    for (size_t k = 0; k < own.size(); ++k) Kokkos::deep_copy(own[k].data, other[k].data);
    trainer.state_replaced();
  }
};

using Numbers = std::vector<double>;

double norm(const Numbers& v) { return std::sqrt(std::inner_product(v.begin(), v.end(), v.begin(), 0.0)); }

Numbers minus(Numbers a, const Numbers& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return a;
}

/// |a - b| / |b|.
double relative(const Numbers& a, const Numbers& b) { return norm(minus(a, b)) / norm(b); }

Numbers clipped(Numbers g, double limit) {
  const double n = norm(g);
  for (double& v : g) v *= n > limit ? limit / n : 1;
  return g;
}

/// A slot's sample: the gradient of its mean loss, not clipped, and w - m.
struct MicroBatch {
  Numbers gradient, moved;
};

/// Those of the first step, slot by slot.
std::vector<MicroBatch> micro_batches(Run& run) {
  const Exec exec;
  Trainer& trainer = run.trainer;
  const Index slots = trainer.slots(), n = trainer.batch() / slots;
  const bool shared = run.config.text("parallel.noise") == "shared";
  BatchGraph net(run.layout, run.config, run.data, n, true);
  const DeviceExamples examples(exec, run.data.train);
  const BatchPlan plan(n, run.data.flip, run.data.crop_pad);
  const Vec weights = poisoned(run.layout.size()), gradient = poisoned(run.layout.size());
  Replay replay(net.graph, exec);
  replay.weights = weights;
  replay.gradient = gradient;
  replay.train = true;
  std::vector<MicroBatch> out;
  for (Index slot = 0; slot < slots; ++slot) {
    plan.shuffled(exec, static_cast<std::uint64_t>(run.config.integer("run.seed")), static_cast<std::uint64_t>(slot * n), examples.count);
    plan.gather(exec, examples, replay.value(net.x));
    plan.gather_labels(exec, examples, replay.ints(net.target));
    for (int sample = 0; sample < trainer.optimizer().samples_per_step(); ++sample) {
      trainer.optimizer().perturb(exec, trainer.noise(1, sample, shared ? 0 : slot), weights);
      replay.forward();
      replay.backward(net.loss);
      out.push_back({host(gradient), minus(host(weights), host(trainer.optimizer().mean()))});
    }
  }
  return out;
}
}  // namespace

TEST_CASE("after a state was replaced, the next step's weights are drawn from it") {
  Run first, back, fresh;
  first.step(1);
  back.step(1);
  back.step(2);  // leaves the weights of step 3, from a state that is given up
  back.take_up(first);
  fresh.take_up(first);
  back.step(3);
  fresh.step(3);
  CHECK(back.state() == fresh.state());
}

TEST_CASE("IVON clips every slot's and sample's gradient before it is collected") {
  struct Case {
    const char *slots, *samples, *noise;
  };
  for (const Case& c : {Case{"2", "1", "per_slot"}, Case{"2", "1", "shared"}, Case{"1", "2", "per_slot"}, Case{"2", "2", "per_slot"}}) {
    // Few examples and much noise, so that gradients differ; a short memory, so that the Hessian moves.
    const Settings settings{{"optim.name", "ivon"}, {"data.global_batch", "4"}, {"optim.ess", "100"}, {"optim.beta2", "0.9"},
                            {"parallel.slots", c.slots}, {"optim.mc_samples", c.samples}, {"parallel.noise", c.noise}};
    Run open(settings);
    const std::vector<MicroBatch> all = micro_batches(open);
    const auto count = static_cast<double>(all.size());
    Numbers norms;
    for (const MicroBatch& b : all) norms.push_back(norm(b.gradient));
    const auto [least, most] = std::minmax_element(norms.begin(), norms.end());
    // All of them are clipped, and some.
    for (const double bound : {*least / 2, (*least + *most) / 2}) {
      INFO(c.slots << " slots, " << c.samples << " samples, noise " << c.noise << ", norms " << *least << " to " << *most << ", at most " << bound);
      Run run(joined(settings, {{"optim.grad_clip", std::to_string(bound)}}));
      const auto before = run.state();
      run.trainer.step(1, 0, 1, false);
      const auto after = run.state();
      const auto option = [&](const char* key) { return run.config.real(key); };
      const double limit = option("optim.grad_clip");

      // The means of the clipped gradients g, of (w - m) g and of the gradients as they are, and the step (docs/equations.md).
      Numbers g(before[0].size()), curvature(g.size()), plain(g.size());
      for (const MicroBatch& b : all) {
        const Numbers one = clipped(b.gradient, limit);
        for (size_t i = 0; i < g.size(); ++i) {
          g[i] += one[i] / count;
          curvature[i] += b.moved[i] * one[i] / count;
          plain[i] += b.gradient[i] / count;
        }
      }
      Numbers mean_moves(g.size()), hess_moves(g.size()), momentum(g.size());
      const double delta = option("optim.weight_decay"), rate = option("optim.hess_init") + delta;
      for (size_t i = 0; i < g.size(); ++i) {
        const double h = before[1][i], s = h + delta, f = option("optim.ess") * s * curvature[i];
        const double t = s + (1 - option("optim.beta2")) * (f - h), next = (s + t * t / s) / 2;
        momentum[i] = (1 - option("optim.beta1")) * g[i];
        hess_moves[i] = next - s;
        mean_moves[i] = -rate * (g[i] + delta * before[0][i]) / next;
      }
      CHECK(relative(minus(after[0], before[0]), mean_moves) < 5e-5);
      CHECK(relative(minus(after[1], before[1]), hess_moves) < 5e-5);
      CHECK(relative(after[2], momentum) < 5e-5);
      // The mean as it is, and clipped, are something else.
      CHECK(relative(plain, g) > 1e-3);
      CHECK(relative(clipped(plain, limit), g) > 1e-3);
    }
  }
}
