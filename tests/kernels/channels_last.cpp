// What surrounds a channels-last library: with explicit padding and reordered weights, a convolution that knows no
// padding gives what one with TensorFlow's SAME gives.
#include "backends/portable/channels_last.hpp"

#include <cmath>

#include "support/catch.hpp"
#include "support/vectors.hpp"

using namespace varion;

namespace {
double difference(const Vec& a, const Vec& b) {
  const auto x = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), a);
  const auto y = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), b);
  double worst = 0;  // NaN must fail
  for (size_t i = 0; i < x.extent(0); ++i) {
    const double d = std::abs(static_cast<double>(x(i)) - static_cast<double>(y(i)));
    worst = !(d <= worst) ? d : worst;
  }
  return worst;
}
}  // namespace

TEST_CASE("a padded image convolves as SAME does, both ways") {
  const backend::Provider& p = backend::portable();
  for (const backend::Conv& s : {backend::Conv{2, 6, 8, 3, 5, 3, 3, 2, 0, 0, 3, 4},    // one pixel after, none before
                                 backend::Conv{2, 7, 5, 3, 5, 2, 2, 1, 0, 0, 7, 5},    // the same at stride 1
                                 backend::Conv{1, 5, 5, 4, 3, 3, 3, 1, 1, 1, 5, 5},    // both sides
                                 backend::Conv{2, 8, 7, 3, 2, 1, 1, 2, 0, 0, 4, 4},    // pixels that no tap meets
                                 backend::Conv{1, 6, 6, 2, 3, 5, 3, 2, 1, 0, 3, 3}}) {
    const backend::Conv q = backend::padded_shape(s);
    CHECK(backend::pads_alike(q));
    INFO("kernel " << s.kh << " stride " << s.stride << " image " << s.h << " x " << s.w);
    const Index images = s.n * s.h * s.w * s.c, padded = q.n * q.h * q.w * q.c;
    const Vec x = draw(1, images), w = draw(2, s.o * s.patch()), dy = draw(3, s.n * s.ho * s.wo * s.o), old = draw(4, images);
    const Vec scratch = poisoned(std::max({p.conv_scratch(s, false), p.conv_scratch(s, true), p.conv_scratch(q, false), p.conv_scratch(q, true)}));
    const Vec y = poisoned(s.n * s.ho * s.wo * s.o), y_padded = poisoned(s.n * s.ho * s.wo * s.o), image = poisoned(padded);
    p.conv_forward(Exec(), s, x, w, ConstVec(), y, scratch);
    backend::pad_image(Exec(), s, x, image);
    p.conv_forward(Exec(), q, image, w, ConstVec(), y_padded, scratch);
    CHECK(difference(y, y_padded) <= 1e-5);
    for (const bool add : {false, true}) {
      const Vec dx = add ? draw(4, images) : poisoned(images), dx_padded = add ? draw(4, images) : poisoned(images);
      p.conv_backward_data(Exec(), s, dy, w, add, dx, scratch);
      p.conv_backward_data(Exec(), q, dy, w, false, image, scratch);
      backend::unpad_image(Exec(), s, image, add, dx_padded);
      CHECK(difference(dx, dx_padded) <= 1e-5);
      backend::add_image(Exec(), s, x, dx);
      backend::add_image(Exec(), s, x, dx_padded);
      CHECK(difference(dx, dx_padded) <= 1e-5);
    }
  }
}

TEST_CASE("where both sides are padded alike") {
  CHECK(backend::pads_alike({1, 5, 5, 4, 3, 3, 3, 1, 1, 1, 5, 5}));
  CHECK(backend::pads_alike({1, 5, 5, 4, 3, 3, 3, 2, 1, 1, 3, 3}));        // SAME at an odd size
  CHECK(backend::pads_alike({1, 8, 7, 3, 2, 1, 1, 2, 0, 0, 4, 4}));        // the last row is met by nothing
  CHECK_FALSE(backend::pads_alike({2, 6, 8, 3, 5, 3, 3, 2, 0, 0, 3, 4}));  // SAME at an even size
  CHECK_FALSE(backend::pads_alike({2, 7, 5, 3, 5, 2, 2, 1, 0, 0, 7, 5}));
}

TEST_CASE("weights go to channels last and back, biases to every pixel") {
  const backend::Conv s{1, 4, 4, 3, 5, 2, 3, 1, 0, 0, 3, 2};
  const Vec w = draw(1, s.o * s.patch()), ordered = poisoned(s.o * s.patch()), back = poisoned(s.o * s.patch());
  backend::weight_to_channels_last(Exec(), s, w, ordered);
  const auto from = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), w);
  const auto to = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), ordered);
  const auto at = [](Index i) { return static_cast<size_t>(i); };
  for (Index o = 0; o < s.o; ++o)
    for (Index t = 0; t < 6; ++t)
      for (Index c = 0; c < s.c; ++c) CHECK(to(at((o * 6 + t) * s.c + c)) == from(at((o * s.c + c) * 6 + t)));
  backend::weight_from_channels_last(Exec(), s, ordered, false, back);
  CHECK(difference(w, back) == 0);
  backend::weight_from_channels_last(Exec(), s, ordered, true, back);
  const auto twice = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), back);
  CHECK(twice(7) == 2 * from(7));

  const Vec bias = draw(2, 5), y("varion::test::y", 35);
  backend::add_bias(Exec(), 7, 5, bias, y);
  const auto values = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), y);
  const auto b = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), bias);
  for (Index i = 0; i < 35; ++i) CHECK(values(at(i)) == b(at(i % 5)));
}
