// Max, average and global average pooling, without padding. Backward gathers: each input element
// looks at the windows that cover it, so there are no atomics.
#include "ops/ops.hpp"

namespace varion {

struct Pool {
  Index n, h, w, c, k, stride, ho, wo;
};

/// y = max over the window; `where` [N Ho Wo C] keeps the tap (row * k + column) it came from.
void max_pool_forward(const Exec& exec, const Pool& s, ConstVec x, Vec y, IntVec where) {
  Kokkos::parallel_for(
      "varion::max_pool::forward", Range(exec, 0, s.n * s.ho * s.wo), KOKKOS_LAMBDA(const Index t) {
        const Index image = t / (s.ho * s.wo), oy = t / s.wo % s.ho, ox = t % s.wo;
        for (Index c = 0; c < s.c; ++c) {
          Real best = 0;
          Index tap = -1;
          for (Index q = 0; q < s.k * s.k; ++q) {
            const Index i = oy * s.stride + q / s.k, j = ox * s.stride + q % s.k;
            const Real v = x(((image * s.h + i) * s.w + j) * s.c + c);
            if (tap < 0 || v > best || v != v) {  // NaN goes through
              best = v;
              tap = q;
            }
          }
          y(t * s.c + c) = best;
          where(t * s.c + c) = static_cast<std::int32_t>(tap);
        }
      });
}

/// The shared shape of pooling's backward: dx(i) (+)= sum of dy over the windows that hold i,
/// weighted by `weight` (average) or only where the maximum came from here (`where` not empty).
void pool_backward(const Exec& exec, const Pool& s, ConstVec dy, ConstIntVec where, Real weight,
                   GradSlot out) {
  const Vec dx = out.data;
  const bool add = out.add, is_max = where.data() != nullptr;
  Kokkos::parallel_for(
      "varion::pool::backward", Range(exec, 0, s.n * s.h * s.w), KOKKOS_LAMBDA(const Index t) {
        const Index image = t / (s.h * s.w), i = t / s.w % s.h, j = t % s.w;
        // The windows that hold this pixel.
        const Index y0 = i < s.k ? 0 : (i - s.k) / s.stride + 1, x0 = j < s.k ? 0 : (j - s.k) / s.stride + 1;
        const Index y1 = i / s.stride < s.ho ? i / s.stride + 1 : s.ho;
        const Index x1 = j / s.stride < s.wo ? j / s.stride + 1 : s.wo;
        if (!add)
          for (Index c = 0; c < s.c; ++c) dx(t * s.c + c) = 0;
        for (Index oy = y0; oy < y1; ++oy)
          for (Index ox = x0; ox < x1; ++ox) {
            const Index from = ((image * s.ho + oy) * s.wo + ox) * s.c;
            const Index tap = (i - oy * s.stride) * s.k + j - ox * s.stride;
            for (Index c = 0; c < s.c; ++c)
              if (!is_max || where(from + c) == tap) dx(t * s.c + c) += weight * dy(from + c);
          }
      });
}

void avg_pool_forward(const Exec& exec, const Pool& s, ConstVec x, Vec y) {
  const Real weight = 1 / static_cast<Real>(s.k * s.k);
  Kokkos::parallel_for(
      "varion::avg_pool::forward", Range(exec, 0, s.n * s.ho * s.wo), KOKKOS_LAMBDA(const Index t) {
        const Index image = t / (s.ho * s.wo), oy = t / s.wo % s.ho, ox = t % s.wo;
        for (Index c = 0; c < s.c; ++c) {
          Real sum = 0;
          for (Index p = 0; p < s.k; ++p)
            for (Index q = 0; q < s.k; ++q)
              sum += x(((image * s.h + oy * s.stride + p) * s.w + ox * s.stride + q) * s.c + c);
          y(t * s.c + c) = weight * sum;
        }
      });
}

/// y[n, c] = mean over HW; backward spreads dy / HW.
void global_avg_pool_forward(const Exec& exec, Index n, Index hw, Index c, ConstVec x, Vec y) {
  const Real weight = 1 / static_cast<Real>(hw);
  Kokkos::parallel_for(
      "varion::global_avg_pool::forward", Range(exec, 0, n * c), KOKKOS_LAMBDA(const Index t) {
        Real sum = 0;
        for (Index p = 0; p < hw; ++p) sum += x((t / c * hw + p) * c + t % c);
        y(t) = weight * sum;
      });
}

void global_avg_pool_backward(const Exec& exec, Index n, Index hw, Index c, ConstVec dy,
                              GradSlot out) {
  const Real weight = 1 / static_cast<Real>(hw);
  const Vec dx = out.data;
  const bool add = out.add;
  Kokkos::parallel_for(
      "varion::global_avg_pool::backward", Range(exec, 0, n * hw), KOKKOS_LAMBDA(const Index t) {
        for (Index k = 0; k < c; ++k) {
          const Real d = weight * dy(t / hw * c + k);
          dx(t * c + k) = add ? dx(t * c + k) + d : d;
        }
      });
}

namespace {
Pool pool_shape(const char* op, const Shape& s, Index kernel, Index stride) {
  ensure(s.rank == 4 && kernel >= 1 && stride >= 1 && s[1] >= kernel && s[2] >= kernel, op,
         ": window ", kernel, " does not fit ", s.text());
  return {s[0], s[1], s[2], s[3], kernel, stride, (s[1] - kernel) / stride + 1,
          (s[2] - kernel) / stride + 1};
}
}  // namespace

Node max_pool(Graph& g, Node x, Index kernel, Index stride) {
  const Pool s = pool_shape("max_pool", g.shape(x), kernel, stride);
  Record r;
  r.op = "max_pool";
  r.inputs = {x};
  r.shape = {s.n, s.ho, s.wo, s.c};
  r.saved = r.shape.size();
  const auto taps = [](const Vec& v) {
    return IntVec(reinterpret_cast<std::int32_t*>(v.data()), v.extent(0));
  };
  r.forward = [=](Replay& p, Node y) {
    max_pool_forward(p.exec, s, p.value(x), p.value(y), taps(p.saved(y)));
  };
  r.backward = [=](Replay& p, Node y) {
    pool_backward(p.exec, s, p.grad_of(y), taps(p.saved(y)), 1, p.grad(x));
  };
  return g.record(std::move(r));
}

Node avg_pool(Graph& g, Node x, Index kernel, Index stride) {
  const Pool s = pool_shape("avg_pool", g.shape(x), kernel, stride);
  Record r;
  r.op = "avg_pool";
  r.inputs = {x};
  r.shape = {s.n, s.ho, s.wo, s.c};
  r.forward = [=](Replay& p, Node y) { avg_pool_forward(p.exec, s, p.value(x), p.value(y)); };
  r.backward = [=](Replay& p, Node y) {
    pool_backward(p.exec, s, p.grad_of(y), ConstIntVec(), 1 / static_cast<Real>(s.k * s.k),
                  p.grad(x));
  };
  return g.record(std::move(r));
}

Node global_avg_pool(Graph& g, Node x) {
  const Shape s = g.shape(x);
  ensure(s.rank == 4, "global_avg_pool wants [N, H, W, C], not ", s.text());
  const Index n = s[0], hw = s[1] * s[2], c = s[3];
  Record r;
  r.op = "global_avg_pool";
  r.inputs = {x};
  r.shape = {n, c};
  r.forward = [=](Replay& p, Node y) {
    global_avg_pool_forward(p.exec, n, hw, c, p.value(x), p.value(y));
  };
  r.backward = [=](Replay& p, Node y) {
    global_avg_pool_backward(p.exec, n, hw, c, p.grad_of(y), p.grad(x));
  };
  return g.record(std::move(r));
}

namespace {
bool register_pool() {
  return Ops::of().add("max_pool", {"largest value of each window",
                                    {{"2x2", {{2, 5, 6, 3}},
                                      [](Graph& g, const std::vector<Node>& x) {
                                        return max_pool(g, x[0], 2, 2);
                                      }},
                                     {"3x3 stride 2, overlapping", {{1, 7, 7, 2}},
                                      [](Graph& g, const std::vector<Node>& x) {
                                        return max_pool(g, x[0], 3, 2);
                                      }}}}) &&
         Ops::of().add("avg_pool", {"mean of each window",
                                    {{"2x2", {{2, 5, 6, 3}},
                                      [](Graph& g, const std::vector<Node>& x) {
                                        return avg_pool(g, x[0], 2, 2);
                                      }}}}) &&
         Ops::of().add("global_avg_pool",
                       {"mean of each channel",
                        {{"3x5", {{2, 3, 5, 7}}, [](Graph& g, const std::vector<Node>& x) {
                            return global_avg_pool(g, x[0]);
                          }}}});
}
const bool registered_pool = register_pool();
}  // namespace

}  // namespace varion
