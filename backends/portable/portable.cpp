// The provider every machine has: Kokkos alone. Convolution is an implicit GEMM: no columns in memory. A host runs
// tiles that fill its vector registers (host_*.cpp), a GPU runs teams (team_*.cpp).
#include "backends/portable/portable.hpp"

#include <algorithm>

#include "backends/portable/batched.hpp"
#include "backends/portable/host.hpp"
#include "backends/portable/team.hpp"
#include "core/error.hpp"

namespace varion::backend {

namespace {
class Portable final : public Provider {
 public:
  Portable(std::string name, bool teams) : name_(std::move(name)), teams_(teams) {}
  std::string name() const override { return name_; }
  std::string description() const override { return teams_ ? "Kokkos teams" : "Kokkos, tiles in vector registers"; }

  void gemm(const Exec& exec, bool ta, bool tb, Index m, Index n, Index k, ConstVec a, ConstVec b, bool add,
            Vec c) const override {
    refuse_empty(1, m, n, k);
    if (teams_) return team_gemm(exec, ta, tb, m, n, k, a, b, add, c);
    exec.fence();  // the host's own threads read what kernels wrote
    host_gemm(ta, tb, m, n, k, a.data(), b.data(), add, c.data());
  }

  void gemm_batched(const Exec& exec, bool ta, bool tb, Index batch, Index m, Index n, Index k, ConstVec a,
                    Index stride_a, ConstVec b, Index stride_b, bool add, Vec c, Index stride_c) const override {
    refuse_empty(batch, m, n, k);
    batched_gemm(exec, ta, tb, batch, m, n, k, a, stride_a, b, stride_b, add, c, stride_c);
  }

  Index conv_scratch(const Conv& s, bool backward) const override {
    refuse_empty(s);
    const Window f = forward_window(s);
    if (!backward) return window_words(f);
    Index words = teams_ ? team_weight_words(f) : host_weight_words(f);
    for (const Window& v : backward_windows(s)) words = std::max(words, window_words(v));
    return words;
  }

  void conv_forward(const Exec& exec, const Conv& s, ConstVec x, ConstVec weight, ConstVec bias, Vec y,
                    Vec scratch) const override {
    refuse_empty(s);
    run("varion::conv2d::forward", exec, forward_window(s), x, weight, bias, false, y, scratch);
  }

  void conv_backward_data(const Exec& exec, const Conv& s, ConstVec dy, ConstVec weight, bool add, Vec dx,
                          Vec scratch) const override {
    refuse_empty(s);
    for (const Window& v : backward_windows(s))
      run("varion::conv2d::backward_data", exec, v, dy, weight, ConstVec(), add, dx, scratch);
  }

  void conv_backward_weight(const Exec& exec, const Conv& s, ConstVec x, ConstVec dy, bool add, Vec dweight,
                            Vec scratch) const override {
    refuse_empty(s);
    const Window v = forward_window(s);
    if (teams_) return team_weight(exec, v, x, dy, add, dweight, scratch);
    exec.fence();  // the host's own threads read what kernels wrote
    host_weight(v, x.data(), dy.data(), add, dweight.data(), scratch.data());
  }

  Index attention_scratch(const Attention& s, bool backward) const override {
    refuse_empty(s);
    return teams_ ? team_attention_words(s, backward) : host_attention_words(s, backward);
  }

  void attention_forward(const Exec& exec, const Attention& s, ConstVec qkv, Vec y, Vec log_sum, Vec scratch) const override {
    refuse_empty(s);
    if (teams_) return team_attention_forward(exec, s, qkv, y, log_sum);
    exec.fence();  // the host's own threads read what kernels wrote
    host_attention_forward(s, qkv.data(), y.data(), log_sum.data(), scratch.data());
  }

  void attention_backward(const Exec& exec, const Attention& s, ConstVec qkv, ConstVec y, ConstVec dy, ConstVec log_sum, bool add,
                          Vec dqkv, Vec scratch) const override {
    refuse_empty(s);
    if (teams_) return team_attention_backward(exec, s, qkv, y, dy, log_sum, add, dqkv, scratch);
    exec.fence();  // the host's own threads read what kernels wrote
    host_attention_backward(s, qkv.data(), y.data(), dy.data(), log_sum.data(), add, dqkv.data(), scratch.data());
  }

 private:
  Index window_words(const Window& v) const { return v.panel_words() + (teams_ ? 0 : host_window_words(v)); }

  void run(const char* label, const Exec& exec, const Window& v, ConstVec in, ConstVec weight, ConstVec bias, bool add,
           Vec out, Vec scratch) const {
    if (add && v.depth() == 0) return;  // nothing to add
    const Vec panels = slice(scratch, 0, v.panel_words());
    pack_panels(exec, v, weight, panels);
    if (teams_) return team_window(label, exec, v, in, panels, bias, add, out);
    exec.fence();  // the host's own threads read what kernels wrote
    host_window(label, v, in.data(), panels.data(), bias.extent(0) > 0 ? bias.data() : nullptr, add, out.data(),
                scratch.data() + v.panel_words());
  }

  std::string name_;
  bool teams_;
};
}  // namespace

const Provider& portable() {
  static const Portable instance("portable", !kHostExec);
  return instance;
}

const Provider& portable_teams() {
  static const Portable instance("portable-teams", true);
  return instance;
}

}  // namespace varion::backend
