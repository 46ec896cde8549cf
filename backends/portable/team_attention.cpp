// Attention by teams: a team a tile of up to 64 queries (or keys) goes through the tiles of keys (or queries) it meets; scores
// live in registers and pass through fast memory, none goes to the device's. Every sum has one order: the same bits every run.
#include <algorithm>

#include "backends/portable/attention_tiles.hpp"
#include "backends/portable/team.hpp"
#include "core/vector_math.hpp"

namespace varion::backend {

/// What the kernels share: a tile of rows of one item, and the part of the width whose sums this team keeps. `Kept` of them
/// stand in a slot's registers: three teams of 128 slots a multiprocessor (three waves an AMD SIMD) leave it 168, two 255.
template <int Threads, int Wide, int Groups, int Kept>
struct AttentionTeam {
  using Tiles = AttentionTiles<Threads>;
  using Policy = Kokkos::TeamPolicy<Exec, Kokkos::IndexType<Index>, Kokkos::LaunchBounds<Tiles::kTeam, Kept <= 96 ? 3 : 2>>;
  using Member = typename Policy::member_type;
  using Scratch = Kokkos::View<FourReals*, Exec::scratch_memory_space, Kokkos::MemoryUnmanaged>;
  static constexpr int kSlots = Tiles::kSlots, kSide = Tiles::kSide;
  static constexpr int kFours = (2 * Tiles::kWords + 2 * kSide) / 4;  // the two tiles, and two numbers a row

  Attention s;
  Real scale;
  Index tall;  // rows of a tile: 64, 32 or 16

  AttentionTeam(const Exec& exec, const Attention& shape)
      : s(shape), scale(1 / std::sqrt(static_cast<Real>(shape.width))), tall(kSide) {
    // Fewer than two teams a multiprocessor leave it waiting for its own barriers; lower tiles read more of the other side.
    while (!kHostExec && tall > 16 && teams() * 8 * Tiles::kTeam < exec.concurrency()) tall /= 2;
  }
  KOKKOS_INLINE_FUNCTION Index tiles() const { return (s.length + tall - 1) / tall; }
  KOKKOS_INLINE_FUNCTION Index parts() const { return (s.width + Wide * Groups - 1) / (Wide * Groups); }
  Index teams() const { return s.batch * s.heads * tiles() * parts(); }

  KOKKOS_INLINE_FUNCTION Index next() const { return s.heads * s.width; }

  /// The last part of a team's number; heavy tiles of a causal item come first, which queries have at its end.
  KOKKOS_INLINE_FUNCTION Index column(Index team) const { return team % parts() * Wide * Groups; }
  KOKKOS_INLINE_FUNCTION Index first(Index team, bool reversed) const {
    const Index tile = team / parts() % tiles();
    return (reversed ? tiles() - 1 - tile : tile) * tall;
  }
  KOKKOS_INLINE_FUNCTION Index item(Index team) const { return team / parts() / tiles(); }
  KOKKOS_INLINE_FUNCTION int count(Index from, Index end, Index most) const {
    return static_cast<int>(end - from < most ? end - from : most);
  }

  /// The kernel's run<R> for a team's tile of up to 8 R rows.
  template <class Kernel>
  KOKKOS_INLINE_FUNCTION void by_height(const Kernel& kernel, const Member& team, bool reversed) const {
    const Index from = first(team.league_rank(), reversed);
    const int rows = count(from, s.length, tall);
    if (rows > 32)
      kernel.template run<8>(team, from, rows);
    else if (rows > 16)
      kernel.template run<4>(team, from, rows);
    else
      kernel.template run<2>(team, from, rows);
  }

  /// to[row pitch + column] (+)= the sums, of `rows` rows and what is left of the width.
  template <int Rows>
  KOKKOS_INLINE_FUNCTION static void store(const Real (&out)[Groups][kSlots][Rows][4], int slot0, int rows, Index left, Index pitch,
                                           bool add, Real* to) {
    for (int g = 0; g < Groups; ++g)
      for (int i = 0; i < kSlots; ++i) {
        const Place<Wide / 4> at(slot0 + i);
        for (int r = 0; r < Rows; ++r)
          for (int f = 0; f < 4; ++f) {
            const int row = at.y + Tiles::kTeam / (Wide / 4) * r, column = g * Wide + 4 * at.x + f;
            if (row >= rows || column >= left) continue;
            Real& word = to[row * pitch + column];
            word = add ? word + out[g][i][r][f] : out[g][i][r][f];
          }
      }
  }
};

/// Online softmax. 64 queries and 64 keys: 8192 width fmas, 4096 exps of 20 instructions, 192 width words from cache, 85 flops a
/// word. From memory: queries, keys and values once where an item's stay in cache, and y.
template <int Threads, int Wide, int Groups>
struct AttentionForward : AttentionTeam<Threads, Wide, Groups, 40 + Wide / 2 * Groups> {
  using Base = AttentionTeam<Threads, Wide, Groups, 40 + Wide / 2 * Groups>;
  using Tiles = typename Base::Tiles;
  using Base::kSlots, Base::kSide, Base::s, Base::scale;
  const Real* qkv;
  Real *y, *log_sum;

