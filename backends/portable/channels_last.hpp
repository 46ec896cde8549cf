// What a library for channels-last images needs around it: weights in its order, padding that it does not know.
#pragma once

#include "backends/backend.hpp"

namespace varion::backend {

/// [O, C, kh, kw] to [O, kh, kw, C].
void weight_to_channels_last(const Exec&, const Conv&, ConstVec weight, Vec ordered);
/// The inverse order, for a gradient: weight (+)= ordered.
void weight_from_channels_last(const Exec&, const Conv&, ConstVec ordered, bool add, Vec weight);

/// y [rows, O] += bias. 8 bytes per element.
void add_bias(const Exec&, Index rows, Index o, ConstVec bias, Vec y);

/// Vendors' libraries pad both sides alike: true where the output comes out right so.
bool pads_alike(const Conv&);
/// The same convolution on an image that has its padding, and nothing that no tap meets:
/// [N, (Ho - 1) stride + kh, (Wo - 1) stride + kw, C]. For TensorFlow's SAME, which may pad one side more.
Conv padded_shape(const Conv&);
void pad_image(const Exec&, const Conv&, ConstVec x, Vec padded);
/// dx (+)= the inside of the padded gradient; pixels that no tap meets get nothing.
void unpad_image(const Exec&, const Conv&, ConstVec padded, bool add, Vec dx);
/// dx += image, of x's shape. 12 bytes per element.
void add_image(const Exec&, const Conv&, ConstVec image, Vec dx);

}  // namespace varion::backend
