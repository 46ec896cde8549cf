// The first row of every sequence, where a class token stands.
#include "ops/ops.hpp"

namespace varion {

/// y[n] = x[n L]. 8 bytes per element of y.
void first_token_forward(const Exec& exec, Index sequences, Index length, Index width, ConstVec x, Vec y) {
  Kokkos::parallel_for(
      "varion::first_token::forward", Range(exec, 0, sequences * width),
      KOKKOS_LAMBDA(const Index i) { y(i) = x(i / width * length * width + i % width); });
}

/// dx[n L] (+)= dy[n]; the other rows get nothing, which is 0 where nobody has written before. 4 bytes written per element of x.
void first_token_backward(const Exec& exec, Index sequences, Index length, Index width, ConstVec dy, GradSlot out) {
  const Vec dx = out.data;
  if (!out.add) Kokkos::deep_copy(exec, dx, Real(0));
  Kokkos::parallel_for(
      "varion::first_token::backward", Range(exec, 0, sequences * width),
      KOKKOS_LAMBDA(const Index i) { dx(i / width * length * width + i % width) += dy(i); });
}

Node first_token(Graph& g, Node x, Index length) {
  const Shape s = g.shape(x);
  ensure(s.rank == 2 && length >= 1 && s[0] % length == 0, "first_token of sequences of ", length, " wants [N length, D], not ", s.text());
  const Index sequences = s[0] / length, width = s[1];
  Record r;
  r.op = "first_token";
  r.inputs = {x};
  r.shape = {sequences, width};
  r.forward = [=](Replay& p, Node y) { first_token_forward(p.exec, sequences, length, width, p.value(x), p.value(y)); };
  r.backward = [=](Replay& p, Node y) { first_token_backward(p.exec, sequences, length, width, p.grad_of(y), p.grad(x)); };
  return g.record(std::move(r));
}

namespace {
bool register_first_token() {
  return Ops::of().add(
      "first_token", {"the first row of every sequence",
                      {{"3 of 4 rows", {{12, 5}}, [](Graph& g, const std::vector<Node>& x) { return first_token(g, x[0], 4); }},
                       {"two uses of one input", {{6, 5}}, [](Graph& g, const std::vector<Node>& x) {
                          return add(g, first_token(g, x[0], 3), first_token(g, tanh(g, x[0]), 3));
                        }}}});
}
const bool registered_first_token = register_first_token();
}  // namespace

}  // namespace varion
