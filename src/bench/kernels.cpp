// Kernels one by one: optimizers' steps, noise, the models' GEMMs and convolutions, FRN, losses, reductions.
#include <cmath>

#include "backends/backend.hpp"
#include "bench/bench.hpp"
#include "core/memory.hpp"
#include "core/random.hpp"
#include "ops/ops.hpp"
#include "optim/optimizer.hpp"
#include "train/network.hpp"

namespace varion {

/// Adds up standard normals in registers: what the generator costs without memory.
void noise_kernel(const Exec& exec, const RandomKey& key, Index blocks, Vec out) {
  Kokkos::parallel_for(
      "varion::bench::noise", Range(exec, 0, blocks), KOKKOS_LAMBDA(const Index b) {
        Real eps[kNoiseBlock];
        normal_block(key, b * kNoiseBlock, eps);
        Real sum = 0;
        for (int i = 0; i < kNoiseBlock; i += 4) sum += eps[i];
        if (sum > Real(1e30)) out(0) = sum;  // never; the numbers must not be dropped
      });
}

namespace {
Vec uniform(const Exec& exec, Index n, std::uint64_t which, const std::string& label = "varion::bench::data") {
  const Vec v = long_vector(label, n);
  fill_uniform(exec, RandomKey::make(1, Stream::test, which), Real(0.01), v);
  return v;
}

/// One step as training does it, the next step's weights included: every registered optimizer. Bytes: each state
/// read and written, the gradient read, and the weights written where they are not the mean itself, and
/// on a host read, for the displacement.
void optimizer_case(Bench& bench, const std::string& name, Index n) {
  const std::string label = text("optimizer/", name, "/", n);
  if (!bench.wants(label)) return;
  const Exec exec;
  Config c;
  c.set("optim.name", name, "bench");
  c.resolve();
  if (c.has("optim.ess")) c.set("optim.ess", "50000", "bench");
  Layout layout;
  layout.add("weight", {n, 1}, {Init::Kind::uniform, Real(0.05)});
  layout.finish();
  const auto optimizer = Optimizers::of().find(name).make(layout, c);
  layout.initialise(exec, 1, optimizer->mean());
  optimizer->start(exec);
  const Vec weights = optimizer->is_variational() ? long_vector("varion::bench::weights", n) : optimizer->mean();
  const Vec gradient = uniform(exec, n, 7, "varion::bench::gradient");
  const auto noise = [](std::uint64_t step) { return Noise{RandomKey::make(1, Stream::train_noise, step), {}}; };
  optimizer->perturb(exec, noise(1), weights);
  const double states = static_cast<double>(optimizer->state().size()), size = static_cast<double>(n);
  const double weight_words = !optimizer->is_variational() ? 0 : kHostExec ? 2 : 1;
  const double bytes = 4 * size * (2 * states + 1 + weight_words);
  std::uint64_t step = 0;
  bench.measure(label, {bytes, 0, size, "parameter", size}, [&] {
    ++step;
    optimizer->finish(exec, 0, noise(step), gradient, step, 1e-3, noise(step + 1), weights);
  });
}

void run_optimizers(Bench& bench) {
  for (const Index n : {Index(10000000), Index(124000000)})
    for (const std::string& name : Optimizers::of().names()) optimizer_case(bench, name, bench.size(n, n / 10000));
}

void run_noise(Bench& bench) {
  const Exec exec;
  const Index n = bench.size(124000000, 1280);
  if (!bench.wants("noise/compute") && !bench.wants("noise/stored")) return;
  const Vec out("varion::bench::noise", static_cast<size_t>(n));
  const RandomKey key = RandomKey::make(1, Stream::test, 3);
  const double size = static_cast<double>(n);
  bench.measure("noise/compute", {0, 0, size, "draw", 0}, [=] { noise_kernel(exec, key, n / kNoiseBlock, out); });
  bench.measure("noise/stored", {4 * size, 0, size, "draw", 0}, [=] { fill_normal(exec, key, out); });
}

/// The three GEMMs of a linear layer of the MLP: forward, weight gradient, input gradient. Then a block of GPT-2 (124M) forward on a
/// window of 1024 tokens (attention's output, its queries, keys and values, the two layers of its perceptron); the three of its second
/// perceptron layer and of the logits for 256 tokens, and of the 10M model's first one for 4096.
void run_gemm(Bench& bench) {
  const Exec exec;
  const auto one = [&](const std::string& form, bool ta, bool tb, Index m, Index n, Index k) {
    const std::string label = text("gemm/", form, "/", m, "x", n, "x", k);
    if (!bench.wants(label)) return;
    const Vec a = uniform(exec, m * k, 1), b = uniform(exec, k * n, 2), c = long_vector("varion::bench::c", m * n);
    const double size = static_cast<double>(m * n);
    bench.measure(label, {4 * static_cast<double>(m * k + k * n + m * n), 2 * size * static_cast<double>(k), 1, "", 0},
                  [&] { backend::provider().gemm(exec, ta, tb, m, n, k, a, b, false, c); });
  };
  const Index batch = bench.size(128, 4), width = bench.size(1024, 8), in = bench.size(784, 6);
  one("forward", false, true, batch, width, in);
  one("forward", false, true, batch, width, width);
  one("weight", true, false, width, width, batch);
  one("input", false, false, batch, width, width);
  one("forward", false, true, batch, 10, width);
  const Index tokens = bench.size(1024, 12), wide = bench.size(768, 6);
  for (const Index times : {1, 3, 4}) one("forward", false, true, tokens, times * wide, wide);
  one("forward", false, true, tokens, wide, 4 * wide);
  const auto all = [&](Index rows, Index out, Index deep) {
    one("forward", false, true, rows, out, deep);
    one("weight", true, false, out, deep, rows);
    one("input", false, false, rows, deep, out);
  };
  const Index few = bench.size(256, 8), narrow = bench.size(384, 5);
  all(few, wide, 4 * wide);
  all(few, bench.size(50304, 30), wide);
  all(bench.size(4096, 20), 4 * narrow, narrow);
}

/// resnet20's convolutions at batch 128, the 1 x 1 of its shortcuts among them, under every provider of the build.
void run_convolution(Bench& bench) {
  const Exec exec;
  struct Layer {
    Index size, in, out, kernel, stride;
  };
  const Index n = bench.size(128, 2);
  for (const backend::Provider* p : backend::providers())
    for (const Layer& l : {Layer{32, 3, 16, 3, 1}, Layer{32, 16, 16, 3, 1}, Layer{32, 16, 32, 3, 2},
                           Layer{16, 32, 32, 3, 1}, Layer{16, 32, 64, 3, 2}, Layer{8, 64, 64, 3, 1},
                           Layer{32, 16, 32, 1, 2}, Layer{16, 32, 64, 1, 2}}) {
      const std::string label = text("convolution/", l.kernel, "x", l.kernel, "/", l.in, "to", l.out, "@", l.size, "/", l.stride);
      if (!bench.wants(label + "/forward") && !bench.wants(label + "/weight") && !bench.wants(label + "/input")) continue;
      const Index before = l.stride == 1 ? 1 : 0, out = l.size / l.stride;
      const backend::Conv s{n, l.size, l.size, l.in, l.out, l.kernel, l.kernel, l.stride, before, before, out, out};
      const Index x_size = n * l.size * l.size * l.in, y_size = n * out * out * l.out;
      const Vec x = uniform(exec, x_size, 1), w = uniform(exec, l.out * s.patch(), 2), y = uniform(exec, y_size, 3);
      const Vec scratch("varion::bench::scratch", static_cast<size_t>(std::max(p->conv_scratch(s, false), p->conv_scratch(s, true))));
      const Work work{4 * static_cast<double>(x_size + y_size), 2 * static_cast<double>(y_size) * static_cast<double>(s.patch()),
                      static_cast<double>(n), "image", 0, p->name()};
      bench.measure(label + "/forward", work, [&] { p->conv_forward(exec, s, x, w, ConstVec(), y, scratch); });
      bench.measure(label + "/weight", work, [&] { p->conv_backward_weight(exec, s, x, y, false, w, scratch); });
      if (l.in > 3)  // an image's own gradient is never asked for
        bench.measure(label + "/input", work, [&] { p->conv_backward_data(exec, s, y, w, false, x, scratch); });
    }
}

/// Causal attention of GPT-2's shapes. Forward multiplies Q K^T and P V; backward forms the scores again, then four products more.
void run_attention(Bench& bench) {
  const Exec exec;
  const backend::Provider& p = backend::provider();
  struct Sizes {
    Index batch, heads, length;
  };
  for (const Sizes& f : {Sizes{16, 12, 1024}, Sizes{64, 6, 256}}) {
    const backend::Attention s{bench.size(f.batch, f.batch / 16), bench.size(f.length, 8), bench.size(f.heads, 2), bench.size(64, 16), true};
    const std::string label = text("attention/", s.batch, "x", s.heads, "x", s.length, "x", s.width);
    if (!bench.wants(label + "/forward") && !bench.wants(label + "/backward")) continue;
    const Index out = s.rows() * s.heads * s.width;
    const auto vector = [](Index n) { return Vec("varion::bench::attention", static_cast<size_t>(n)); };
    const Vec log_sum = vector(s.rows() * s.heads);
    const Vec scratch = vector(std::max<Index>(1, std::max(p.attention_scratch(s, false), p.attention_scratch(s, true))));
    const double product = static_cast<double>(out) * static_cast<double>(s.length), tokens = static_cast<double>(s.rows());
    const auto measure = [&](double word_bytes, const std::function<void()>& forward, const std::function<void()>& backward) {
      forward();  // backward reads what it leaves
      bench.measure(label + "/forward", {4 * word_bytes * static_cast<double>(out), 2 * product, tokens, "token", 0}, forward);
      bench.measure(label + "/backward", {8 * word_bytes * static_cast<double>(out), 5 * product, tokens, "token", 0}, backward);
    };
    const Vec qkv = uniform(exec, 3 * out, 1), dy = uniform(exec, out, 2);
    if (backend::keeps_bf16() && p.attends_bf16(s)) {
      const auto half = [](Index n) { return Bf16Vec("varion::bench::attention", static_cast<size_t>(n)); };
      const Bf16Vec small = half(3 * out), above = half(out), y = half(out), dqkv = half(3 * out);
      Kokkos::deep_copy(exec, small, qkv);
      Kokkos::deep_copy(exec, above, dy);
      measure(2, [&] { p.attention_forward_bf16(exec, s, small, y, log_sum); },
              [&] { p.attention_backward_bf16(exec, s, small, y, above, log_sum, false, dqkv, scratch); });
    } else {
      const Vec y = vector(out), dqkv = vector(3 * out);
      measure(4, [&] { p.attention_forward(exec, s, qkv, y, log_sum, scratch); },
              [&] { p.attention_backward(exec, s, qkv, y, dy, log_sum, false, dqkv, scratch); });
    }
  }
}

/// Forward, then forward and backward, of what `build` makes of an input, under a cross entropy. Bytes per input
/// element.
void op_case(Bench& bench, const std::string& label, const Shape& shape, double forward_bytes, double backward_bytes,
             const std::function<Node(Graph&, Node)>& build) {
  if (!bench.wants(label)) return;
  const Exec exec;
  Layout layout;
  Graph g(layout);
  const Node x = g.input(shape, false, true);
  const Node target = g.input({shape[0]}, true);
  const Node root = cross_entropy(g, build(g, x), target);
  g.output(root);
  layout.finish();
  g.finish(true);
  const Vec weights = long_vector("varion::bench::weights", std::max<Index>(layout.size(), 1));
  const Vec gradient("varion::bench::gradient", weights.extent(0));
  if (layout.size() > 0) layout.initialise(exec, 1, weights);
  Replay replay(g, exec);
  replay.weights = weights;
  replay.gradient = gradient;
  replay.train = true;
  fill_uniform(exec, RandomKey::make(1, Stream::test, 4), Real(1), replay.value(x));
  Kokkos::deep_copy(exec, replay.ints(target), 1);
  const double size = static_cast<double>(shape.size());
  bench.measure(label + "/forward", {forward_bytes * size, 0, size, "", 0}, [&] { replay.forward(); });
  bench.measure(label + "/both", {(forward_bytes + backward_bytes) * size, 0, size, "", 0}, [&] {
    replay.forward();
    replay.backward(root);
  });
}

void run_ops(Bench& bench) {
  const Index n = bench.size(128, 2);
  for (const auto& [side, c] : {std::pair<Index, Index>{32, 16}, {16, 32}, {8, 64}})
    op_case(bench, text("frn+mean/", c, "@", side), {n, side, side, c}, 8 + 4, 12 + 4,
            [](Graph& g, Node x) { return global_avg_pool(g, frn(g, x, "norm")); });
  op_case(bench, "cross_entropy/1024", {n, bench.size(1024, 5)}, 4, 8, [](Graph&, Node x) { return x; });
  const Exec exec;
  const Index size = bench.size(10000000, 1000);
  if (!bench.wants("norm")) return;
  const Vec v = uniform(exec, size, 1);
  SquareSum sum;
  bench.measure("norm", {4 * static_cast<double>(size), 0, static_cast<double>(size), "element", 0},
                [&] { sum.take(exec, v, 0, size); });
}

const bool registered_kernels =
    BenchCases::of().add("optimizers", {"one step of each at 1e7 and 1.24e8 parameters", 1, run_optimizers}) &&
    BenchCases::of().add("noise", {"standard normals, kept in registers and stored", 1, run_noise}) &&
    BenchCases::of().add("gemm", {"products of the MLP and of GPT-2", 1, run_gemm}) &&
    BenchCases::of().add("attention", {"causal attention of GPT-2's shapes", 1, run_attention}) &&
    BenchCases::of().add("convolution", {"resnet20's layers, every provider", 1, run_convolution}) &&
    BenchCases::of().add("ops", {"FRN, cross entropy, the gradient's norm", 1, run_ops});
}  // namespace

}  // namespace varion
