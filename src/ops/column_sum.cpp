#include "ops/column_sum.hpp"

#include "core/error.hpp"
#include "core/random.hpp"

namespace varion {

namespace {
// Rows an item sums: few enough on a GPU that thousands of items are at work.
constexpr Index kChunk = kHostExec ? 512 : 64;
constexpr Index kColumns = kHostExec ? 16 : 1;  // columns an item: one vector on a host

Index chunks(Index rows) { return (rows + kChunk - 1) / kChunk; }
}  // namespace

/// `count` columns of `rows` rows, `stride` numbers apart: their sums, and with `relu` dy masked in place.
template <bool relu, class E>
KOKKOS_INLINE_FUNCTION void sum_rows(Index rows, Index stride, int count, const Real* y, E* dy, bool add, Real* sum) {
  Real s[kColumns] = {};
  for (Index n = 0; n < rows; ++n) {
    E* const d = dy + n * stride;
    VARION_LANES
    for (int k = 0; k < count; ++k) {
      if constexpr (relu) d[k] = y[n * stride + k] > 0 ? d[k] : Real(0);
      s[k] += d[k];
    }
  }
  for (int k = 0; k < count; ++k) sum[k] = add ? sum[k] + s[k] : s[k];
}

/// sum [chunks, columns] = the sums of `rows` rows, chunk by chunk.
template <bool relu, class E>
void chunk_sums(const Exec& exec, Index rows, Index columns, const Real* y, E* dy, bool add, Real* sum) {
  const Index across = (columns + kColumns - 1) / kColumns;
  Kokkos::parallel_for(
      "varion::column_sum::chunks", Range(exec, 0, chunks(rows) * across), KOKKOS_LAMBDA(const Index item) {
        const Index chunk = item / across, row = chunk * kChunk, first = item % across * kColumns;
        const Index at = row * columns + first, left = rows - row < kChunk ? rows - row : kChunk;
        Real* const to = sum + chunk * columns + first;
        if (columns - first >= kColumns)
          sum_rows<relu>(left, columns, kColumns, relu ? y + at : nullptr, dy + at, add, to);
        else
          sum_rows<relu>(left, columns, static_cast<int>(columns - first), relu ? y + at : nullptr, dy + at, add, to);
      });
}

namespace {
template <bool relu, class E>
void sum_all(const Exec& exec, Index rows, Index columns, const Real* y, E* dy, GradSlot sum, Vec scratch) {
  ensure(static_cast<Index>(scratch.extent(0)) >= column_sum_words(rows, columns), "column_sum: scratch");
  Real* to = chunks(rows) > 1 ? scratch.data() : sum.data.data();
  chunk_sums<relu>(exec, rows, columns, y, dy, chunks(rows) == 1 && sum.add, to);
  for (rows = chunks(rows); rows > 1; rows = chunks(rows)) {
    Real* const from = to;
    const bool last = chunks(rows) == 1;
    to = last ? sum.data.data() : from + rows * columns;
    chunk_sums<false>(exec, rows, columns, nullptr, from, last && sum.add, to);
  }
}
}  // namespace

Index column_sum_words(Index rows, Index columns) {
  Index words = 0;
  for (rows = chunks(rows); rows > 1; rows = chunks(rows)) words += rows * columns;
  return words;
}

void column_sum(const Exec& exec, Index rows, Index columns, ConstVec dy, GradSlot sum, Vec scratch) {
  sum_all<false>(exec, rows, columns, nullptr, const_cast<Real*>(dy.data()), sum, scratch);  // only the masked form writes
}

void any_column_sum(const Exec& exec, Index rows, Index columns, const AnyVec& dy, GradSlot sum, Vec scratch) {
  std::visit([&](const auto& d) { sum_all<false>(exec, rows, columns, nullptr, d.data(), sum, scratch); }, dy);
}

void relu_column_sum(const Exec& exec, Index rows, Index columns, ConstVec y, Vec dy, GradSlot sum, Vec scratch) {
  sum_all<true>(exec, rows, columns, y.data(), dy.data(), sum, scratch);
}

}  // namespace varion
