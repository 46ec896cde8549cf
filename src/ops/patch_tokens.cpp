// Patches of images become the tokens of a transformer (Dosovitskiy et al. 2021, eq. 1).
#include "ops/ops.hpp"

namespace varion {

/// y[n L + t] = x[n S + t - c] + positions[t], S = L - c patches; row 0 is the class token where c = 1. 12 bytes per element.
void patch_tokens_forward(const Exec& exec, Index images, Index length, Index width, ConstVec x, ConstVec positions, ConstVec cls, Vec y) {
  const Index c = cls.extent(0) > 0 ? 1 : 0;
  constexpr Index step = kHostExec ? 256 : 1;  // columns an item
  const Index across = (width + step - 1) / step;
  Kokkos::parallel_for(
      "varion::patch_tokens::forward", Range(exec, 0, images * length * across), KOKKOS_LAMBDA(const Index item) {
        const Index row = item / across, first = item % across * step, end = width - first < step ? width : first + step;
        const Index n = row / length, t = row % length;
        const Real* const from = t < c ? cls.data() : x.data() + (n * (length - c) + t - c) * width;
        const Real* const position = positions.data() + t * width;
        Real* const to = y.data() + row * width;
        VARION_IVDEP
        for (Index d = first; d < end; ++d) to[d] = from[d] + position[d];
      });
}

/// dx[n S + t] (+)= dy[n L + c + t]. 8 bytes per element.
void patch_tokens_backward(const Exec& exec, Index images, Index length, Index width, Index c, ConstVec dy, GradSlot out) {
  const Vec dx = out.data;
  const bool add = out.add;
  constexpr Index step = kHostExec ? 256 : 1;
  const Index across = (width + step - 1) / step, patches = length - c;
  Kokkos::parallel_for(
      "varion::patch_tokens::backward", Range(exec, 0, images * patches * across), KOKKOS_LAMBDA(const Index item) {
        const Index row = item / across, first = item % across * step, end = width - first < step ? width : first + step;
        const Real* const from = dy.data() + (row / patches * length + c + row % patches) * width;
        Real* const to = dx.data() + row * width;
        if (add) {
          VARION_IVDEP
          for (Index d = first; d < end; ++d) to[d] += from[d];
        } else {
          VARION_IVDEP
          for (Index d = first; d < end; ++d) to[d] = from[d];
        }
      });
}

/// sum[t] (+)= dy[t] + dy[L + t] + ..., image after image, for the first `rows` rows of a sequence. 4 bytes read per element.
void sum_over_images(const Exec& exec, Index images, Index length, Index width, Index rows, ConstVec dy, GradSlot out) {
  const Vec to = out.data;
  const bool add = out.add;
  constexpr Index step = kHostExec ? 256 : 1;
  const Index across = (width + step - 1) / step;
  Kokkos::parallel_for(
      "varion::patch_tokens::sum", Range(exec, 0, rows * across), KOKKOS_LAMBDA(const Index item) {
        const Index t = item / across, first = item % across * step, end = width - first < step ? width : first + step;
        Real* const sum = to.data() + t * width;
        if (!add)
          for (Index d = first; d < end; ++d) sum[d] = 0;
        for (Index n = 0; n < images; ++n) {
          const Real* const from = dy.data() + (n * length + t) * width;
          VARION_IVDEP
          for (Index d = first; d < end; ++d) sum[d] += from[d];
        }
      });
}

Node patch_tokens(Graph& g, Node x, const std::string& name, bool class_token) {
  const Shape s = g.shape(x);
  ensure(s.rank >= 3, "patch_tokens wants [N, h, w, D] or [N, T, D], not ", s.text());
  const Index images = s[0], width = s[s.rank - 1], c = class_token ? 1 : 0, length = s.stride0() / width + c;
  const std::string prefix = name.empty() ? "" : name + ".";
  const int cls = class_token ? g.parameter(prefix + "cls_token", {1, 1, width}, {Init::Kind::normal, Real(1e-6)}) : -1;
  const int positions = g.parameter(prefix + "pos_embed", {1, length, width}, {Init::Kind::normal, Real(0.02)});
  Record r;
  r.op = "patch_tokens";
  r.inputs = {x};
  r.parameters = {positions};
  if (class_token) r.parameters.push_back(cls);
  r.shape = {images * length, width};
  r.forward = [=](Replay& p, Node y) {
    patch_tokens_forward(p.exec, images, length, width, p.value(x), p.parameter(positions), class_token ? p.parameter(cls) : ConstVec(),
                         p.value(y));
  };
  r.backward = [=](Replay& p, Node y) {
    const ConstVec dy = p.grad_of(y);
    if (p.trains(positions)) sum_over_images(p.exec, images, length, width, length, dy, p.parameter_grad(positions));
    if (class_token && p.trains(cls)) sum_over_images(p.exec, images, length, width, 1, dy, p.parameter_grad(cls));
    if (p.wants_grad(x)) patch_tokens_backward(p.exec, images, length, width, c, dy, p.grad(x));
  };
  return g.record(std::move(r));
}

namespace {
bool register_patch_tokens() {
  return Ops::of().add(
      "patch_tokens", {"patches, a class token, positions",
                       {{"3 images of 2x3 patches", {{3, 2, 3, 5}},
                         [](Graph& g, const std::vector<Node>& x) { return patch_tokens(g, x[0], "", true); }},
                        {"no class token, two uses", {{2, 3, 7}}, [](Graph& g, const std::vector<Node>& x) {
                           return add(g, patch_tokens(g, x[0], "a", false), patch_tokens(g, x[0], "b", false));
                         }}}});
}
const bool registered_patch_tokens = register_patch_tokens();
}  // namespace

}  // namespace varion
