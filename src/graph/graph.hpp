// The recorded graph: a model is run once to record its nodes, memory is planned by liveness, and
// training replays it without allocating.
//
// Recording: ops call `input`, `parameter` and `record`. `finish` plans one arena that holds every
// value, gradient, saved quantity and scratch; buffers whose lives do not overlap share memory.
// Replaying: `forward(replay)` then `backward(replay)`. The weights and the gradient vector are
// arguments of the replay, so several weight vectors can use one graph, and graphs of different batch
// sizes share parameters through the Layout.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/bfloat16.hpp"
#include "core/layout.hpp"
#include "core/random.hpp"
#include "core/types.hpp"

namespace varion {

struct Node {
  int id = -1;
};

class Graph;

/// A gradient buffer to write: add to it when somebody has written before, else overwrite.
struct GradSlot {
  Vec data;
  bool add;
};
/// The same, of either kind.
struct AnyGradSlot {
  AnyVec data;
  bool add;
};

/// One pass over a graph: what to compute with, and where.
class Replay {
 public:
  Replay(const Graph& graph, const Exec& exec_);

  Exec exec;
  ConstVec weights;          // [P] flat parameters to evaluate at
  Vec gradient;              // [P] where backward writes; may be empty for forward only
  bool train = false;        // stochastic nodes (dropout) are on
  bool accumulate = false;   // backward adds to `gradient` instead of overwriting it
  Real loss_scale = 1;       // what the gradient of the root starts from
  Index position = 0;        // of the token that a decoding graph is given

  /// Stream, step, slot and sample of the stochastic nodes of passes queued from here on. Kernels read it where it lies
  /// (`key`), so that a recorded pass draws anew each time it is launched.
  void draw_from(const RandomKey& key);
  Kokkos::View<const RandomKey, Memory> key() const { return key_; }

  Vec value(Node n) const;         // from `backward` on the second copy of a value that was let go (Record::again)
  IntVec ints(Node n) const;       // values of an i32 node
  bool wants_grad(Node n) const;   // false for data and constants: skip that gradient
  ConstVec grad_of(Node n) const;  // the finished gradient of an op's output
  Vec own_grad(Node n) const;      // the same, to be changed in place by that op's backward
  GradSlot grad(Node n);           // the buffer to add an input's gradient to
  // The same of nodes that may be kept in bfloat16 (Record::bf16), as their gradients then are too.
  AnyVec any_value(Node n) const;
  AnyVec any_grad_of(Node n) const;
  AnyGradSlot any_grad(Node n);
  ConstVec parameter(int index) const;
  bool trains(int index) const;  // false for a frozen parameter, which has no gradient
  GradSlot parameter_grad(int index);
  Vec saved(Node n) const;    // kept from forward to backward of one node
  Vec scratch(Node n) const;  // valid within one forward or backward call

  void forward();
  void backward(Node root);  // root: one element

