// Built-in data sets: moons, glyphs, linreg, logreg. Every number comes from the counter
// (seed 0, stream data, step = set, sample = part), so the sets are the same everywhere.
#include <algorithm>
#include <cmath>

#include "core/random.hpp"
#include "data/dataset.hpp"

namespace varion {

namespace {
/// Draws of one example: uniform(i) and normal(i) for i < 2^20.
struct Draws {
  RandomKey key;
  Index example;
  float uniform(Index i) const { return unit_interval(key.words(example << 18 | i).w[0]); }
  float normal(Index i) const {
    const Words4 w = key.words(example << 18 | i);
    Real a, b;
    normal_pair(w.w[2], w.w[3], a, b);
    return a;
  }
};

RandomKey key_of(std::uint64_t set, std::uint64_t part) {
  return RandomKey::make(0, Stream::data, set, part);
}

Examples moons_part(Index count, std::uint64_t part) {
  Examples e;
  e.example = {2};
  e.count = count;
  for (Index i = 0; i < count; ++i) {
    const Draws d{key_of(1, part), i};
    const float angle = 3.14159265f * d.uniform(0);
    const int label = static_cast<int>(i % 2);
    const float x = label == 0 ? std::cos(angle) : 1 - std::cos(angle);
    const float y = label == 0 ? std::sin(angle) : 0.5f - std::sin(angle);
    e.x.push_back(x + 0.2f * d.normal(1));
    e.x.push_back(y + 0.2f * d.normal(2));
    e.labels.push_back(label);
  }
  return e;
}

// Ten glyphs as strokes (x0, y0, x1, y1) on the unit square; -1 ends a list.
constexpr float kStrokes[10][6][4] = {
    {{.3f, .2f, .7f, .2f}, {.7f, .2f, .7f, .8f}, {.7f, .8f, .3f, .8f}, {.3f, .8f, .3f, .2f}, {-1}},
    {{.5f, .15f, .5f, .85f}, {.35f, .3f, .5f, .15f}, {-1}},
    {{.3f, .25f, .7f, .25f}, {.7f, .25f, .3f, .8f}, {.3f, .8f, .7f, .8f}, {-1}},
    {{.3f, .2f, .7f, .2f}, {.7f, .2f, .45f, .5f}, {.45f, .5f, .7f, .8f}, {.7f, .8f, .3f, .8f}, {-1}},
    {{.35f, .2f, .3f, .55f}, {.3f, .55f, .75f, .55f}, {.6f, .3f, .6f, .85f}, {-1}},
    {{.7f, .2f, .3f, .2f}, {.3f, .2f, .3f, .5f}, {.3f, .5f, .7f, .55f}, {.7f, .55f, .3f, .85f}, {-1}},
    {{.65f, .15f, .35f, .5f}, {.35f, .5f, .35f, .8f}, {.35f, .8f, .65f, .8f}, {.65f, .8f, .65f, .5f}, {.65f, .5f, .35f, .5f}, {-1}},
    {{.3f, .2f, .7f, .2f}, {.7f, .2f, .45f, .85f}, {-1}},
    {{.35f, .2f, .65f, .5f}, {.65f, .2f, .35f, .5f}, {.35f, .5f, .65f, .8f}, {.65f, .5f, .35f, .8f}, {.35f, .2f, .65f, .2f}, {-1}},
    {{.65f, .45f, .35f, .45f}, {.35f, .45f, .35f, .2f}, {.35f, .2f, .65f, .2f}, {.65f, .2f, .6f, .85f}, {-1}}};

/// 28 x 28 drawings: strokes under a random affine map with a wave, pen width, noise and a
/// distracting stroke; 3 % of training labels are wrong. `shift` > 0 draws the out-of-distribution
/// variant: mirrored, more strongly rotated glyphs on a brighter ground.
Examples glyphs_part(Index count, std::uint64_t part, bool mislabel, bool shifted) {
  constexpr int n = 28;
  Examples e;
  e.example = {n, n, 1};
  e.count = count;
  e.x.resize(static_cast<size_t>(count * n * n));
  for (Index i = 0; i < count; ++i) {
    const Draws d{key_of(2, part), i};
    const int label = static_cast<int>(below(d.key.words(i << 18).w[1], 10));
    const float turn = (shifted ? 1.4f : 0.3f) * d.normal(1), size = 1 + 0.18f * d.normal(2);
    const float shear = 0.25f * d.normal(3), dx = 0.07f * d.normal(4), dy = 0.07f * d.normal(5);
    const float wave = 0.05f * d.normal(6), phase = 6.28f * d.uniform(7);
    const float pen = 0.045f + 0.02f * d.uniform(8);
    const float cosine = std::cos(turn) / size, sine = std::sin(turn) / size;
    const float extra[4] = {d.uniform(9), d.uniform(10), d.uniform(11), d.uniform(12)};
    for (int row = 0; row < n; ++row)
      for (int column = 0; column < n; ++column) {
        const float px = (static_cast<float>(column) + 0.5f) / n - 0.5f - dx;
        const float py = (static_cast<float>(row) + 0.5f) / n - 0.5f - dy;
        float u = cosine * px + sine * py + shear * py, v = -sine * px + cosine * py;
        if (shifted) u = -u;
        u += 0.5f + wave * std::sin(9 * v + phase);
        v += 0.5f;
        const auto distance = [](float x, float y, const float* s) {
          const float ax = s[2] - s[0], ay = s[3] - s[1];
          const float t = std::clamp(((x - s[0]) * ax + (y - s[1]) * ay) / (ax * ax + ay * ay + 1e-6f), 0.f, 1.f);
          return std::hypot(x - s[0] - t * ax, y - s[1] - t * ay);
        };
        float nearest = 1;
        for (const auto& stroke : kStrokes[label]) {
          if (stroke[0] < 0) break;
          nearest = std::min(nearest, distance(u, v, stroke));
        }
        const float clutter = distance(px + 0.5f, py + 0.5f, extra);
        float ink = std::max(std::clamp(1.5f - nearest / pen, 0.f, 1.f),
                             0.6f * std::clamp(1.5f - clutter / 0.03f, 0.f, 1.f));
        ink += 0.25f * d.normal(100 + row * n + column) + (shifted ? 0.2f : 0.f);
        e.x[static_cast<size_t>((i * n + row) * n + column)] = (std::clamp(ink, 0.f, 1.f) - 0.25f) / 0.3f;
      }
    const bool wrong = mislabel && d.uniform(13) < 0.03f;
    e.labels.push_back(wrong ? static_cast<int>(below(d.key.words(i << 18 | 14).w[0], 10)) : label);
  }
  return e;
}

/// y = w . x + noise (regression) or label 1 with probability sigmoid(w . x), w ~ N(0, 1), x correlated.
Examples linear_part(Index count, Index dims, std::uint64_t set, std::uint64_t part, bool classes) {
  Examples e;
  e.example = {dims};
  e.count = count;
  const Draws truth{key_of(set, 9), 0};
  for (Index i = 0; i < count; ++i) {
    const Draws d{key_of(set, part), i};
    const float common = d.normal(0);
    float y = 0;
    for (Index k = 0; k < dims; ++k) {
      const float x = (1 + 0.5f * static_cast<float>(k % 3)) * (0.9f * d.normal(1 + k) + 0.4f * common);
      e.x.push_back(x);
      y += x * truth.normal(k);
    }
    if (classes)
      e.labels.push_back(d.uniform(200) < 1 / (1 + std::exp(-y)) ? 1 : 0);
    else
      e.targets.push_back(y + 0.5f * d.normal(200));
  }
  return e;
}

/// What a configuration asks for, so that short sets are not drawn in full; an example's number is its counter.
Index train_count(const Config& c, Index all) {
  const Index n = c.integer("data.train_size");
  return n > 0 ? std::min(n, all) : all;
}
Index test_count(const Config& c, Index all) {
  const Index n = c.integer("data.test_size");
  return n > 0 ? std::min(n, all) : all;
}

bool register_builtin() {
  return DataSets::of().add("moons", {"two half moons in the plane, 2 classes",
                                      [](const Config& c) {
                                        DataSet d;
                                        d.name = "moons";
                                        d.classes = 2;
                                        d.train = moons_part(train_count(c, 400), 0);
                                        d.test = moons_part(test_count(c, 2000), 1);
                                        return d;
                                      }}) &&
         DataSets::of().add("glyphs", {"28 x 28 distorted drawings of ten signs",
                                       [](const Config& c) {
                                         DataSet d;
                                         d.name = "glyphs";
                                         d.classes = 10;
                                         d.train = glyphs_part(train_count(c, 4000), 0, true, false);
                                         d.test = glyphs_part(test_count(c, 2000), 1, false, false);
                                         d.shifted = glyphs_part(test_count(c, 2000), 2, false, true);
                                         return d;
                                       }}) &&
         DataSets::of().add("linreg", {"linear regression with known truth, sigma 0.5",
                                       [](const Config& c) {
                                         DataSet d;
                                         d.name = "linreg";
                                         d.noise_sigma = 0.5;
                                         d.train = linear_part(train_count(c, 200), 6, 3, 0, false);
                                         d.test = linear_part(test_count(c, 200), 6, 3, 1, false);
                                         return d;
                                       }}) &&
         DataSets::of().add("logreg", {"logistic regression with known truth", [](const Config& c) {
                                         DataSet d;
                                         d.name = "logreg";
                                         d.classes = 2;
                                         d.train = linear_part(train_count(c, 400), 6, 4, 0, true);
                                         d.test = linear_part(test_count(c, 1000), 6, 4, 1, true);
                                         return d;
                                       }});
}
const bool registered_builtin = register_builtin();
}  // namespace

}  // namespace varion
