// What this machine can do at best, measured with kernels that do nothing else.
#include <cmath>
#include <memory>

#include "backends/backend.hpp"
#include "bench/bench.hpp"
#include "core/blocks.hpp"
#include "core/memory.hpp"
#include "core/random.hpp"

namespace varion {

/// a = b. 8 bytes per element.
void copy_kernel(const Exec& exec, Index n, ConstVec from, Vec to) {
  for_streams("varion::bench::copy", exec, 0, n, reads(from), updates(), writes(to), KOKKOS_LAMBDA(const Streams<1, 0, 1>& s, int lo, int hi) {
    const Real* const x = s.read[0];
    Real* const y = s.write[0];
    VARION_IVDEP
    for (int i = lo; i < hi; ++i) y[i] = x[i];
  });
}

/// a = s a + b. 12 bytes per element: two reads, one write, none of them extra, unlike a copy's on a host, which
/// reads what it overwrites. The bandwidth that optimizers are held to.
void update_kernel(const Exec& exec, Index n, ConstVec b, Vec a) {
  for_streams("varion::bench::update", exec, 0, n, reads(b), updates(a), writes(), KOKKOS_LAMBDA(const Streams<1, 1, 0>& s, int lo, int hi) {
    const Real* const x = s.read[0];
    Real* const y = s.update[0];
    VARION_IVDEP
    for (int i = lo; i < hi; ++i) y[i] = std::fma(Real(0.5), y[i], x[i]);
  });
}

/// Three vectors updated from a fourth, as AdamW does: 28 bytes per element. More streams keep more of a host's
/// prefetchers busy than two do.
void update3_kernel(const Exec& exec, Index n, ConstVec from, Vec a, Vec b, Vec c) {
  for_streams("varion::bench::update3", exec, 0, n, reads(from), updates(a, b, c), writes(),
              KOKKOS_LAMBDA(const Streams<1, 3, 0>& s, int lo, int hi) {
                const Real* const x = s.read[0];
                Real *const p = s.update[0], *const q = s.update[1], *const r = s.update[2];
                VARION_IVDEP
                for (int i = lo; i < hi; ++i) {
                  p[i] = std::fma(Real(0.5), p[i], x[i]);
                  q[i] = std::fma(Real(0.5), q[i], x[i]);
                  r[i] = std::fma(Real(0.5), r[i], x[i]);
                }
              });
}

inline constexpr int kChains = kHostExec ? 192 : 8;  // enough independent sums to hide the latency

/// Multiply-adds in registers: 2 kChains flops a round and item.
void fma_kernel(const Exec& exec, Index items, int rounds, Vec out) {
  Kokkos::parallel_for(
      "varion::bench::fma", Range(exec, 0, items), KOKKOS_LAMBDA(const Index i) {
        Real sum[kChains];
        for (int k = 0; k < kChains; ++k) sum[k] = static_cast<Real>(k) + static_cast<Real>(i);
        const Real factor = out(i), shift = Real(1) - factor;
        for (int r = 0; r < rounds; ++r)
          for (int k = 0; k < kChains; ++k) sum[k] = std::fma(sum[k], factor, shift);
        Real total = 0;
        for (int k = 0; k < kChains; ++k) total += sum[k];
        out(i) = total > Real(1e30) ? total : factor;  // never; the sums must not be dropped
      });
}

void empty_kernel(const Exec& exec) {
  Kokkos::parallel_for("varion::bench::launch", Range(exec, 0, 1), KOKKOS_LAMBDA(const Index) {});
}

void run_ceilings(Bench& bench) {
  const Exec exec;
  {
    const Index n = bench.size(124000000, 1 << 12);  // no power of two: streams must not share their cache sets
    const Vec a = long_vector("varion::bench::a", n), b = long_vector("varion::bench::b", n);
    Kokkos::deep_copy(exec, a, Real(1));
    Kokkos::deep_copy(exec, b, Real(1));
    const double size = static_cast<double>(n);
    bench.ceiling("ceiling/copy", {8 * size, 0, size, "", 0}, [=] { copy_kernel(exec, n, b, a); });
    bench.ceiling("ceiling/update", {12 * size, 0, size, "", 0}, [=] { update_kernel(exec, n, b, a); });
    {
      const Vec c = long_vector("varion::bench::c", n), d = long_vector("varion::bench::d", n);
      bench.ceiling("ceiling/update3", {28 * size, 0, size, "", 0}, [=] { update3_kernel(exec, n, b, a, c, d); });
    }
    if (!kHostExec) {
      const std::shared_ptr<float> memory = backend::host_words(static_cast<size_t>(n));  // as sums and saves use it
      const HostPart host(memory.get(), static_cast<size_t>(n));
      const Work work{4 * size, 0, size, "", 0};  // each byte once over the wire
      bench.ceiling("ceiling/device_to_host", work, [=] { Kokkos::deep_copy(exec, host, a); });
      bench.ceiling("ceiling/host_to_device", work, [=] { Kokkos::deep_copy(exec, a, host); });
    }
  }
  const Index items = kHostExec ? Exec().concurrency() : 1 << 18;
  const int rounds = static_cast<int>(bench.size(kHostExec ? 200000 : 4096, 16));
  const Vec out("varion::bench::out", static_cast<size_t>(items));
  Kokkos::deep_copy(exec, out, Real(0.5));
  bench.ceiling("ceiling/fma", {0, 2.0 * kChains * static_cast<double>(items) * rounds, 1, "", 0},
                [=] { fma_kernel(exec, items, rounds, out); });
  const Index m = bench.size(kHostExec ? 2048 : 8192, 16);
  const auto square = static_cast<size_t>(m * m);
  const Vec x("varion::bench::x", square), y("varion::bench::y", square), z("varion::bench::z", square);
  for (const auto& [factor, seed] : {std::pair(x, 1), std::pair(y, 2)})  // a GPU's clocks go with the bits that change
    fill_normal(exec, RandomKey::make(static_cast<std::uint64_t>(seed), Stream::test, 7), factor);
  bench.ceiling("ceiling/gemm", {0, 2 * std::pow(static_cast<double>(m), 3), 1, "", 0},
                [=] { backend::provider().gemm(exec, false, false, m, m, m, x, y, false, z); });
  bench.ceiling("ceiling/launch", {0, 0, 1, "launch", 0}, [=] { empty_kernel(exec); });
}

namespace {
const bool registered_ceilings = BenchCases::of().add("ceilings", {"copy, update, FMA, GEMM, launch", 0, run_ceilings});
}  // namespace

}  // namespace varion