  AttentionForward(const Exec& exec, const Attention& shape, ConstVec in, Vec out, Vec sums)
      : Base(exec, shape), qkv(in.data()), y(out.data()), log_sum(sums.data()) {}

  KOKKOS_INLINE_FUNCTION void operator()(const typename Base::Member& team) const {
    Base::by_height(*this, team, s.causal);
  }

  template <int R>
  KOKKOS_INLINE_FUNCTION void run(const typename Base::Member& team, Index first, int rows) const {
    constexpr int each = R * Wide / kSide, across = 17;  // odd: a thread a row, every one in its own bank
    const typename Base::Scratch words(team.team_scratch(0), Base::kFours);
    Real *const a = reinterpret_cast<Real*>(words.data()), *const b = a + Tiles::kWords;
    Real *const top = b + Tiles::kWords, *const factor = top + kSide;
    Real* const partial = a;  // [8 R][across], between two uses of the tile
    const int slot0 = team.team_rank() * kSlots;
    const Index item = Base::item(team.league_rank()), column = Base::column(team.league_rank()), next = Base::next();
    const Real *const query = qkv + s.query(item) + first * s.pitch(), *const key = qkv + s.query(item) + next;
    const Index end = s.causal ? first + rows : s.length;
    const int pitch = static_cast<int>(s.pitch());

    Real out[Groups][kSlots][each][4] = {};
    Real sum[kSlots][R] = {};  // of the columns that the slot sees
    for (int i = 0; i < kSlots; ++i)
      if (slot0 + i < 8 * R) top[slot0 + i] = -INFINITY;
    for (Index j0 = 0; j0 < end; j0 += kSide) {
      const int columns = Base::count(j0, end, kSide);
      const int edge = s.causal ? static_cast<int>(first - j0) : kSide;  // a row sees this many columns behind its own number
      Real p[kSlots][R][4];
      Tiles::scores(team, query, pitch, rows, key + j0 * pitch, pitch, columns, s.width, a, b, p);
      for (int i = 0; i < kSlots; ++i) {
        const Place<16> at(slot0 + i);
        for (int r = 0; r < R; ++r) {
          Real most = -INFINITY;
          for (int c = 0; c < 4; ++c) {
            const int j = at.x + 16 * c;
            const bool seen = j < columns && j - at.y - 8 * r <= edge;
            const Real x = seen ? scale * p[i][r][c] : -INFINITY;
            p[i][r][c] = x;
            most = x > most ? x : most;
          }
          partial[(at.y + 8 * r) * across + at.x] = most;
        }
      }
      team.team_barrier();
      for (int i = 0; i < kSlots; ++i) {
        const int row = slot0 + i;
        if (row >= 8 * R) continue;
        Real most = top[row];
        for (int x = 0; x < 16; ++x) most = partial[row * across + x] > most ? partial[row * across + x] : most;
        factor[row] = exp_lane(top[row] - most);
        top[row] = most;
      }
      team.team_barrier();
      for (int i = 0; i < kSlots; ++i) {
        const Place<16> at(slot0 + i);
        for (int r = 0; r < R; ++r) {
          const Real shift = top[at.y + 8 * r];
          Real total = sum[i][r] * factor[at.y + 8 * r];
          for (int c = 0; c < 4; ++c) total += p[i][r][c] = exp_lane(p[i][r][c] - shift);
          sum[i][r] = total;
        }
        const Place<Wide / 4> to(slot0 + i);
        for (int r = 0; r < each; ++r) {
          const Real f = factor[to.y + Tiles::kTeam / (Wide / 4) * r];
          for (int g = 0; g < Groups; ++g)
            for (int c = 0; c < 4; ++c) out[g][i][r][c] *= f;
        }
      }
      Tiles::template add_product<Wide>(team, p, key + next + j0 * pitch + column, pitch, columns, s.width - column, a, b, out);
    }

    for (int i = 0; i < kSlots; ++i) {
      const Place<16> at(slot0 + i);
      for (int r = 0; r < R; ++r) partial[(at.y + 8 * r) * across + at.x] = sum[i][r];
    }
    team.team_barrier();
    for (int i = 0; i < kSlots; ++i) {
      const int row = slot0 + i;
      if (row >= 8 * R) continue;
      Real total = 0;
      for (int x = 0; x < 16; ++x) total += partial[row * across + x];
      factor[row] = 1 / total;
      if (row < rows && column == 0) log_sum[item * s.length + first + row] = top[row] + std::log(total);
    }
    team.team_barrier();
    for (int i = 0; i < kSlots; ++i) {
      const Place<Wide / 4> to(slot0 + i);
      for (int r = 0; r < each; ++r) {
        const Real f = factor[to.y + Tiles::kTeam / (Wide / 4) * r];
        for (int g = 0; g < Groups; ++g)
          for (int c = 0; c < 4; ++c) out[g][i][r][c] *= f;
      }
    }
    Base::store(out, slot0, rows, s.width - column, next, false, y + s.output(item) + first * next + column);
  }
};

/// The gradient of the queries (a team a tile of queries goes through the keys it sees), or with `Keys` those of keys and values
/// (a team a tile of keys goes through the queries that see it). With w = softmax and d = dy . v of a pair:
/// e = scale w (d - along); dq = sum e k; dk = sum e q; dv = sum w dy. The softmax is computed again from its log_sum.
/// 64 queries and 64 keys: 12288 width fmas (Keys: 16384), 320 width words from cache (384), 77 flops a word (85).
template <int Threads, int Wide, int Groups, bool Keys>
struct AttentionGradient : AttentionTeam<Threads, Wide, Groups, 64 + Wide / 2 * Groups * (Keys ? 2 : 1)> {
  using Base = AttentionTeam<Threads, Wide, Groups, 64 + Wide / 2 * Groups * (Keys ? 2 : 1)>;
  using Tiles = typename Base::Tiles;
  using Base::kSlots, Base::kSide, Base::s, Base::scale;
  const Real *qkv, *dy, *log_sum, *along;
  bool add;
  Real* dqkv;

