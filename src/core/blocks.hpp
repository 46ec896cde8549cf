// Elementwise kernels over stretches of flat vectors, in blocks that a compiler turns into full vectors.
#pragma once

#include <cstdint>

#include "core/bfloat16.hpp"
#include "core/random.hpp"

namespace varion {

/// A block of noise holds the numbers of whole counters: 128 on a host, 4 on a GPU.
template <class Body, int kBlock>
struct BlockLoop {
  Index begin, end;
  Body body;
  KOKKOS_INLINE_FUNCTION void operator()(const Index block) const {
    const Index base = block * kBlock;
    if (base >= begin && base + kBlock <= end)
      body(base, 0, kBlock);  // the count is a constant: no remainder loop
    else
      body(base, static_cast<int>(base < begin ? begin - base : 0), static_cast<int>(end - base < kBlock ? end - base : kBlock));
  }
};

/// Calls body(base, lo, hi) for every block that meets [begin, end): its elements are base + lo ... base + hi - 1, and
/// base is a multiple of the block. Loops over them should stand under VARION_IVDEP and touch plain pointers.
template <int block = kNoiseBlock, class Body>
void for_blocks(const char* label, const Exec& exec, Index begin, Index end, const Body& body) {
  if (end <= begin) return;
  Kokkos::parallel_for(label, Range(exec, begin / block, (end - 1) / block + 1), BlockLoop<Body, block>{begin, end, body});
}

/// A block of a GPU's in registers, moved as one access where its address allows; `other` stands outside [lo, hi).
struct alignas(16) FourReals {
  Real word[4];
};
template <class E>
KOKKOS_INLINE_FUNCTION void load_words(const E* from, int lo, int hi, Real other, FourReals& to) {
  using Words = Pack<E, 4>;
  if (lo == 0 && hi == 4 && reinterpret_cast<std::uintptr_t>(from) % sizeof(Words) == 0) {
    const Words all = *reinterpret_cast<const Words*>(from);
    for (int i = 0; i < 4; ++i) to.word[i] = all.at[i];
    return;
  }
  for (int i = 0; i < 4; ++i) to.word[i] = i >= lo && i < hi ? static_cast<Real>(from[i]) : other;
}
template <class E>
KOKKOS_INLINE_FUNCTION void store_words(const FourReals& from, int lo, int hi, E* to) {
  using Words = Pack<E, 4>;
  if (lo == 0 && hi == 4 && reinterpret_cast<std::uintptr_t>(to) % sizeof(Words) == 0) {
    *reinterpret_cast<Words*>(to) = {{from.word[0], from.word[1], from.word[2], from.word[3]}};
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
template <class V, class... More>
Pointers<const typename V::non_const_value_type*, 1 + static_cast<int>(sizeof...(More))> reads(const V& v, const More&... more) {
  return {{v.data(), more.data()...}};
}
template <class V, class... More>
Pointers<typename V::value_type*, 1 + static_cast<int>(sizeof...(More))> updates(const V& v, const More&... more) {
  return {{v.data(), more.data()...}};
}
inline Pointers<Real*, 0> updates() { return {}; }
template <class V, class... More>
Pointers<typename V::value_type*, 1 + static_cast<int>(sizeof...(More))> writes(const V& v, const More&... more) {
  return {{v.data(), more.data()...}};
}
inline Pointers<Real*, 0> writes() { return {}; }
inline Pointers<const Real*, 0> reads() { return {}; }

/// Some of them, of one kind, at a block: body sees float32.
template <class E, int count>
struct StreamGroup {
  using Plain = std::remove_const_t<E>;
  static constexpr int kRoom = count > 0 ? count : 1;
  Pointers<E*, count> all;

  template <int kBlock>
  KOKKOS_INLINE_FUNCTION bool lies_in() const {
    std::uintptr_t bits = 0;
    for (int k = 0; k < count; ++k) bits |= reinterpret_cast<std::uintptr_t>(all.at[k]);
    return bits % (kBlock * sizeof(Plain)) == 0;
  }
  /// Numbers [lo, hi) of a block; `step` of them, a constant, are moved as one access.
  template <int step, int room>
  KOKKOS_INLINE_FUNCTION void load(const Index base, int lo, int hi, Real (&to)[kRoom][room]) const {
    for (int k = 0; k < count; ++k)
      for (int i = lo; i < hi; i += step) {
        const auto pack = *reinterpret_cast<const Pack<Plain, step>*>(all.at[k] + base + i);
        for (int j = 0; j < step; ++j) to[k][i + j] = pack.at[j];
      }
  }
  template <int step, int room>
  KOKKOS_INLINE_FUNCTION void store(const Index base, int lo, int hi, const Real (&from)[kRoom][room]) const {
    for (int k = 0; k < count; ++k)
      for (int i = lo; i < hi; i += step) {
        Pack<Plain, step> pack;
        for (int j = 0; j < step; ++j) pack.at[j] = from[k][i + j];
        *reinterpret_cast<Pack<Plain, step>*>(all.at[k] + base + i) = pack;
      }
  }
};

template <class RE, int R, class UE, int U, class WE, int W, class Body>
struct StreamBody {
  // What a GPU's thread has at a time: 16 bytes of each vector, of those in float32 beside some in bfloat16 32.
  static constexpr bool kSmall = std::is_same_v<RE, Bfloat16> || std::is_same_v<UE, Bfloat16> || std::is_same_v<WE, Bfloat16>;
  static constexpr int kBlock = kHostExec ? kNoiseBlock : kSmall ? 8 : 4;
  StreamGroup<const RE, R> read;
  StreamGroup<UE, U> update;
  StreamGroup<WE, W> write;
  Body body;
  KOKKOS_INLINE_FUNCTION void operator()(const Index base, int lo, int hi) const {
    if constexpr (kHostExec && std::is_same_v<RE, Real> && std::is_same_v<UE, Real> && std::is_same_v<WE, Real>) {
      Streams<R, U, W> s;
      for (int k = 0; k < R; ++k) s.read.at[k] = read.all.at[k] + base;
      for (int k = 0; k < U; ++k) s.update.at[k] = update.all.at[k] + base;
      for (int k = 0; k < W; ++k) s.write.at[k] = write.all.at[k] + base;
      body(s, lo, hi);
    } else if (kHostExec) {
      pass<1>(base, lo, hi);
    } else if (lo == 0 && hi == kBlock && read.template lies_in<kBlock>() && update.template lies_in<kBlock>() && write.template lies_in<kBlock>()) {
      pass<kBlock>(base, 0, kBlock);
    } else {
      for (int i = lo; i < hi; ++i) pass<1>(base + i, 0, 1);  // not lo to hi: registers have no index
    }
  }

 private:
  /// Through registers: a thread's loads are all on their way before it needs the first.
  template <int step>
  KOKKOS_INLINE_FUNCTION void pass(const Index base, const int lo, const int hi) const {
    constexpr int room = kBlock;
    Real in[R > 0 ? R : 1][room], own[U > 0 ? U : 1][room], out[W > 0 ? W : 1][room];
    read.template load<step>(base, lo, hi, in);
    update.template load<step>(base, lo, hi, own);
    Streams<R, U, W> s;
    for (int k = 0; k < R; ++k) s.read.at[k] = in[k];
    for (int k = 0; k < U; ++k) s.update.at[k] = own[k];
    for (int k = 0; k < W; ++k) s.write.at[k] = out[k];
    body(s, lo, hi);
    update.template store<step>(base, lo, hi, own);
    write.template store<step>(base, lo, hi, out);
  }
};

/// Elementwise work on [begin, end) of some vectors: body(s, lo, hi) for a block at a time, whose elements are s.read[k][i],
/// s.update[k][i], s.write[k][i] for i = lo ... hi - 1, all independent; its loop should stand under VARION_IVDEP. A GPU's threads
/// hold four elements, in registers, or eight. Vectors of different kinds must not overlap unless they are the same. Those kept in bfloat16
/// are float32 to the body.
template <class RE, int R, class UE, int U, class WE, int W, class Body>
void for_streams(const char* label, const Exec& exec, Index begin, Index end, const Pointers<const RE*, R>& read,
                 const Pointers<UE*, U>& update, const Pointers<WE*, W>& write, const Body& body) {
  using All = StreamBody<RE, R, UE, U, WE, W, Body>;
  for_blocks<All::kBlock>(label, exec, begin, end, All{{read}, {update}, {write}, body});
}

}  // namespace varion
