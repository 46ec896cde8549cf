// An item is a vector's worth of channels on a host, and one element on a GPU, where neighbours share a transaction.
#include "backends/portable/channels_last.hpp"

namespace varion::backend {

void weight_to_channels_last(const Exec& exec, const Conv& s, ConstVec weight, Vec ordered) {
  const Index c = s.c, taps = s.kh * s.kw;
  Kokkos::parallel_for(
      "varion::conv2d::weight_to_last", Range(exec, 0, s.o * c * taps), KOKKOS_LAMBDA(const Index t) {
        const Index o = t / (c * taps), tap = t % (c * taps) / c, k = t % c;
        ordered(t) = weight((o * c + k) * taps + tap);
      });
}

void weight_from_channels_last(const Exec& exec, const Conv& s, ConstVec ordered, bool add, Vec weight) {
  const Index c = s.c, taps = s.kh * s.kw;
  Kokkos::parallel_for(
      "varion::conv2d::weight_from_last", Range(exec, 0, s.o * c * taps), KOKKOS_LAMBDA(const Index t) {
        const Index o = t / (c * taps), k = t % (c * taps) / taps, tap = t % taps;
        const Real g = ordered((o * taps + tap) * c + k);
        weight(t) = add ? weight(t) + g : g;
      });
}

void add_bias(const Exec& exec, Index rows, Index o, ConstVec bias, Vec y) {
  const Index width = kHostExec ? o : 1;
  Kokkos::parallel_for(
      "varion::conv2d::add_bias", Range(exec, 0, rows * o / width), KOKKOS_LAMBDA(const Index item) {
        for (Index k = 0; k < width; ++k) y(item * width + k) += bias(width == 1 ? item % o : k);
      });
}

bool pads_alike(const Conv& s) {
  const Index rows = s.h + 2 * s.pad_top - s.kh, columns = s.w + 2 * s.pad_left - s.kw;
  return rows >= 0 && columns >= 0 && rows / s.stride + 1 == s.ho && columns / s.stride + 1 == s.wo;
}

Conv padded_shape(const Conv& s) {
  Conv p = s;
  p.h = (s.ho - 1) * s.stride + s.kh;
  p.w = (s.wo - 1) * s.stride + s.kw;
  p.pad_top = p.pad_left = 0;
  return p;
}

/// 8 bytes per element.
void pad_image(const Exec& exec, const Conv& s, ConstVec x, Vec padded) {
  const Conv p = padded_shape(s), v = s;
  const Index width = kHostExec ? s.c : 1;
  Kokkos::parallel_for(
      "varion::conv2d::pad", Range(exec, 0, p.n * p.h * p.w * p.c / width), KOKKOS_LAMBDA(const Index item) {
        const Index first = item * width, pixel = first / v.c, channel = first % v.c;
        const Index image = pixel / (p.h * p.w), i = pixel / p.w % p.h - v.pad_top, j = pixel % p.w - v.pad_left;
        const bool inside = i >= 0 && i < v.h && j >= 0 && j < v.w;
        const Index from = ((image * v.h + i) * v.w + j) * v.c + channel;
        for (Index k = 0; k < width; ++k) padded(first + k) = inside ? x(from + k) : Real(0);
      });
}

/// 8 bytes per element, 12 where it adds.
void unpad_image(const Exec& exec, const Conv& s, ConstVec padded, bool add, Vec dx) {
  const Conv p = padded_shape(s), v = s;
  const Index width = kHostExec ? s.c : 1;
  Kokkos::parallel_for(
      "varion::conv2d::unpad", Range(exec, 0, v.n * v.h * v.w * v.c / width), KOKKOS_LAMBDA(const Index item) {
        const Index first = item * width, pixel = first / v.c, channel = first % v.c;
        const Index image = pixel / (v.h * v.w), i = pixel / v.w % v.h + v.pad_top, j = pixel % v.w + v.pad_left;
        const bool met = i < p.h && j < p.w;
        const Index from = ((image * p.h + i) * p.w + j) * v.c + channel;
        for (Index k = 0; k < width; ++k) {
          const Real g = met ? padded(from + k) : Real(0);
          dx(first + k) = add ? dx(first + k) + g : g;
        }
      });
}

void add_image(const Exec& exec, const Conv& s, ConstVec image, Vec dx) {
  Kokkos::parallel_for(
      "varion::conv2d::add_image", Range(exec, 0, s.n * s.h * s.w * s.c),
      KOKKOS_LAMBDA(const Index i) { dx(i) += image(i); });
}

}  // namespace varion::backend
