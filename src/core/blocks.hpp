// Elementwise kernels over stretches of flat vectors, in blocks that a compiler turns into full vectors.
#pragma once

#include <cstdint>

#include "core/random.hpp"

namespace varion {

/// A block of noise holds the numbers of whole counters: 128 on a host, 4 on a GPU.
template <class Body>
struct BlockLoop {
  Index begin, end;
  Body body;
  KOKKOS_INLINE_FUNCTION void operator()(const Index block) const {
    const Index base = block * kNoiseBlock;
    if (base >= begin && base + kNoiseBlock <= end)
      body(base, 0, kNoiseBlock);  // the count is a constant: no remainder loop
    else
      body(base, static_cast<int>(base < begin ? begin - base : 0),
           static_cast<int>(end - base < kNoiseBlock ? end - base : kNoiseBlock));
  }
};

/// Calls body(base, lo, hi) for every block that meets [begin, end): its elements are base + lo ... base + hi - 1, and
/// base is a multiple of kNoiseBlock. Loops over them should stand under VARION_IVDEP and touch plain pointers.
template <class Body>
void for_blocks(const char* label, const Exec& exec, Index begin, Index end, const Body& body) {
  if (end <= begin) return;
  Kokkos::parallel_for(label, Range(exec, begin / kNoiseBlock, (end - 1) / kNoiseBlock + 1), BlockLoop<Body>{begin, end, body});
}

/// A block of a GPU's, moved as one access of 16 bytes where its address allows; `other` stands outside [lo, hi).
struct alignas(16) FourReals {
  Real word[4];
};
KOKKOS_INLINE_FUNCTION void load_words(const Real* from, int lo, int hi, Real other, FourReals& to) {
  if (lo == 0 && hi == 4 && reinterpret_cast<std::uintptr_t>(from) % 16 == 0) {
    to = *reinterpret_cast<const FourReals*>(from);
    return;
  }
  for (int i = 0; i < 4; ++i) to.word[i] = i >= lo && i < hi ? from[i] : other;
}
KOKKOS_INLINE_FUNCTION void store_words(const FourReals& from, int lo, int hi, Real* to) {
  if (lo == 0 && hi == 4 && reinterpret_cast<std::uintptr_t>(to) % 16 == 0) {
    *reinterpret_cast<FourReals*>(to) = from;
    return;
  }
  for (int i = 0; i < 4; ++i)
    if (i >= lo && i < hi) to[i] = from.word[i];
}

/// Vectors that a kernel goes through together: those that it reads, updates and writes.
template <class Pointer, int count>
struct Pointers {
  Pointer at[count > 0 ? count : 1];
  KOKKOS_INLINE_FUNCTION Pointer operator[](int i) const { return at[i]; }
};
template <int reads, int updates, int writes>
struct Streams {
  Pointers<const Real*, reads> read;
  Pointers<Real*, updates> update;
  Pointers<Real*, writes> write;
};
template <class... V>
Pointers<const Real*, static_cast<int>(sizeof...(V))> reads(const V&... v) {
  return {{v.data()...}};
}
template <class... V>
Pointers<Real*, static_cast<int>(sizeof...(V))> updates(const V&... v) {
  return {{v.data()...}};
}
template <class... V>
Pointers<Real*, static_cast<int>(sizeof...(V))> writes(const V&... v) {
  return {{v.data()...}};
}

template <int R, int U, int W, class Body>
struct StreamBody {
  Streams<R, U, W> all;
  Body body;
  KOKKOS_INLINE_FUNCTION void operator()(const Index base, int lo, int hi) const {
    Streams<R, U, W> s;
    if constexpr (kHostExec) {
      for (int k = 0; k < R; ++k) s.read.at[k] = all.read.at[k] + base;
      for (int k = 0; k < U; ++k) s.update.at[k] = all.update.at[k] + base;
      for (int k = 0; k < W; ++k) s.write.at[k] = all.write.at[k] + base;
      body(s, lo, hi);
    } else if (lo == 0 && hi == 4 && is_aligned()) {
      pass<FourReals>(base, 4);
    } else {
      for (int i = lo; i < hi; ++i) pass<Real>(base + i, 1);
    }
  }

 private:
  KOKKOS_INLINE_FUNCTION bool is_aligned() const {
    std::uintptr_t bits = 0;
    for (int k = 0; k < R; ++k) bits |= reinterpret_cast<std::uintptr_t>(all.read.at[k]);
    for (int k = 0; k < U; ++k) bits |= reinterpret_cast<std::uintptr_t>(all.update.at[k]);
    for (int k = 0; k < W; ++k) bits |= reinterpret_cast<std::uintptr_t>(all.write.at[k]);
    return bits % sizeof(FourReals) == 0;
  }
  /// Through registers: a thread's loads are all on their way before it needs the first.
  template <class Words>
  KOKKOS_INLINE_FUNCTION void pass(const Index base, const int count) const {
    Words in[R > 0 ? R : 1], own[U > 0 ? U : 1], out[W > 0 ? W : 1];
    Streams<R, U, W> s;
    for (int k = 0; k < R; ++k) {
      in[k] = *reinterpret_cast<const Words*>(all.read.at[k] + base);
      s.read.at[k] = reinterpret_cast<const Real*>(&in[k]);
    }
    for (int k = 0; k < U; ++k) {
      own[k] = *reinterpret_cast<const Words*>(all.update.at[k] + base);
      s.update.at[k] = reinterpret_cast<Real*>(&own[k]);
    }
    for (int k = 0; k < W; ++k) s.write.at[k] = reinterpret_cast<Real*>(&out[k]);
    body(s, 0, count);
    for (int k = 0; k < U; ++k) *reinterpret_cast<Words*>(all.update.at[k] + base) = own[k];
    for (int k = 0; k < W; ++k) *reinterpret_cast<Words*>(all.write.at[k] + base) = out[k];
  }
};

/// Elementwise work on [begin, end) of some vectors: body(s, lo, hi) for a block at a time, whose elements are s.read[k][i],
/// s.update[k][i], s.write[k][i] for i = lo ... hi - 1, all independent; its loop should stand under VARION_IVDEP. A GPU's threads
/// hold four elements, in registers. Vectors of different kinds must not overlap unless they are the same.
template <int R, int U, int W, class Body>
void for_streams(const char* label, const Exec& exec, Index begin, Index end, const Pointers<const Real*, R>& read,
                 const Pointers<Real*, U>& update, const Pointers<Real*, W>& write, const Body& body) {
  for_blocks(label, exec, begin, end, StreamBody<R, U, W, Body>{{read, update, write}, body});
}

}  // namespace varion
