// Examples on the device, and how a batch of them reaches the graph's inputs.
#pragma once

#include "core/random.hpp"
#include "data/dataset.hpp"

namespace varion {

using ByteVec = Kokkos::View<std::uint8_t*, Memory>;
using ConstByteVec = Kokkos::View<const std::uint8_t*, Memory>;

struct DeviceExamples {
  DeviceExamples(const Exec& exec, const Examples& e);
  Index count, dims;            // examples, numbers an example
  Index height, width, planes;  // of images; planes is the number of channels
  Vec x, targets;
  ByteVec pixels;
  Vec pixel_scale, pixel_shift;  // [planes]: value = pixel * scale + shift
  IntVec labels;
};

/// Which examples a batch holds and how each is augmented.
struct BatchPlan {
  BatchPlan(Index batch, bool flip_, Index crop_pad_)
      : example("varion::data::example", static_cast<size_t>(batch)),
        placed("varion::data::placed", static_cast<size_t>(batch)),
        flip(flip_),
        crop_pad(crop_pad_) {}
  IntVec example;  // [batch] index of the example
  IntVec placed;   // [batch] (dy + pad) << 16 | (dx + pad) << 1 | mirrored
  bool flip;
  Index crop_pad;

  /// Rows are the examples first, first + 1 ... in file order, the last one repeated past the end.
  void in_order(const Exec& exec, Index first, Index count) const;
  /// Row i is number (first + i) of the training order: epoch e is a keyed bijection of (seed, order, e), so
  /// nothing is stored and any position can be resumed from. Augmentation is drawn from (seed, augment, e).
  void shuffled(const Exec& exec, std::uint64_t seed, std::uint64_t first, Index count) const;
  /// Writes the batch. Images are read as bytes: 1 byte in and 4 out a number; others 4 and 4.
  void gather(const Exec& exec, const DeviceExamples& from, Vec x) const;
  void gather_labels(const Exec& exec, const DeviceExamples& from, IntVec labels) const;
  void gather_targets(const Exec& exec, const DeviceExamples& from, Vec targets) const;
};

}  // namespace varion
