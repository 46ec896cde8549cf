// What the training step needs of an optimizer. Variational ones choose the weights at which the
// gradient is taken, and tell the posterior.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/layout.hpp"
#include "core/memory.hpp"
#include "core/options.hpp"
#include "core/random.hpp"
#include "core/registry.hpp"

namespace varion {

/// A named vector of an optimizer's state, in the layout of the parameters.
struct StateVector {
  std::string name;  // "mean", "hess", "momentum", "exp_avg" ...
  Vec data;          // [P], or this process' own stretch of it
};

/// Where the standard normals of a sample come from: the counter, or (replaying a trace) a vector.
struct Noise {
  RandomKey key;
  ConstVec given;  // empty: draw from `key`
};

/// Counts of the steps since they were last read.
struct StepReport {
  std::int64_t nonfinite = 0;    // entries whose new state is NaN or infinite
  std::int64_t nonpositive = 0;  // VON: refused Hessian updates; IVON: floored entries
  std::int64_t first_bad = 0;    // the first step with a non-finite entry; 0: none
};
using DeviceReport = Kokkos::View<std::int64_t[3], Memory>;

/// Adds a block's counts: what is wrong is rare, so that no reduction runs and nobody waits. Integers: any order
/// gives the same sums.
KOKKOS_INLINE_FUNCTION void add_report(const DeviceReport& report, std::uint64_t step, int nonfinite, int nonpositive) {
  if (nonfinite > 0) {
    Kokkos::atomic_add(&report(0), std::int64_t(nonfinite));
    Kokkos::atomic_compare_exchange(&report(2), std::int64_t(0), static_cast<std::int64_t>(step));
  }
  if (nonpositive > 0) Kokkos::atomic_add(&report(1), std::int64_t(nonpositive));
}

class Optimizer {
 public:
  /// `variational`: the mean is a state of its own, not the weights.
  Optimizer(const Layout& layout, std::string name, bool variational) : layout_(layout), name_(std::move(name)) {
    mean_ = variational ? own_vector("varion::optim::mean") : long_vector("varion::optim::mean", layout.size());
    report_ = DeviceReport("varion::optim::report");
  }
  virtual ~Optimizer() = default;

  const std::string& name() const { return name_; }
  /// Where other ranks keep parts of the posterior, only this one's numbers of it are meant; a point estimate's are the
  /// weights, which every rank has.
  Vec mean() const { return mean_; }
  Index size() const { return layout_.size(); }
  /// The stretch that is kept here.
  Index own_begin() const { return layout_.own_begin(); }
  Index own_size() const { return layout_.own_size(); }

  /// Starts from the weights in mean(): states to their initial values.
  virtual void start(const Exec&) = 0;
  /// Writes the weights at which sample `sample` of this step's gradient is taken.
  virtual void perturb(const Exec&, const Noise&, Vec weights) const = 0;
  /// Takes in the gradient of the mean loss at `weights`, which `perturb` wrote with this noise; samples come in
  /// order 0, 1, ... The gradient of the last sample stays untouched until `update`.
  virtual void collect(const Exec&, int sample, const Noise&, ConstVec weights, ConstVec gradient) = 0;
  /// How many vectors `collect` makes of its samples, for `update`: means, which may be averaged over several slots. The
  /// first is that of the gradient. 0: the last gradient itself, which is then averaged before it is collected.
  virtual size_t collects() const { return 0; }
  /// The vectors [P] to collect into, and to update from. Without this call an optimizer makes its own when it needs them. The
  /// first may be the gradient itself where a step has one sample.
  virtual void collect_in(const std::vector<Vec>&) {}
  /// Those vectors; nothing before there are any.
  virtual std::vector<Vec> collected() const { return {}; }
  /// One step on the samples collected. `step` counts from 1, `lr` is the schedule's value.
  virtual void update(const Exec&, std::uint64_t step, double lr) = 0;

  /// update, and the next step's perturb, in one pass where that is possible. The same bits as the two calls.
  virtual void update_and_perturb(const Exec& exec, std::uint64_t step, double lr, const Noise& next, Vec weights) {
    update(exec, step, lr);
    perturb(exec, next, weights);
  }

  /// collect of the last sample, update, and the next step's perturb: what a fused kernel does in one pass, from the
  /// weights of this step to those of the next. The same bits as the three calls.
  virtual void finish(const Exec& exec, int sample, const Noise& noise, ConstVec gradient, std::uint64_t step,
                      double lr, const Noise& next, Vec weights) {
    collect(exec, sample, noise, weights, gradient);
    update(exec, step, lr);
    perturb(exec, next, weights);
  }

  virtual int samples_per_step() const { return 1; }
  virtual bool is_variational() const { return false; }
  /// A draw from the posterior, sigma = 1/sqrt(ess (hess + weight_decay)); a point estimate is its mean.
  virtual void sample(const Exec& exec, const RandomKey& key, Vec weights) const {
    perturb(exec, {key, {}}, weights);
  }
  /// sigma of every weight; empty for point estimates.
  virtual Vec sigma(const Exec&) const { return {}; }

  /// Everything a restart needs besides the step count, "mean" first; the own stretches.
  virtual std::vector<StateVector> state() const = 0;
  /// Attributes for the posterior file: name and value, as text.
  virtual std::vector<std::pair<std::string, double>> attributes() const = 0;

  /// Reads and clears the counts; waits for the device.
  StepReport take_report(const Exec& exec) {
    auto host = Kokkos::create_mirror_view(report_);
    Kokkos::deep_copy(exec, host, report_);
    exec.fence();  // the host reads the step's counts
    const StepReport r{host(0), host(1), host(2)};
    Kokkos::deep_copy(exec, report_, std::int64_t(0));
    return r;
  }

 protected:
  /// Zeros for this process' own stretch, addressed like a whole vector: no kernel asks for numbers outside of it.
  Vec own_vector(const std::string& label) {
    const Vec v = long_vector(label, layout_.own_size());
    if (layout_.own_size() == layout_.size()) return v;
    kept_.push_back(v);
    return Vec(v.data() - layout_.own_begin(), static_cast<size_t>(layout_.own_end()));
  }
  /// The own stretch of a vector so addressed.
  Vec own(const Vec& v) const { return slice(v, layout_.own_begin(), layout_.own_size()); }

  const Layout& layout_;
  std::vector<Vec> kept_;
  std::string name_;
  Vec mean_;                             // [P], never overwritten by a sample
  DeviceReport report_;
};

/// An option's value for matrices and, from KEY_1d unless that is negative, for 1-D tensors.
inline std::array<double, Layout::kGroups> per_group(const Config& c, const std::string& key) {
  const double all = c.real(key), vectors = c.real(key + "_1d");
  require(vectors >= 0 || vectors == -1, Exit::config, key, "_1d = ", vectors, " must be 0 or more, or -1 for ", key);
  return {all, vectors < 0 ? all : vectors};
}

/// What an optimizer registers: how to build it (its options go to `add_options`).
struct OptimizerEntry {
  static const char* kind() { return "optimizer"; }
  std::string help;
  bool variational;
  std::function<std::unique_ptr<Optimizer>(const Layout&, const Config&)> make;
};
using Optimizers = Registry<OptimizerEntry>;

/// 1 where a value is NaN or infinite.
KOKKOS_INLINE_FUNCTION int not_finite(Real v) { return v - v == 0 ? 0 : 1; }

}  // namespace varion
