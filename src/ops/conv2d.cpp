#include <algorithm>
#include <cmath>

#include "backends/backend.hpp"
#include "ops/column_sum.hpp"
#include "ops/ops.hpp"

namespace varion {

/// Output extent and padding before the first pixel along one axis.
/// SAME (TensorFlow): out = ceil(in / stride), total padding split with the odd pixel at the end.
struct Axis {
  Index out, before;
  Axis(Index in, Index kernel, const ConvOptions& o) {
    if (o.same) {
      out = (in + o.stride - 1) / o.stride;
      before = std::max<Index>((out - 1) * o.stride + kernel - in, 0) / 2;
    } else {
      out = in + 2 * o.pad < kernel ? 0 : (in + 2 * o.pad - kernel) / o.stride + 1;
      before = o.pad;
    }
  }
};

Node conv2d(Graph& g, Node x, const std::string& name, Index out, Index kernel,
            const ConvOptions& options) {
  const Shape s = g.shape(x);
  ensure(s.rank == 4, "conv2d '", name, "' wants [N, H, W, C], not ", s.text());
  const Axis vertical(s[1], kernel, options), horizontal(s[2], kernel, options);
  ensure(vertical.out > 0 && horizontal.out > 0, "conv2d '", name, "': kernel ", kernel,
         " is larger than the image ", s.text());
  const backend::Conv conv{s[0],   s[1],           s[2],            s[3],
                           out,    kernel,         kernel,          options.stride,
                           vertical.before, horizontal.before, vertical.out, horizontal.out};
  const Init init{Init::Kind::uniform, 1 / std::sqrt(static_cast<Real>(s[3] * kernel * kernel))};
  const int w = g.parameter(name + ".weight", {out, s[3], kernel, kernel}, init);
  const bool bias = options.bias;
  const int b = bias ? g.parameter(name + ".bias", {out}, init) : -1;
  Record r;
  r.op = "conv2d";
  r.inputs = {x};
  r.parameters = {w};
  if (bias) r.parameters.push_back(b);
  r.shape = {s[0], conv.ho, conv.wo, out};
  if (g.trains(w)) r.keep = {x};
  r.flops = 2.0 * static_cast<double>(conv.n * conv.ho * conv.wo * out) * static_cast<double>(conv.patch());
  r.scratch_forward = backend::provider().conv_scratch(conv, false);
  const Index pixels = conv.n * conv.ho * conv.wo;
  r.scratch_backward = std::max(backend::provider().conv_scratch(conv, true), bias ? column_sum_words(pixels, out) : 0);
  r.forward = [=](Replay& p, Node y) {
    backend::provider().conv_forward(p.exec, conv, p.value(x), p.parameter(w),
                                     bias ? p.parameter(b) : ConstVec(), p.value(y), p.scratch(y));
  };
  r.backward = [=](Replay& p, Node y) {
    const ConstVec dy = p.grad_of(y);
    if (p.trains(w)) {
      const GradSlot dw = p.parameter_grad(w);
      backend::provider().conv_backward_weight(p.exec, conv, p.value(x), dy, dw.add, dw.data, p.scratch(y));
    }
    if (bias && p.trains(b)) column_sum(p.exec, pixels, out, dy, p.parameter_grad(b), p.scratch(y));
    if (!p.wants_grad(x)) return;
    const GradSlot dx = p.grad(x);
    backend::provider().conv_backward_data(p.exec, conv, dy, p.parameter(w), dx.add, dx.data,
                                           p.scratch(y));
  };
  return g.record(std::move(r));
}

namespace {
bool register_conv2d() {
  return Ops::of().add(
      "conv2d",
      {"2-D convolution, channels last",
       {{"3x3 same", {{2, 6, 5, 3}}, [](Graph& g, const std::vector<Node>& x) {
           return conv2d(g, x[0], "conv", 4, 3, {1, true, 0, true});
         }},
        {"3x3 stride 2 same (0 before, 1 after)", {{2, 6, 6, 3}},
         [](Graph& g, const std::vector<Node>& x) {
           return conv2d(g, x[0], "conv", 5, 3, {2, true, 0, true});
         }},
        {"2x2 same, odd size", {{1, 5, 7, 2}}, [](Graph& g, const std::vector<Node>& x) {
           return conv2d(g, x[0], "conv", 3, 2, {1, true, 0, true});
         }},
        {"1x1 stride 2, no bias", {{3, 4, 4, 5}}, [](Graph& g, const std::vector<Node>& x) {
           return conv2d(g, x[0], "conv", 2, 1, {2, false, 0, true});
         }},
        {"5x5 pad 2", {{2, 7, 7, 1}}, [](Graph& g, const std::vector<Node>& x) {
           return conv2d(g, x[0], "conv", 6, 5, {1, true, 2, false});
         }}}});
}
const bool registered_conv2d = register_conv2d();
}  // namespace

}  // namespace varion
