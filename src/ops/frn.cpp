// Filter response normalisation with its threshold, one fused kernel each way.
#include <cmath>

#include "core/random.hpp"
#include "ops/frn.hpp"
#include "ops/ops.hpp"

namespace varion {

inline constexpr Real kFrnEpsilon = Real(1e-6);
inline constexpr int kFrnChannels = kHostExec ? 16 : 1;  // channels an item: one vector on a host

/// One image's block of channels. Pixels are `stride` numbers apart.
struct FrnBlock {
  Index hw, stride;
  const Real *x, *gamma, *beta, *tau;
};

/// Forward of `width` channels; `residual` is read where `adds`.
template <int width, bool adds>
KOKKOS_INLINE_FUNCTION void frn_forward_block(const FrnBlock& f, const Real* residual, Real* r, Real* y) {
  Real even[width] = {}, odd[width] = {};  // two sums side by side hide the latency of an add
  Index p = 0;
  for (; p + 2 <= f.hw; p += 2) {
    const Real *const x = f.x + p * f.stride, *const next = x + f.stride;
    VARION_LANES
    for (int k = 0; k < width; ++k) {
      even[k] = std::fma(x[k], x[k], even[k]);
      odd[k] = std::fma(next[k], next[k], odd[k]);
    }
  }
  Real scale[width], shift[width], floor[width];
  VARION_LANES
  for (int k = 0; k < width; ++k) {
    const Real last = p < f.hw ? f.x[p * f.stride + k] : Real(0);
    r[k] = 1 / std::sqrt(std::fma(last, last, even[k] + odd[k]) / static_cast<Real>(f.hw) + kFrnEpsilon);
    scale[k] = r[k] * f.gamma[k];
    shift[k] = f.beta[k];
    floor[k] = f.tau[k];
  }
  for (p = 0; p < f.hw; ++p) {
    const Real *const x = f.x + p * f.stride, *const add = residual + (adds ? p * f.stride : 0);
    Real* const out = y + p * f.stride;
    VARION_LANES
    for (int k = 0; k < width; ++k) {
      const Real z = std::fma(x[k], scale[k], shift[k]), top = z < floor[k] ? floor[k] : z;  // a NaN stays one
      out[k] = adds ? top + add[k] : top;
    }
  }
}

/// The same, whole vectors at once where there are any.
template <bool adds>
KOKKOS_INLINE_FUNCTION void frn_forward_channels(const FrnBlock& f, int count, const Real* residual, Real* r, Real* y) {
  if (count == kFrnChannels) return frn_forward_block<kFrnChannels, adds>(f, residual, r, y);
  for (int k = 0; k < count; ++k)
    frn_forward_block<1, adds>({f.hw, f.stride, f.x + k, f.gamma + k, f.beta + k, f.tau + k}, residual + (adds ? k : 0),
                               r + k, y + k);
}

/// y = max(gamma x r + beta, tau) (+ residual), r = 1/sqrt(mean_HW(x^2) + eps) kept [N, C] for backward.
/// Reads x twice (the second time from cache) and the residual, writes y: 8 or 12 bytes per element.
void frn_forward(const Exec& exec, Index n, Index hw, Index c, ConstVec x, ConstVec gamma, ConstVec beta, ConstVec tau,
                 ConstVec residual, Vec r, Vec y) {
  const Index blocks = (c + kFrnChannels - 1) / kFrnChannels;
  Kokkos::parallel_for(
      "varion::frn::forward", Range(exec, 0, n * blocks), KOKKOS_LAMBDA(const Index item) {
        const Index image = item / blocks, first = item % blocks * kFrnChannels, at = image * hw * c + first;
        const int count = static_cast<int>(c - first < kFrnChannels ? c - first : Index(kFrnChannels));
        const FrnBlock f{hw, c, x.data() + at, gamma.data() + first, beta.data() + first, tau.data() + first};
        Real *const inverse = r.data() + image * c + first, *const out = y.data() + at;
        if (residual.data() == nullptr)
          frn_forward_channels<false>(f, count, nullptr, inverse, out);
        else
          frn_forward_channels<true>(f, count, residual.data() + at, inverse, out);
      });
}

/// Backward of `width` channels; partial: their dgamma, and c numbers apart dbeta and dtau; dx may be null.
template <int width>
KOKKOS_INLINE_FUNCTION void frn_backward_block(const FrnBlock& f, const Real* r, const Real* dy, bool add, Real* partial,
                                               Real* dx) {
  Real inverse[width], g[width], shift[width], floor[width];
  VARION_LANES
  for (int k = 0; k < width; ++k) {
    inverse[k] = r[k];
    g[k] = r[k] * f.gamma[k];
    shift[k] = f.beta[k];
    floor[k] = f.tau[k];
  }
  Real dgamma[width] = {}, dbeta[width] = {}, total[width] = {};
  for (Index p = 0; p < f.hw; ++p) {
    const Real *const x = f.x + p * f.stride, *const d = dy + p * f.stride;
    VARION_LANES
    for (int k = 0; k < width; ++k) {
      const Real open = std::fma(x[k], g[k], shift[k]) > floor[k] ? d[k] : Real(0);
      dgamma[k] = std::fma(open, x[k], dgamma[k]);
      dbeta[k] += open;
      total[k] += d[k];
    }
  }
  Real pull[width];
  VARION_LANES
  for (int k = 0; k < width; ++k) {
    const Real sum = dgamma[k] * inverse[k];
    partial[k] = sum;
    partial[f.stride + k] = dbeta[k];
    partial[2 * f.stride + k] = total[k] - dbeta[k];
    pull[k] = g[k] * inverse[k] * sum / static_cast<Real>(f.hw);
  }
  if (dx == nullptr) return;
  for (Index p = 0; p < f.hw; ++p) {
    const Real *const x = f.x + p * f.stride, *const d = dy + p * f.stride;
    Real* const out = dx + p * f.stride;
    VARION_LANES
    for (int k = 0; k < width; ++k) {
      const Real open = std::fma(x[k], g[k], shift[k]) > floor[k] ? d[k] : Real(0);
      const Real v = std::fma(g[k], open, -(x[k] * pull[k]));
      out[k] = add ? out[k] + v : v;
    }
  }
}

/// Forward: y = max(z, tau), z = gamma xh + beta, xh = x r.
/// dz = dy where z > tau, else dtau gets dy; dx = r (gamma dz - xh mean_HW(gamma dz xh)).
/// partial [N, 3, C] receives each image's share of dgamma, dbeta, dtau. Reads x and dy twice
/// (the second time from cache), writes dx: 12 bytes per element.
void frn_backward(const Exec& exec, Index n, Index hw, Index c, ConstVec x, ConstVec gamma, ConstVec beta, ConstVec tau,
                  ConstVec r, ConstVec dy, GradSlot out, Vec partial) {
  const Index blocks = (c + kFrnChannels - 1) / kFrnChannels;
  const Vec dx = out.data;
  const bool add = out.add;
  Kokkos::parallel_for(
      "varion::frn::backward", Range(exec, 0, n * blocks), KOKKOS_LAMBDA(const Index item) {
        const Index image = item / blocks, first = item % blocks * kFrnChannels, at = image * hw * c + first;
        const int count = static_cast<int>(c - first < kFrnChannels ? c - first : Index(kFrnChannels));
        const FrnBlock f{hw, c, x.data() + at, gamma.data() + first, beta.data() + first, tau.data() + first};
        const Real *const inverse = r.data() + image * c + first, *const d = dy.data() + at;
        Real *const sums = partial.data() + image * 3 * c + first, *const to = dx.data() == nullptr ? nullptr : dx.data() + at;
        if (count == kFrnChannels) return frn_backward_block<kFrnChannels>(f, inverse, d, add, sums, to);
        for (int k = 0; k < count; ++k)
          frn_backward_block<1>({hw, c, f.x + k, f.gamma + k, f.beta + k, f.tau + k}, inverse + k, d + k, add, sums + k,
                                to == nullptr ? nullptr : to + k);
      });
}

// A GPU has more threads than a batch has channels: a team takes an image, or of very wide ones a block of channels. Its
// slots are (lane of pixels, channel), neighbours in memory too; a channel's lanes are added in order.
inline constexpr int kFrnSlots = 512;

struct FrnTeams {
  Index hw, c, width, blocks, lanes;
  FrnTeams(Index pixels, Index channels)
      : hw(pixels), c(channels), width(c < kFrnSlots ? c : Index(kFrnSlots)), blocks((c + width - 1) / width), lanes(kFrnSlots / width) {}
  /// body(slot, lane, channel of the block) for the slots of this thread.
  template <class Body>
  KOKKOS_INLINE_FUNCTION void each(const Member& team, Index channels, const Body& body) const {
    for (int slot = team.team_rank(); slot < lanes * width; slot += team.team_size()) {
      const Index lane = slot / width, k = slot % width;
      if (k < channels) body(slot, lane, k);
    }
  }
  /// The sum over lanes of a channel's slots.
  template <class Words>
  KOKKOS_INLINE_FUNCTION Real sum(const Words& words, Index k) const {
    Real s = 0;
    for (Index lane = 0; lane < lanes; ++lane) s += words(static_cast<size_t>(lane * width + k));
    return s;
  }
};

namespace {
using FrnWords = Kokkos::View<Real*, Exec::scratch_memory_space, Kokkos::MemoryUnmanaged>;
Team frn_teams(const Exec& exec, Index teams, int vectors) {
  return Team(exec, static_cast<int>(teams), kHostExec ? 1 : kFrnSlots)
      .set_scratch_size(0, Kokkos::PerTeam(vectors * static_cast<int>(FrnWords::shmem_size(kFrnSlots))));
}
}  // namespace

void frn_forward_teams(const Exec& exec, Index n, Index hw, Index c, ConstVec x, ConstVec gamma, ConstVec beta, ConstVec tau,
                       ConstVec residual, Vec r, Vec y) {
  const FrnTeams split(hw, c);
  Kokkos::parallel_for(
      "varion::frn::forward", frn_teams(exec, n * split.blocks, 1), KOKKOS_LAMBDA(const Member& team) {
        const Index image = team.league_rank() / split.blocks, first = team.league_rank() % split.blocks * split.width;
        const Index channels = c - first < split.width ? c - first : split.width, at = image * hw * c + first;
        const FrnWords words(team.team_scratch(0), kFrnSlots);
        const Real *const in = x.data() + at, *const more = residual.data() == nullptr ? nullptr : residual.data() + at;
        Real* const out = y.data() + at;
        split.each(team, channels, [&](const int slot, const Index lane, const Index k) {
          Real s = 0;
          for (Index p = lane; p < hw; p += split.lanes) s = std::fma(in[p * c + k], in[p * c + k], s);
          words(slot) = s;
        });
        team.team_barrier();
        for (int k = team.team_rank(); k < channels; k += team.team_size()) {
          const Real inverse = 1 / std::sqrt(split.sum(words, k) / static_cast<Real>(hw) + kFrnEpsilon);
          words(k) = inverse;  // lane 0's place: nobody else reads it before the barrier
          r(image * c + first + k) = inverse;
        }
        team.team_barrier();
        split.each(team, channels, [&](const int, const Index lane, const Index k) {
          const Real scale = words(k) * gamma(first + k), shift = beta(first + k), floor = tau(first + k);
          for (Index p = lane; p < hw; p += split.lanes) {
            const Real z = std::fma(in[p * c + k], scale, shift), top = z < floor ? floor : z;  // a NaN stays one
            out[p * c + k] = more == nullptr ? top : top + more[p * c + k];
          }
        });
      });
}

void frn_backward_teams(const Exec& exec, Index n, Index hw, Index c, ConstVec x, ConstVec gamma, ConstVec beta, ConstVec tau,
                        ConstVec r, ConstVec dy, GradSlot out, Vec partial) {
  const FrnTeams split(hw, c);
  const Vec dx = out.data;
  const bool add = out.add;
  Kokkos::parallel_for(
      "varion::frn::backward", frn_teams(exec, n * split.blocks, 3), KOKKOS_LAMBDA(const Member& team) {
        const Index image = team.league_rank() / split.blocks, first = team.league_rank() % split.blocks * split.width;
        const Index channels = c - first < split.width ? c - first : split.width, at = image * hw * c + first;
        const FrnWords dgamma(team.team_scratch(0), kFrnSlots), dbeta(team.team_scratch(0), kFrnSlots), total(team.team_scratch(0), kFrnSlots);
        const Real *const in = x.data() + at, *const above = dy.data() + at, *const inverse = r.data() + image * c + first;
        split.each(team, channels, [&](const int slot, const Index lane, const Index k) {
          const Real g = inverse[k] * gamma(first + k), shift = beta(first + k), floor = tau(first + k);
          Real sum_x = 0, sum_open = 0, sum = 0;
          for (Index p = lane; p < hw; p += split.lanes) {
            const Real v = in[p * c + k], d = above[p * c + k], open = std::fma(v, g, shift) > floor ? d : Real(0);
            sum_x = std::fma(open, v, sum_x);
            sum_open += open;
            sum += d;
          }
          dgamma(slot) = sum_x;
          dbeta(slot) = sum_open;
          total(slot) = sum;
        });
        team.team_barrier();
        for (int k = team.team_rank(); k < channels; k += team.team_size()) {
          const Real sum = split.sum(dgamma, k) * inverse[k], open = split.sum(dbeta, k);
          Real* const to = partial.data() + image * 3 * c + first + k;
          to[0] = sum;
          to[c] = open;
          to[2 * c] = split.sum(total, k) - open;
          dgamma(k) = inverse[k] * gamma(first + k) * inverse[k] * sum / static_cast<Real>(hw);
        }
        if (dx.data() == nullptr) return;
        team.team_barrier();
        split.each(team, channels, [&](const int, const Index lane, const Index k) {
          const Real g = inverse[k] * gamma(first + k), shift = beta(first + k), floor = tau(first + k), pull = dgamma(k);
          Real* const to = dx.data() + at + k;
          for (Index p = lane; p < hw; p += split.lanes) {
            const Real v = in[p * c + k], open = std::fma(v, g, shift) > floor ? above[p * c + k] : Real(0);
            const Real d = std::fma(g, open, -(v * pull));
            to[p * c] = add ? to[p * c] + d : d;
          }
        });
      });
}

/// Gradients of gamma, beta and tau (+)= sums over images of partial [N, 3, C], in order on a host, by a team's threads on a GPU.
void frn_sums(const Exec& exec, Index n, Index c, ConstVec partial, GradSlot gamma, GradSlot beta, GradSlot tau) {
  Kokkos::parallel_for(
      "varion::frn::parameter_grad", Team(exec, static_cast<int>(3 * c), kHostExec ? 1 : 64), KOKKOS_LAMBDA(const Member& team) {
        const Index k = team.league_rank();
        Real sum = 0;
        Kokkos::parallel_reduce(
            Kokkos::TeamThreadRange(team, n), [&](const Index i, Real& s) { s += partial(i * 3 * c + k); }, sum);
        Kokkos::single(Kokkos::PerTeam(team), [&] {
          const GradSlot& slot = k < c ? gamma : k < 2 * c ? beta : tau;
          Real& out = slot.data(k % c);
          out = slot.add ? out + sum : sum;
        });
      });
}

Node frn(Graph& g, Node x, const std::string& name, Node residual) {
  const Shape s = g.shape(x);
  ensure(s.rank == 4, "frn '", name, "' wants [N, H, W, C], not ", s.text());
  const bool adds = residual.id >= 0;
  ensure(!adds || g.shape(residual) == s, "frn '", name, "': the residual is ", adds ? g.shape(residual).text() : "",
         ", not ", s.text());
  const Index n = s[0], hw = s[1] * s[2], c = s[3];
  const int gamma = g.parameter(name + ".gamma", {c}, {Init::Kind::constant, 1});
  const int beta = g.parameter(name + ".beta", {c}, {Init::Kind::constant, 0});
  const int tau = g.parameter(name + ".tau", {c}, {Init::Kind::constant, 0});
  require(g.trains(gamma) == g.trains(beta) && g.trains(beta) == g.trains(tau), Exit::config, "model.freeze: gamma, beta and tau of '", name,
          "' are frozen together or not at all: name '", name, "'");
  Record r;
  r.op = "frn";
  r.inputs = {x};
  if (adds) r.inputs.push_back(residual);
  if (adds) r.passes = {residual};
  r.parameters = {gamma, beta, tau};
  r.shape = s;
  r.keep = {x};
  r.saved = n * c;
  r.scratch_backward = 3 * n * c;
  r.forward = [=](Replay& p, Node y) {
    (kHostExec ? frn_forward : frn_forward_teams)(p.exec, n, hw, c, p.value(x), p.parameter(gamma), p.parameter(beta), p.parameter(tau),
                                                  adds ? ConstVec(p.value(residual)) : ConstVec(), p.saved(y), p.value(y));
  };
  r.backward = [=](Replay& p, Node y) {
    const GradSlot dx = p.wants_grad(x) ? p.grad(x) : GradSlot{Vec(), false};
    (kHostExec ? frn_backward : frn_backward_teams)(p.exec, n, hw, c, p.value(x), p.parameter(gamma), p.parameter(beta),
                                                    p.parameter(tau), p.saved(y), p.grad_of(y), dx, p.scratch(y));
    if (p.trains(gamma)) frn_sums(p.exec, n, c, p.scratch(y), p.parameter_grad(gamma), p.parameter_grad(beta), p.parameter_grad(tau));
  };
  return g.record(std::move(r));
}

namespace {
bool register_frn() {
  return Ops::of().add(
      "frn", {"filter response normalisation with threshold",
              {{"5 channels", {{3, 4, 5, 5}}, [](Graph& g, const std::vector<Node>& x) {
                  return frn(g, x[0], "norm");
                }},
               {"19 channels, six pixels", {{4, 2, 3, 19}}, [](Graph& g, const std::vector<Node>& x) {
                  return frn(g, x[0], "norm");
                }},
               {"plus a residual", {{2, 3, 3, 17}, {2, 3, 3, 17}}, [](Graph& g, const std::vector<Node>& x) {
                  return frn(g, x[0], "norm", x[1]);
                }},
               {"plus its own input, used before", {{2, 3, 3, 4}}, [](Graph& g, const std::vector<Node>& x) {
                  return frn(g, frn(g, x[0], "first"), "norm", x[0]);
                }},
               {"plus its own input", {{2, 3, 3, 4}}, [](Graph& g, const std::vector<Node>& x) {
                  return frn(g, x[0], "norm", x[0]);
                }}}});
}
const bool registered_frn = register_frn();
}  // namespace

}  // namespace varion