  AttentionGradient(const Exec& exec, const Attention& shape, ConstVec in, ConstVec above, ConstVec sums, ConstVec dots, bool onto,
                    Vec out)
      : Base(exec, shape), qkv(in.data()), dy(above.data()), log_sum(sums.data()), along(dots.data()), add(onto), dqkv(out.data()) {}

  KOKKOS_INLINE_FUNCTION void operator()(const typename Base::Member& team) const {
    Base::by_height(*this, team, s.causal && !Keys);
  }

  /// log_sum and along of up to 64 queries.
  KOKKOS_INLINE_FUNCTION void fetch(int slot0, Index from, int queries, Real* to) const {
    for (int i = 0; i < kSlots; ++i) {
      const int query = (slot0 + i) % kSide;
      const Real* const numbers = slot0 + i < kSide ? log_sum : along;
      to[slot0 + i] = query < queries ? numbers[from + query] : Real(0);
    }
  }

  template <int R>
  KOKKOS_INLINE_FUNCTION void run(const typename Base::Member& team, Index first, int rows) const {
    constexpr int each = R * Wide / kSide;  // rows whose sums a slot keeps
    const typename Base::Scratch words(team.team_scratch(0), Base::kFours);
    Real *const a = reinterpret_cast<Real*>(words.data()), *const b = a + Tiles::kWords, *const numbers = b + Tiles::kWords;
    const int slot0 = team.team_rank() * kSlots;
    const Index item = Base::item(team.league_rank()), column = Base::column(team.league_rank()), next = Base::next();
    const Real *const query = qkv + s.query(item), *const key = query + next, *const value = key + next;
    const Real* const above = dy + s.output(item);
    // Rows are the team's own, columns what it goes through.
    const Real *const row_score = Keys ? key : query, *const row_gain = Keys ? value : above;
    const Real *const column_score = Keys ? query : key, *const column_gain = Keys ? above : value;
    const int pitch = static_cast<int>(s.pitch()), row_pitch = Keys ? pitch : static_cast<int>(next);  // the latter of gains
    const int column_pitch = Keys ? static_cast<int>(next) : pitch;
    const Index begin = Keys && s.causal ? first : 0, end = !Keys && s.causal ? first + rows : s.length;

    Real out[Groups][kSlots][each][4] = {}, out_value[Groups][kSlots][each][4] = {};
    if (!Keys) fetch(slot0, item * s.length + first, rows, numbers);
    for (Index j0 = begin; j0 < end; j0 += kSide) {
      const int columns = Base::count(j0, end, kSide);
      if (Keys) fetch(slot0, item * s.length + j0, columns, numbers);
      const int edge = s.causal ? static_cast<int>(Keys ? j0 - first : first - j0) : kSide;
      Real e[kSlots][R][4], w[kSlots][R][4];
      Tiles::scores(team, row_gain + first * row_pitch, row_pitch, rows, column_gain + j0 * column_pitch, column_pitch, columns,
                    s.width, a, b, e);
      Tiles::scores(team, row_score + first * pitch, pitch, rows, column_score + j0 * pitch, pitch, columns, s.width, a, b, w);
      for (int i = 0; i < kSlots; ++i) {
        const Place<16> at(slot0 + i);
        for (int r = 0; r < R; ++r)
          for (int c = 0; c < 4; ++c) {
            const int row = at.y + 8 * r, j = at.x + 16 * c, of = Keys ? j : row;
            const bool seen = row < rows && j < columns && (Keys ? row - j : j - row) <= edge;
            const Real p = exp_lane(std::fma(scale, w[i][r][c], -numbers[of]));
            w[i][r][c] = seen ? p : Real(0);
            e[i][r][c] = seen ? scale * p * (e[i][r][c] - numbers[kSide + of]) : Real(0);
          }
      }
      Tiles::template add_product<Wide>(team, e, column_score + j0 * pitch + column, pitch, columns, s.width - column, a, b, out);
      if constexpr (Keys)
        Tiles::template add_product<Wide>(team, w, column_gain + j0 * column_pitch + column, column_pitch, columns,
                                          s.width - column, a, b, out_value);
    }
    Real* const to = dqkv + s.query(item) + first * s.pitch() + column;
    Base::store(out, slot0, rows, s.width - column, s.pitch(), add, Keys ? to + next : to);
    if constexpr (Keys) Base::store(out_value, slot0, rows, s.width - column, s.pitch(), add, to + 2 * next);
  }
};

template <class Kernel>
void launch_attention(const char* label, const Exec& exec, const Kernel& kernel) {
  typename Kernel::Policy policy(exec, static_cast<int>(kernel.teams()), Kernel::Tiles::kTeam / Kernel::kSlots);
  const auto bytes = Kernel::Scratch::shmem_size(Kernel::kFours);
  Kokkos::parallel_for(label, policy.set_scratch_size(0, Kokkos::PerTeam(static_cast<int>(bytes))), kernel);
}

/// along[item, i] = dy . y of the query. Moves 2 rows heads width words, a warp a row.
void attention_along(const Exec& exec, const Attention& s, ConstVec y, ConstVec dy, Vec along) {
  constexpr int threads = kHostExec ? 1 : 4, lanes = kHostExec ? 1 : 32;
  const Index all = s.rows() * s.heads, next = s.heads * s.width;
  Kokkos::parallel_for(
      "varion::attention::along", Team(exec, static_cast<int>((all + threads - 1) / threads), threads, lanes),
      KOKKOS_LAMBDA(const Member& team) {
        const Index row = team.league_rank() * Index(threads) + team.team_rank();
        if (row >= all) return;
        const Index first = s.output(row / s.length) + row % s.length * next;
        Real total = 0;
        Kokkos::parallel_reduce(
            Kokkos::ThreadVectorRange(team, s.width),
            [&](const Index k, Real& sum) { sum = std::fma(y(first + k), dy(first + k), sum); }, total);
        Kokkos::single(Kokkos::PerThread(team), [&] { along(row) = total; });
      });
}

inline constexpr int kThreads = kHostExec ? 1 : AttentionTiles<1>::kTeam;

Index team_attention_words(const Attention& s, bool backward) { return backward ? s.rows() * s.heads : 0; }

void team_attention_forward(const Exec& exec, const Attention& s, ConstVec qkv, Vec y, Vec log_sum) {
  const char* label = "varion::attention::team_forward";
  if (s.width <= 32)
    launch_attention(label, exec, AttentionForward<kThreads, 32, 1>(exec, s, qkv, y, log_sum));
  else if (s.width <= 64)
    launch_attention(label, exec, AttentionForward<kThreads, 64, 1>(exec, s, qkv, y, log_sum));
  else  // wider than 128: in parts that compute the same scores
    launch_attention(label, exec, AttentionForward<kThreads, 64, 2>(exec, s, qkv, y, log_sum));
}

void team_attention_backward(const Exec& exec, const Attention& s, ConstVec qkv, ConstVec y, ConstVec dy, ConstVec log_sum, bool add,
                             Vec dqkv, Vec work) {
  const char *queries = "varion::attention::queries", *keys = "varion::attention::keys";
  attention_along(exec, s, y, dy, work);
  if (s.width <= 32) {
    launch_attention(queries, exec, AttentionGradient<kThreads, 32, 1, false>(exec, s, qkv, dy, log_sum, work, add, dqkv));
    launch_attention(keys, exec, AttentionGradient<kThreads, 32, 1, true>(exec, s, qkv, dy, log_sum, work, add, dqkv));
  } else {
    launch_attention(queries, exec, AttentionGradient<kThreads, 64, 1, false>(exec, s, qkv, dy, log_sum, work, add, dqkv));
    launch_attention(keys, exec, AttentionGradient<kThreads, 64, 1, true>(exec, s, qkv, dy, log_sum, work, add, dqkv));
  }
}

}  // namespace varion::backend
