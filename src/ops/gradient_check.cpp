#include "ops/gradient_check.hpp"

#include <cmath>

#include "ops/ops.hpp"

namespace varion {

namespace {
constexpr double kStep = 5e-4;  // small: a value that crosses a kink on the way spoils the comparison
constexpr double kTensorStep = 5e-4;  // along a unit vector

std::vector<Real> normals(std::uint64_t which, size_t n) {
  const Vec v("varion::check::normals", n);
  fill_normal(Exec(), RandomKey::make(7, Stream::test, which), v);
  const auto h = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), v);
  return {h.data(), h.data() + n};
}

void write(const Vec& to, const std::vector<Real>& from) {
  Kokkos::deep_copy(to, Kokkos::View<const Real*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>(
                            from.data(), from.size()));
}

std::vector<Real> read(const ConstVec& v) {
  const auto h = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), v);
  return {h.data(), h.data() + v.extent(0)};
}

/// One case with its graph; L(inputs, parameters) = sum(c y) in double on the host.
struct Check {
  const OpCase& c;
  Layout layout;
  Graph graph;
  std::vector<Node> inputs;
  Node y, root;
  std::vector<std::vector<Real>> values;  // of the inputs
  std::vector<Real> parameters, weights_of_sum;

  Check(const OpCase& op_case, bool loss) : c(op_case), graph(layout) {
    for (size_t i = 0; i < c.inputs.size(); ++i) {
      const bool integers = static_cast<int>(i) == c.integer_input;
      // A loss has no gradient by its targets, the second input.
      inputs.push_back(graph.input(c.inputs[i], integers, !integers && !(loss && i > 0)));
      values.push_back(normals(i, static_cast<size_t>(c.inputs[i].size())));
    }
    y = c.build(graph, inputs);
    graph.output(y);
    weights_of_sum = normals(100, static_cast<size_t>(graph.shape(y).size()));
    const Vec coefficients("varion::check::coefficients", weights_of_sum.size());
    write(coefficients, weights_of_sum);
    Record r;  // a root whose gradient by y is c
    r.op = "weighted_sum";
    r.inputs = {y};
    r.shape = {1};
    const Node from = y;
    r.forward = [](Replay&, Node) {};
    r.backward = [from, coefficients](Replay& p, Node) {
      Kokkos::deep_copy(p.grad(from).data, coefficients);
    };
    root = graph.record(std::move(r));
    graph.finish(true);
    parameters = normals(200, static_cast<size_t>(std::max<Index>(layout.size(), 1)));
    for (Real& v : parameters) v *= Real(0.5);
  }

  void run(Replay& p, const std::vector<std::vector<Real>>& x, const std::vector<Real>& w) {
    const Vec weights("varion::check::weights", w.size());
    write(weights, w);
    p.weights = weights;
    p.train = true;
    p.draw_from(RandomKey::make(7, Stream::dropout, 0));
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (static_cast<int>(i) != c.integer_input) {
        write(p.value(inputs[i]), x[i]);
        continue;
      }
      const IntVec labels = p.ints(inputs[i]);
      const auto host = Kokkos::create_mirror_view(labels);
      for (size_t k = 0; k < labels.extent(0); ++k)
        host(k) = static_cast<std::int32_t>((k * 7 + 3) % static_cast<size_t>(c.classes));
      Kokkos::deep_copy(labels, host);
    }
    p.forward();
  }

  double sum(const std::vector<std::vector<Real>>& x, const std::vector<Real>& w) {
    Replay p(graph, Exec());
    run(p, x, w);
    const auto out = read(p.value(y));
    double s = 0;
    for (size_t i = 0; i < out.size(); ++i)
      s += static_cast<double>(out[i]) * static_cast<double>(weights_of_sum[i]);
    return s;
  }

  /// Central difference along `d`, which starts at element `first` of `varied`.
  double slope(std::vector<Real>& varied, size_t first, const std::vector<Real>& d, double h) {
    const std::vector<Real> at = varied;
    const auto shifted = [&](double by) {
      for (size_t i = 0; i < d.size(); ++i) varied[first + i] = at[first + i] + static_cast<Real>(by) * d[i];
      return sum(values, parameters);
    };
    const double numeric = (shifted(h) - shifted(-h)) / (2 * h);
    varied = at;
    return numeric;
  }

  GradientResult compare(const std::string& name, const std::string& what, std::vector<Real>& varied,
                         const std::vector<Real>& gradient, double spoil) {
    const std::vector<Real> d = normals(300, varied.size());
    double analytic = 0, norm = 0;
    for (size_t i = 0; i < d.size(); ++i) {
      analytic += spoil * static_cast<double>(gradient[i]) * static_cast<double>(d[i]);
      norm += static_cast<double>(gradient[i]) * static_cast<double>(gradient[i]);
    }
    const double numeric = slope(varied, 0, d, kStep);
    const double error = std::abs(analytic - numeric) / (std::abs(numeric) + 0.1 * std::sqrt(norm) + 1e-6);
    return {name, c.label + ": " + what, error, 6 * c.tolerance, error <= 6 * c.tolerance};
  }
};

