// Sums over the rows of a matrix: gradients of biases.
#pragma once

#include "graph/graph.hpp"

namespace varion {

/// Words of scratch that column_sum takes.
Index column_sum_words(Index rows, Index columns);

/// sum[d] (+)= sum over rows of dy[n, d]. Rows are taken in chunks of a fixed number and the chunks' sums likewise, so that
/// the bits depend on the shape alone. 4 bytes read per element, 2 of bfloat16.
void column_sum(const Exec& exec, Index rows, Index columns, ConstVec dy, GradSlot sum, Vec scratch);
void any_column_sum(const Exec& exec, Index rows, Index columns, const AnyVec& dy, GradSlot sum, Vec scratch);

/// The same behind a ReLU whose output is y [rows, columns]: dy becomes dy where y > 0 and else 0, in place, and is summed.
/// 12 bytes per element.
void relu_column_sum(const Exec& exec, Index rows, Index columns, ConstVec y, Vec dy, GradSlot sum, Vec scratch);

}  // namespace varion
