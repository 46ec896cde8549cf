// What attention by teams is made of. Two tiles pass through a team's fast memory in steps of kDeep of the summed index: up to
// 64 rows of one factor, up to 64 columns of the other. Each of kTeam slots keeps R x 4 sums in registers, so that four steps of
// them read R + 4 times four words and do 16 R fmas. 19 kB in all, for any width of a head and any length.
//
// `Team` threads share the slots: kTeam on a GPU, one slot each; 1 on a host, where the tests run the same code.
#pragma once

#include <cmath>

#include "core/blocks.hpp"

// GPU compilers unroll long loops until registers run out, and leave short ones whose bodies are large.
#if defined(__CUDACC__) || defined(__clang__)
#define VARION_ROLLED _Pragma("unroll 1")
#define VARION_FLAT _Pragma("unroll")
#else
#define VARION_ROLLED
#define VARION_FLAT
#endif

namespace varion::backend {

/// FourReals neighbouring words, moved at once.
KOKKOS_INLINE_FUNCTION FourReals four(const Real* at) { return *reinterpret_cast<const FourReals*>(at); }

/// Where a slot stands: column x of NX, row y. 32 neighbouring slots cover 8 x 4, and slots 2 i and 2 i + 1 share a column: a
/// warp then asks for few different words of either tile.
template <int NX>
struct Place {
  int x, y;
  KOKKOS_INLINE_FUNCTION explicit Place(int slot)
      : x(slot / 2 % 8 + (NX == 16 ? slot / 32 % 2 * 8 : 0)),
        y(slot % 2 + (NX == 16 ? slot / 16 % 2 * 2 + slot / 64 * 4 : slot / 16 * 2)) {}
};

template <int Team>
struct AttentionTiles {
  static constexpr int kTeam = 128, kSlots = kTeam / Team, kSide = 64, kDeep = 32;
  static constexpr int kPitch = kDeep + 4;  // wide loads of neighbouring rows fall into different banks
  static constexpr int kWords = kSide * kPitch;
  /// to[Rows][Columns + 4] = rows of `from`, zeros outside.
  template <int Rows, int Columns>
  KOKKOS_INLINE_FUNCTION static void load(const Real* from, int pitch, int rows, int columns, int slot0, Real* to) {
    constexpr int down = kTeam / Columns, each = Rows / down;
    for (int s = 0; s < kSlots; ++s) {
      const int row = (slot0 + s) / Columns, column = (slot0 + s) % Columns;
      const int below = column < columns ? rows - row : 0;
      const Real* at = from + row * pitch + column;
      Real held[each];  // all are on their way before the first is stored
      for (int e = 0; e < each; ++e, at += down * pitch) held[e] = e * down < below ? *at : Real(0);
      for (int e = 0; e < each; ++e) to[(row + e * down) * (Columns + 4) + column] = held[e];
    }
  }

  /// sum[r][c] += row y + 8 r of a times row x + 16 c of b, over 4 `fours` words.
  template <int C, int R>
  KOKKOS_INLINE_FUNCTION static void dots(const Real* a, const Real* b, int fours, int slot0, Real (&sum)[kSlots][R][4]) {
    for (int s = 0; s < kSlots; ++s) {
      const Place<16> at(slot0 + s);
      VARION_ROLLED
      for (int q = 0; q < fours; ++q) {
        FourReals right[C];
        for (int c = 0; c < C; ++c) right[c] = four(b + (at.x + 16 * c) * kPitch + 4 * q);
        for (int r = 0; r < R; ++r) {
          const FourReals left = four(a + (at.y + 8 * r) * kPitch + 4 * q);
          for (int e = 0; e < 4; ++e)
            for (int c = 0; c < C; ++c) sum[s][r][c] = std::fma(left.word[e], right[c].word[e], sum[s][r][c]);
        }
      }
    }
  }