/// The gradient of the weighted sum by the parameters; gradients of inputs stay in `p`.
std::vector<Real> backward(Check& check, Replay& p) {
  const Vec gradient("varion::check::gradient", check.parameters.size());
  p.gradient = gradient;
  check.run(p, check.values, check.parameters);
  p.backward(check.root);
  return read(gradient);
}
}  // namespace

std::vector<GradientResult> check_tensor_gradients(const std::string& name, const OpCase& c, double spoil) {
  Check check(c, false);
  Vec start("varion::check::start", check.parameters.size());
  check.layout.initialise(Exec(), 7, start);
  check.parameters = read(start);
  Replay p(check.graph, Exec());
  const std::vector<Real> gradient = backward(check, p);
  std::vector<GradientResult> out;
  for (const Parameter& t : check.layout.parameters()) {
    const auto first = static_cast<size_t>(t.offset), count = static_cast<size_t>(t.size());
    std::vector<Real> d(gradient.begin() + t.offset, gradient.begin() + t.offset + t.size());
    double norm = 0;
    for (const Real v : d) norm += static_cast<double>(v) * static_cast<double>(v);
    norm = std::sqrt(norm);
    double error = 1;  // a tensor without gradient is wrong: every model's parameters matter
    if (norm > 0) {
      for (size_t i = 0; i < count; ++i) d[i] = static_cast<Real>(static_cast<double>(d[i]) / norm);
      error = std::abs(spoil * norm / check.slope(check.parameters, first, d, kTensorStep) - 1);
    }
    out.push_back({name, t.name, error, c.tolerance, error <= c.tolerance});
  }
  return out;
}

std::vector<GradientResult> check_op_gradients(double spoil) {
  std::vector<GradientResult> out;
  for (const auto& [name, op] : Ops::of().all())
    for (const OpCase& c : op.cases) {
      const bool loss = name.find("gaussian") == 0 || name == "mean_squared_error" || name == "cross_entropy";
      Check check(c, loss);
      Replay p(check.graph, Exec());
      const std::vector<Real> gradient = backward(check, p);
      std::vector<std::vector<Real>> by_input;  // all before the next forward pass, which uses their memory
      for (const Node n : check.inputs) by_input.push_back(p.wants_grad(n) ? read(p.grad_of(n)) : std::vector<Real>());
      for (size_t i = 0; i < check.inputs.size(); ++i)
        if (!by_input[i].empty())
          out.push_back(check.compare(name, "input " + std::to_string(i), check.values[i], by_input[i], spoil));
      if (check.layout.size() > 0)
        out.push_back(check.compare(name, "parameters", check.parameters, gradient, spoil));
    }
  return out;
}

}  // namespace varion