 private:
  void pass_gradients(Node sum);
  const Graph& graph_;
  Kokkos::View<RandomKey, Memory> key_;  // where nodes draw
  std::vector<char> node_written_, parameter_written_;
};

using Kernel = std::function<void(Replay&, Node self)>;

/// dx (+)= dy: an input that reaches the output unchanged.
void pass_gradient(const Exec& exec, ConstVec dy, const AnyGradSlot& out);

/// What an op tells the graph about one node.
struct Record {
  std::string op;
  std::vector<Node> inputs;
  std::vector<int> parameters;
  Shape shape;
  Kernel forward, backward;
  std::vector<Node> keep;  // inputs whose values backward reads
  Node sum;                // the node before, whose forward this one's sees to (Graph::is_open_sum)
  bool keep_output = false;
  // Inputs whose gradient is that of the output, as a sum's terms: backward need not see to them. Where nobody can
  // tell the difference they use the same memory and nothing is copied.
  std::vector<Node> passes;
  bool bf16 = false;           // the output and its gradient are kept in bfloat16
  bool takes_bf16 = false;     // inputs may be kept so
  // Where it stands, the value is let go after forward, and this writes it once more in backward, from `keep` and what was saved. For what
  // is cheap and large.
  Kernel again = nullptr;
  bool changes_grad = false;   // backward overwrites the gradient of the output (own_grad): it is shared with nobody
  Index saved = 0;             // words kept from forward to backward
  Index scratch_forward = 0;   // words
  Index scratch_backward = 0;  // words
  bool draws = false;          // uses Replay::key
  double flops = 0;            // forward, of GEMMs and convolutions; each of their two gradients takes as many
};

class Graph {
 public:
  /// With `decodes` the graph reads a text token by token, up to so many: sequences have length 1, and attention keeps what
  /// the tokens before have left (`Replay::position`). It has no backward.
  explicit Graph(Layout& layout, Index decodes = 0) : layout_(&layout), decodes_(decodes) {}
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  /// Data that the caller fills before each replay: float, or i32 where `integers`.
  Node input(const Shape& shape, bool integers = false, bool wants_grad = false);
  int parameter(const std::string& name, const Shape& shape, Init init) {
    return layout_->add(name, shape, init);
  }
  Node record(Record r);
  /// Keeps the node's value readable after the replay.
  void output(Node n);

  /// Plans memory and allocates the arena; no recording afterwards. `backward` false: eval graphs.
  void finish(bool backward);

  const Shape& shape(Node n) const { return entry(n).record.shape; }
  bool wants_grad(Node n) const { return entry(n).wants_grad; }
  const std::string& op(Node n) const { return entry(n).record.op; }
  const std::vector<Node>& inputs(Node n) const { return entry(n).record.inputs; }
  /// Whether `n` is a sum of two and the last node recorded: the next one may write its value along with its own.
  bool is_open_sum(Node n) const { return n.id == size() - 1 && op(n) == "add" && !entry(n).is_output; }
  const Layout& layout() const { return *layout_; }
  bool bf16(Node n) const { return entry(n).record.bf16; }
  /// Whether ops may keep in bfloat16 what only products, attention, sums, and activations or dropout between them read.
  bool keeps_bf16() const { return keeps_bf16_; }
  void keep_bf16(bool on) { keeps_bf16_ = on; }
  bool trains(int parameter) const { return parameter >= 0 && !Layout::is_frozen(parameter); }
  Index decodes() const { return decodes_; }
  int size() const { return static_cast<int>(nodes_.size()); }
  Index arena_words() const { return arena_words_; }
  /// Of one forward pass, and with `backward` of the gradients of weights and of inputs that want one.
  double flops(bool backward) const;
  /// Nodes that draw from Replay::key.
  int drawing_nodes() const;
  /// What separate buffers would take, for comparison with the plan.
  Index unshared_words() const { return unshared_words_; }

 private:
  friend class Replay;
  struct Place {
    Index offset = -1, words = 0;
  };
  struct Entry {
    Record record;
    bool is_input = false, integers = false, wants_grad = false, is_output = false;
    Place value, value_again, grad, saved, scratch_forward, scratch_backward;
    std::vector<Node> again;  // those whose value its backward is the first to want again
  };
  const Entry& entry(Node n) const { return nodes_[static_cast<size_t>(n.id)]; }
  Entry& entry(Node n) { return nodes_[static_cast<size_t>(n.id)]; }
  Vec view(const Place& p) const;
  AnyVec any_view(Node n, const Place& p) const;
  /// Whether node i may let its value go after forward: its op can write it again, nobody outside reads it, no input does the same.
  bool comes_again(int i) const;
  /// For each node the one whose gradient's memory its gradient uses: itself, or a sum it went into.
  std::vector<int> share_gradients() const;

  Layout* layout_;
  Index decodes_;
  bool keeps_bf16_ = false;
  std::vector<Entry> nodes_;
  Vec arena_;
  Index arena_words_ = 0, unshared_words_ = 0;
  bool finished_ = false, has_backward_ = false;
};

}  // namespace varion
