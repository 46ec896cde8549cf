// The mean over the rows of every sequence.
#include "ops/ops.hpp"

namespace varion {

/// y[n] = (x[n L] + x[n L + 1] + ...) / L, row after row. 4 bytes read per element of x.
void mean_token_forward(const Exec& exec, Index sequences, Index length, Index width, ConstVec x, Vec y) {
  const Real share = 1 / static_cast<Real>(length);
  constexpr Index step = kHostExec ? 256 : 1;  // columns an item
  const Index across = (width + step - 1) / step;
  Kokkos::parallel_for(
      "varion::mean_token::forward", Range(exec, 0, sequences * across), KOKKOS_LAMBDA(const Index item) {
        const Index n = item / across, first = item % across * step, end = width - first < step ? width : first + step;
        Real* const mean = y.data() + n * width;
        for (Index d = first; d < end; ++d) mean[d] = 0;
        for (Index t = 0; t < length; ++t) {
          const Real* const row = x.data() + (n * length + t) * width;
          VARION_IVDEP
          for (Index d = first; d < end; ++d) mean[d] += row[d];
        }
        for (Index d = first; d < end; ++d) mean[d] *= share;
      });
}

/// dx[n L + t] (+)= dy[n] / L. 4 bytes written per element of x.
void mean_token_backward(const Exec& exec, Index sequences, Index length, Index width, ConstVec dy, GradSlot out) {
  const Vec dx = out.data;
  const bool add = out.add;
  const Real share = 1 / static_cast<Real>(length);
  Kokkos::parallel_for(
      "varion::mean_token::backward", Range(exec, 0, sequences * length * width), KOKKOS_LAMBDA(const Index i) {
        const Real v = share * dy(i / width / length * width + i % width);
        dx(i) = add ? dx(i) + v : v;
      });
}

Node mean_token(Graph& g, Node x, Index length) {
  const Shape s = g.shape(x);
  ensure(s.rank == 2 && length >= 1 && s[0] % length == 0, "mean_token of sequences of ", length, " wants [N length, D], not ", s.text());
  const Index sequences = s[0] / length, width = s[1];
  Record r;
  r.op = "mean_token";
  r.inputs = {x};
  r.shape = {sequences, width};
  r.forward = [=](Replay& p, Node y) { mean_token_forward(p.exec, sequences, length, width, p.value(x), p.value(y)); };
  r.backward = [=](Replay& p, Node y) { mean_token_backward(p.exec, sequences, length, width, p.grad_of(y), p.grad(x)); };
  return g.record(std::move(r));
}

namespace {
bool register_mean_token() {
  return Ops::of().add(
      "mean_token", {"the mean over every sequence's rows",
                     {{"3 of 4 rows", {{12, 5}}, [](Graph& g, const std::vector<Node>& x) { return mean_token(g, x[0], 4); }},
                      {"two uses of one input", {{6, 5}}, [](Graph& g, const std::vector<Node>& x) {
                         return add(g, mean_token(g, x[0], 3), mean_token(g, tanh(g, x[0]), 3));
                       }}}});
}
const bool registered_mean_token = register_mean_token();
}  // namespace

}  // namespace varion