  /// sum[r][f] += row y + (kTeam / NX) r of a times column 4 x + f of b [4 fours][4 NX + 4].
  template <int NX, int R>
  KOKKOS_INLINE_FUNCTION static void mixes(const Real* a, const Real* b, int fours, int slot0, Real (&sum)[kSlots][R][4]) {
    for (int s = 0; s < kSlots; ++s) {
      const Place<NX> at(slot0 + s);
      VARION_ROLLED
      for (int q = 0; q < fours; ++q) {
        FourReals right[4];
        for (int e = 0; e < 4; ++e) right[e] = four(b + (4 * q + e) * (4 * NX + 4) + 4 * at.x);
        for (int r = 0; r < R; ++r) {
          const FourReals left = four(a + (at.y + kTeam / NX * r) * kPitch + 4 * q);
          for (int e = 0; e < 4; ++e)
            for (int f = 0; f < 4; ++f) sum[s][r][f] = std::fma(left.word[e], right[e].word[f], sum[s][r][f]);
        }
      }
    }
  }

  /// sum = 8 R rows of `left` times up to 64 rows of `right`, over their whole width. Ends with a barrier.
  template <class Member, int R>
  KOKKOS_INLINE_FUNCTION static void scores(const Member& team, const Real* left, int left_pitch, int rows, const Real* right,
                                            int right_pitch, int columns, Index width, Real* a, Real* b,
                                            Real (&sum)[kSlots][R][4]) {
    const int slot0 = team.team_rank() * kSlots;
    for (int s = 0; s < kSlots; ++s)
      for (int r = 0; r < R; ++r)
        for (int c = 0; c < 4; ++c) sum[s][r][c] = 0;
    VARION_ROLLED
    for (Index k = 0; k < width; k += kDeep) {
      const int deep = width - k < kDeep ? static_cast<int>(width - k) : kDeep, fours = (deep + 3) / 4;
      load<8 * R, kDeep>(left + k, left_pitch, rows, deep, slot0, a);
      if (columns > 16) {
        load<kSide, kDeep>(right + k, right_pitch, columns, deep, slot0, b);
        team.team_barrier();
        dots<4>(a, b, fours, slot0, sum);
      } else {  // a class token makes such tiles: a quarter of the work
        load<16, kDeep>(right + k, right_pitch, columns, deep, slot0, b);
        team.team_barrier();
        dots<1>(a, b, fours, slot0, sum);
      }
      team.team_barrier();
    }
  }

  /// Columns 32 H to 32 H + 31 of the weights times those rows of `from`, of which `width` columns are left.
  template <int H, int Wide, class Member, int R, int Groups, int Rows>
  KOKKOS_INLINE_FUNCTION static void add_half(const Member& team, const Real (&weight)[kSlots][R][4], const Real* from, int pitch,
                                              int columns, Index width, Real* a, Real* b, Real (&out)[Groups][kSlots][Rows][4]) {
    const int slot0 = team.team_rank() * kSlots, deep = columns - 32 * H < kDeep ? columns - 32 * H : kDeep;
    for (int s = 0; s < kSlots; ++s) {
      const Place<16> at(slot0 + s);
      for (int r = 0; r < R; ++r)
        for (int c = 0; c < 2; ++c) a[(at.y + 8 * r) * kPitch + at.x + 16 * c] = weight[s][r][2 * H + c];
    }
    VARION_FLAT
    for (int g = 0; g < Groups; ++g) {
      const Index left = width - g * Wide;
      load<kDeep, Wide>(from + 32 * H * pitch + g * Wide, pitch, deep, left < Wide ? static_cast<int>(left) : Wide, slot0, b);
      team.team_barrier();
      mixes<Wide / 4>(a, b, (deep + 3) / 4, slot0, out[g]);
      team.team_barrier();
    }
  }

  /// out += the weights times up to 64 rows of `from`. Ends with a barrier.
  template <int Wide, class Member, int R, int Groups, int Rows>
  KOKKOS_INLINE_FUNCTION static void add_product(const Member& team, const Real (&weight)[kSlots][R][4], const Real* from, int pitch,
                                                 int columns, Index width, Real* a, Real* b, Real (&out)[Groups][kSlots][Rows][4]) {
    add_half<0, Wide>(team, weight, from, pitch, columns, width, a, b, out);
    if (columns > 32) add_half<1, Wide>(team, weight, from, pitch, columns, width, a, b, out);
  }
};

}  // namespace varion::backend
