// Two ways to the same gradients, for the tests to compare: in one pass over some rows on a host, rows and columns apart on a GPU.
#pragma once

#include "core/bfloat16.hpp"
#include "graph/graph.hpp"

namespace varion {

/// Pieces of `rows` rows whose parts of the parameters' gradient are summed first.
Index layer_norm_chunks(Index rows);

/// With z = (x - mean) r and e = dy gamma: dx (+)= r (e - mean(e) - z mean(e z)), where it is wanted; part[0][chunk] = the chunk's sums
/// of dy z, part[1][chunk], where it shifts, of dy; part [2, chunks, D]. 16 bytes per element, by rows 8 more; dy in
/// bfloat16 halves its part.
void layer_norm_backward(const Exec&, Index rows, Index width, ConstVec x, ConstVec gamma, ConstVec mean, ConstVec r, const AnyVec& dy,
                         bool shifts, bool wants, GradSlot dx, Vec part);
void layer_norm_backward_rows(const Exec&, Index rows, Index width, ConstVec x, ConstVec gamma, ConstVec mean, ConstVec r, const AnyVec& dy,
                              bool shifts, bool wants, GradSlot dx, Vec part);

}  // namespace varion
