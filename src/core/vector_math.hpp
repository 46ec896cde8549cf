// Functions that a compiler turns into vectors: plain arithmetic, the same bits on every back end.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/types.hpp"

namespace varion {

/// exp(x), relative error 1.2e-7; 0 below -87, held at 2^127 above 88. The exponent split off, then a polynomial of our own
/// least-maximum fit on [-ln(2)/2, ln(2)/2] (1.9e-9 before rounding). NaN stays.
KOKKOS_INLINE_FUNCTION Real exp_lane(Real x) {
  const Real top = x > Real(88) ? Real(88) : x;
  const Real held = top < Real(-87) ? Real(-87) : top;
  // Adding and taking away 1.5 2^23 rounds to a whole number, whose low bits then stand in the mantissa.
  const Real shifted = std::fma(held, Real(1.4426950408889634), Real(12582912));
  const Real n = shifted - Real(12582912);
  const Real r = std::fma(n, Real(-1.4286068203e-6), std::fma(n, Real(-0.693145751953125), held));
  Real p = Real(0.0013836818980053067);
  p = std::fma(p, r, Real(0.008374815806746483));
  p = std::fma(p, r, Real(0.04166822507977486));
  p = std::fma(p, r, Real(0.16666419804096222));
  p = std::fma(p, r, Real(0.49999991059303284));
  p = std::fma(p, r, Real(1));
  p = std::fma(p, r, Real(1));
  std::int32_t bits = 0;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = static_cast<std::int32_t>(static_cast<std::uint32_t>(bits + 127) << 23);
  Real power = 0;
  std::memcpy(&power, &bits, sizeof power);
  const Real y = p * power;
  return x < Real(-87) ? Real(0) : y;
}

/// The standard normal's density and distribution function at x, the latter with a relative error of 5e-7 also far in the
/// tail: Phi(-|x|) = phi(x) times Mills' ratio, a polynomial of our own fit in 1/(1 + |x|/4) up to |x| = 13.
KOKKOS_INLINE_FUNCTION void normal_lane(Real x, Real& density, Real& below) {
  density = Real(0.3989422804014327) * exp_lane(Real(-0.5) * x * x);
  const Real size = x < 0 ? -x : x;
  const Real t = 1 / std::fma(Real(0.25), size, Real(1));
  Real m = Real(0.06740835309028625);
  m = std::fma(m, t, Real(-0.397552490234375));
  m = std::fma(m, t, Real(0.7729331851005554));
  m = std::fma(m, t, Real(-0.5518165230751038));
  m = std::fma(m, t, Real(0.5313557386398315));
  m = std::fma(m, t, Real(0.07123345136642456));
  m = std::fma(m, t, Real(0.2630675733089447));
  m = std::fma(m, t, Real(0.24650214612483978));
  m = std::fma(m, t, Real(0.2501826584339142));
  const Real tail = density * m * t;
  below = x < 0 ? tail : 1 - tail;
}

/// The same for what is rounded to bfloat16 afterwards (2e-3): relative error 2.5e-4, that of the lower tail to x = -5.5, beyond which the
/// function is below 2e-8. Mills' ratio as a polynomial of our own fit in |x|: no division.
KOKKOS_INLINE_FUNCTION void normal_near(Real x, Real& density, Real& below) {
  density = Real(0.3989422804014327) * std::exp(Real(-0.5) * x * x);
  const Real size = x < 0 ? -x : x, t = size > Real(5.5) ? Real(5.5) : size;
  Real m = Real(9.77431955e-06);
  m = std::fma(m, t, Real(-0.00026729944511));
  m = std::fma(m, t, Real(0.00315972254612));
  m = std::fma(m, t, Real(-0.02134040184319));
  m = std::fma(m, t, Real(0.09231493622065));
  m = std::fma(m, t, Real(-0.27466875314713));
  m = std::fma(m, t, Real(0.59712487459183));
  m = std::fma(m, t, Real(-0.99376648664474));
  m = std::fma(m, t, Real(1.25307440757751));
  const Real tail = density * m;
  below = x < 0 ? tail : 1 - tail;
}

}  // namespace varion
