#include "train/batch.hpp"

namespace varion {

namespace {
template <class View, class T>
View to_device(const Exec& exec, const char* label, const std::vector<T>& v) {
  const View out(std::string(label), v.size());
  const Kokkos::View<const T*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged> host(v.data(), v.size());
  Kokkos::deep_copy(exec, out, host);
  exec.fence();  // the host vector may go
  return out;
}
}  // namespace

DeviceExamples::DeviceExamples(const Exec& exec, const Examples& e)
    : count(e.count),
      dims(e.example.size()),
      height(e.example[0]),
      width(e.example[1]),
      planes(e.example[2]),
      x(to_device<Vec>(exec, "varion::data::x", e.x)),
      targets(to_device<Vec>(exec, "varion::data::targets", e.targets)),
      pixels(to_device<ByteVec>(exec, "varion::data::pixels", e.pixels)),
      labels(to_device<IntVec>(exec, "varion::data::labels", e.labels)) {
  std::vector<float> scale, shift;
  for (size_t c = 0; c < e.pixel_mean.size(); ++c) {
    scale.push_back(1 / (255 * e.pixel_std[c]));
    shift.push_back(-e.pixel_mean[c] / e.pixel_std[c]);
  }
  pixel_scale = to_device<Vec>(exec, "varion::data::scale", scale);
  pixel_shift = to_device<Vec>(exec, "varion::data::shift", shift);
}

void BatchPlan::in_order(const Exec& exec, Index first, Index count) const {
  const IntVec example_ = example, placed_ = placed;
  const auto middle = static_cast<std::int32_t>(crop_pad << 16 | crop_pad << 1);
  Kokkos::parallel_for(
      "varion::data::in_order", Range(exec, 0, static_cast<Index>(example.extent(0))),
      KOKKOS_LAMBDA(const Index i) {
        example_(i) = static_cast<std::int32_t>(first + i < count ? first + i : count - 1);
        placed_(i) = middle;
      });
}

void BatchPlan::shuffled(const Exec& exec, std::uint64_t seed, std::uint64_t first, Index count) const {
  const auto n = static_cast<std::uint64_t>(count);
  // A batch touches at most two epochs (batch <= N).
  const std::uint64_t epoch = first / n, offset = first % n;
  const RandomKey order0 = RandomKey::make(seed, Stream::order, epoch);
  const RandomKey order1 = RandomKey::make(seed, Stream::order, epoch + 1);
  const RandomKey augment0 = RandomKey::make(seed, Stream::augment, epoch);
  const RandomKey augment1 = RandomKey::make(seed, Stream::augment, epoch + 1);
  const IntVec example_ = example, placed_ = placed;
  const bool mirror = flip;
  const auto pad = static_cast<std::uint32_t>(crop_pad);
  Kokkos::parallel_for(
      "varion::data::shuffled", Range(exec, 0, static_cast<Index>(example.extent(0))),
      KOKKOS_LAMBDA(const Index i) {
        const std::uint64_t at = offset + static_cast<std::uint64_t>(i);
        const bool wrapped = at >= n;
        const auto position = static_cast<std::uint32_t>(wrapped ? at - n : at);
        example_(i) = static_cast<std::int32_t>(
            keyed_bijection(wrapped ? order1 : order0, static_cast<std::uint32_t>(n), position));
        const Words4 w = (wrapped ? augment1 : augment0).words(position);
        placed_(i) = static_cast<std::int32_t>(below(w.w[0], 2 * pad + 1) << 16 |
                                               below(w.w[1], 2 * pad + 1) << 1 |
                                               (mirror ? w.w[2] >> 31 : 0u));
      });
}

void BatchPlan::gather(const Exec& exec, const DeviceExamples& from, Vec x) const {
  const IntVec example_ = example, placed_ = placed;
  const auto batch = static_cast<Index>(example.extent(0));
  if (from.pixels.extent(0) == 0) {
    const ConstVec values = from.x;
    const Index dims = from.dims;
    Kokkos::parallel_for(
        "varion::data::gather", Range(exec, 0, batch), KOKKOS_LAMBDA(const Index i) {
          const Index source = example_(i) * dims;
          for (Index d = 0; d < dims; ++d) x(i * dims + d) = values(source + d);
        });
    return;
  }
  const ConstByteVec pixels = from.pixels;
  const ConstVec scale = from.pixel_scale, shift = from.pixel_shift;
  const Index h = from.height, w = from.width, c = from.planes, pad = crop_pad;
  Kokkos::parallel_for(
      "varion::data::gather_image", Range(exec, 0, batch * h), KOKKOS_LAMBDA(const Index r) {
        const Index i = r / h, row = r % h;
        const std::int32_t placed_i = placed_(i);
        const Index dy = (placed_i >> 16) - pad, dx = (placed_i >> 1 & 0x7fff) - pad;
        const bool mirrored = (placed_i & 1) != 0;
        const Index from_row = row + dy;
        const Index source = (example_(i) * h + from_row) * w;
        for (Index column = 0; column < w; ++column) {
          // Mirror first, then crop: column + dx of the mirrored image.
          const Index moved = column + dx;
          const Index at = mirrored ? w - 1 - moved : moved;
          const bool inside = from_row >= 0 && from_row < h && moved >= 0 && moved < w;
          for (Index k = 0; k < c; ++k) {
            const Real p = inside ? static_cast<Real>(pixels((source + at) * c + k)) : Real(0);
            x((r * w + column) * c + k) = p * scale(k) + shift(k);
          }
        }
      });
}

void BatchPlan::gather_labels(const Exec& exec, const DeviceExamples& from, IntVec labels) const {
  const IntVec example_ = example;
  const ConstIntVec all = from.labels;
  Kokkos::parallel_for(
      "varion::data::gather_labels", Range(exec, 0, static_cast<Index>(example.extent(0))),
      KOKKOS_LAMBDA(const Index i) { labels(i) = all(example_(i)); });
}

void BatchPlan::gather_targets(const Exec& exec, const DeviceExamples& from, Vec targets) const {
  const IntVec example_ = example;
  const ConstVec all = from.targets;
  Kokkos::parallel_for(
      "varion::data::gather_targets", Range(exec, 0, static_cast<Index>(example.extent(0))),
      KOKKOS_LAMBDA(const Index i) { targets(i) = all(example_(i)); });
}

}  // namespace varion
