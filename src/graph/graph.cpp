#include "graph/graph.hpp"

#include <algorithm>

#include "core/copy.hpp"
#include "core/error.hpp"
#include "core/inject.hpp"
#include "core/memory.hpp"
#include "graph/plan.hpp"

namespace varion {

Node Graph::input(const Shape& shape, bool integers, bool wants_grad) {
  Entry e;
  e.record.op = "input";
  e.record.shape = shape;
  e.is_input = true;
  e.integers = integers;
  e.wants_grad = wants_grad;
  e.is_output = true;
  nodes_.push_back(std::move(e));
  return Node{size() - 1};
}

Node Graph::record(Record r) {
  ensure(!finished_, "op '", r.op, "' recorded after the graph was finished");
  ensure(r.shape.size() > 0, "op '", r.op, "' has an empty output ", r.shape.text());
  Entry e;
  e.wants_grad = std::any_of(r.parameters.begin(), r.parameters.end(), [](int p) { return !Layout::is_frozen(p); });
  for (const Node n : r.inputs) {
    ensure(n.id >= 0 && n.id < size(), "op '", r.op, "' uses a node that does not exist");
    ensure(r.takes_bf16 || !bf16(n), "op '", r.op, "' takes no bfloat16");
    e.wants_grad = e.wants_grad || entry(n).wants_grad;
  }
  if (r.sum.id >= 0) {
    ensure(is_open_sum(r.sum), "op '", r.op, "' takes over no sum");
    entry(r.sum).record.forward = nullptr;
  }
  e.record = std::move(r);
  nodes_.push_back(std::move(e));
  return Node{size() - 1};
}

void Graph::output(Node n) {
  ensure(!bf16(n), "an output in bfloat16");
  entry(n).is_output = true;
}

double Graph::flops(bool backward) const {
  double sum = 0;
  for (const Entry& e : nodes_) {
    if (e.record.flops <= 0) continue;
    sum += e.record.flops;
    const auto& all = e.record.parameters;
    const bool own = all.empty() || std::any_of(all.begin(), all.end(), [](int p) { return !Layout::is_frozen(p); });
    if (backward) sum += e.record.flops * ((own ? 1 : 0) + (wants_grad(e.record.inputs[0]) ? 1 : 0));
  }
  return sum;
}

int Graph::drawing_nodes() const {
  return static_cast<int>(std::count_if(nodes_.begin(), nodes_.end(), [](const Entry& e) { return e.record.draws; }));
}

std::vector<int> Graph::share_gradients() const {
  const auto count = nodes_.size();
  std::vector<int> owner_of(count);
  std::vector<std::vector<int>> consumers(count), members(count);
  for (size_t i = 0; i < count; ++i) {
    owner_of[i] = static_cast<int>(i);
    members[i] = {static_cast<int>(i)};
    for (const Node x : nodes_[i].record.inputs) consumers[static_cast<size_t>(x.id)].push_back(static_cast<int>(i));
  }
  // Backward runs from high numbers to low. A node z waits with its gradient until its own turn; meanwhile nobody may
  // add to the shared memory on behalf of another node: all other uses of that one must come after z's turn.
  const auto waits_in_peace = [&](int z, int other, int sum) {
    const auto& uses = consumers[static_cast<size_t>(other)];
    return std::all_of(uses.begin(), uses.end(), [&](int use) { return use == sum || use < z; });
  };
  for (int i = size() - 1; i >= 0; --i)
    for (const Node x : nodes_[static_cast<size_t>(i)].record.passes) {
      const auto& uses = consumers[static_cast<size_t>(x.id)];
      const bool first = uses.back() == i && std::count(uses.begin(), uses.end(), i) == 1;
      const int owner = owner_of[static_cast<size_t>(i)];
      auto& group = members[static_cast<size_t>(owner)];
      const bool safe = std::all_of(group.begin(), group.end(), [&](int z) {
        return z >= i || (waits_in_peace(z, x.id, i) && waits_in_peace(x.id, z, i));
      });
      if (!entry(x).wants_grad || entry(x).record.changes_grad || bf16(x) != bf16(Node{i}) || !first || !safe) continue;
      owner_of[static_cast<size_t>(x.id)] = owner;
      group.push_back(x.id);
    }
  return owner_of;
}

bool Graph::comes_again(int i) const {
  const Entry& e = nodes_[static_cast<size_t>(i)];
  const Record& r = e.record;
  if (!r.again || e.is_output || r.keep_output) return false;
  return std::none_of(r.inputs.begin(), r.inputs.end(), [&](Node x) { return comes_again(x.id); });
}

void Graph::finish(bool backward) {
  ensure(!finished_, "a graph is finished twice");
  ensure(decodes_ == 0 || !backward, "a decoding graph has no backward");
  layout_->finish();
  // Time: forward of node i is tick i, its backward is tick 2n - 1 - i.
  const int n = size(), end = 2 * n;
  const auto back = [n](int i) { return 2 * n - 1 - i; };
  // Of a value: the last tick that reads it, the last one in forward, the node whose backward is the first to read it, the last that takes it.
  std::vector<int> last_use(nodes_.size()), last_forward(nodes_.size()), first_keeper(nodes_.size(), -1), last_consumer(nodes_.size(), -1);
  const auto late = [](std::vector<int>& last, size_t i, int tick) { last[i] = std::max(last[i], tick); };
  for (int i = 0; i < n; ++i) {
    const Record& r = nodes_[static_cast<size_t>(i)].record;
    late(last_forward, static_cast<size_t>(i), i);
    for (const Node x : r.inputs) {
      late(last_forward, static_cast<size_t>(x.id), i);
      last_consumer[static_cast<size_t>(x.id)] = i;
    }
    if (r.sum.id >= 0)
      for (const Node x : entry(r.sum).record.inputs) late(last_forward, static_cast<size_t>(x.id), i);
    if (!backward) continue;
    if (r.keep_output) late(last_use, static_cast<size_t>(i), back(i));
    for (const Node x : r.keep) {
      late(last_use, static_cast<size_t>(x.id), back(i));
      if (entry(Node{i}).wants_grad) first_keeper[static_cast<size_t>(x.id)] = i;
    }
  }
  for (size_t i = 0; i < nodes_.size(); ++i) late(last_use, i, last_forward[i]);
  const std::vector<int> owner_of = share_gradients();
  std::vector<int> last_read(nodes_.size(), 0);  // of a gradient's memory
  for (int i = 0; i < n; ++i) {
    int& last = last_read[static_cast<size_t>(owner_of[static_cast<size_t>(i)])];
    last = std::max(last, nodes_[static_cast<size_t>(i)].is_input ? end : back(i));
  }
  MemoryPlan plan;
  std::vector<std::pair<Place*, int>> placed;
  const auto place = [&](Place& p, Index words, int from, int to) {
    p.words = words;
    if (words > 0) placed.emplace_back(&p, plan.add(words, from, to));
  };
  for (int i = 0; i < n; ++i) {
    Entry& e = nodes_[static_cast<size_t>(i)];
    const Record& r = e.record;
    const int begin = e.is_input ? 0 : i;
    const Index words = r.bf16 ? (r.shape.size() + 1) / 2 : r.shape.size();
    const int keeper = first_keeper[static_cast<size_t>(i)];
    if (keeper >= 0 && back(keeper) > last_forward[static_cast<size_t>(i)] + 1 && comes_again(i)) {
      place(e.value, words, begin, last_forward[static_cast<size_t>(i)]);
      place(e.value_again, words, back(keeper), last_use[static_cast<size_t>(i)]);
      nodes_[static_cast<size_t>(keeper)].again.push_back(Node{i});
    } else {
      place(e.value, words, begin, e.is_output ? end : last_use[static_cast<size_t>(i)]);
    }
    place(e.scratch_forward, r.scratch_forward, i, i);
    place(e.saved, r.saved, i, backward ? back(i) : i);
    if (backward && e.wants_grad) {
      const int consumer = last_consumer[static_cast<size_t>(i)];
      if (owner_of[static_cast<size_t>(i)] == i)
        place(e.grad, words, consumer < 0 ? n : back(consumer), last_read[static_cast<size_t>(i)]);
      place(e.scratch_backward, r.scratch_backward, back(i), back(i));
    }
  }
  arena_words_ = plan.solve();
  unshared_words_ = plan.unshared();
  for (const Entry& e : nodes_) unshared_words_ -= e.value_again.words;
  for (auto& [p, id] : placed) p->offset = plan.offset(id);
  for (size_t i = 0; i < nodes_.size(); ++i) nodes_[i].grad = nodes_[static_cast<size_t>(owner_of[i])].grad;
  arena_ = long_vector("varion::graph::arena", arena_words_);
  has_backward_ = backward;
  finished_ = true;
}

Vec Graph::view(const Place& p) const {
  return p.words == 0 ? Vec() : slice(arena_, p.offset, p.words);
}

AnyVec Graph::any_view(Node n, const Place& p) const {
  const Vec words = view(p);
  if (!bf16(n)) return words;
  return Bf16Vec(reinterpret_cast<Bfloat16*>(words.data()), p.words == 0 ? 0 : static_cast<size_t>(shape(n).size()));
}

Replay::Replay(const Graph& graph, const Exec& exec_) : exec(exec_), graph_(graph) {
  if (graph.drawing_nodes() > 0) key_ = Kokkos::View<RandomKey, Memory>("varion::graph::key");
}

void Replay::draw_from(const RandomKey& key) {
  const Kokkos::View<RandomKey, Memory> to = key_;
  if (to.data() == nullptr) return;
  Kokkos::parallel_for("varion::graph::key", Range(exec, 0, 1), KOKKOS_LAMBDA(const Index) { to() = key; });
}

Vec Replay::value(Node n) const { return std::get<Vec>(any_value(n)); }
AnyVec Replay::any_value(Node n) const {
  const Graph::Entry& e = graph_.entry(n);
  return graph_.any_view(n, e.value_again.words > 0 && !node_written_.empty() ? e.value_again : e.value);
}

IntVec Replay::ints(Node n) const {
  ensure(graph_.entry(n).integers, "node ", n.id, " does not hold integers");
  const Vec v = value(n);
  return IntVec(reinterpret_cast<std::int32_t*>(v.data()), v.extent(0));
}

bool Replay::wants_grad(Node n) const { return graph_.entry(n).wants_grad; }
AnyVec Replay::any_grad_of(Node n) const { return graph_.any_view(n, graph_.entry(n).grad); }
ConstVec Replay::grad_of(Node n) const { return std::get<Vec>(any_grad_of(n)); }

Vec Replay::own_grad(Node n) const {
  ensure(graph_.entry(n).record.changes_grad, "op '", graph_.op(n), "' did not say that it changes its gradient");
  return graph_.view(graph_.entry(n).grad);
}

AnyGradSlot Replay::any_grad(Node n) {
  char& written = node_written_[static_cast<size_t>(n.id)];
  const AnyGradSlot slot{any_grad_of(n), written != 0};
  written = 1;
  return slot;
}
GradSlot Replay::grad(Node n) {
  const AnyGradSlot slot = any_grad(n);
  return {std::get<Vec>(slot.data), slot.add};
}

ConstVec Replay::parameter(int index) const {
  const Parameter& p = graph_.layout()[index];
  return slice(trains(index) ? weights : ConstVec(graph_.layout().frozen_values()), p.offset, p.size());
}

bool Replay::trains(int index) const { return graph_.trains(index); }

GradSlot Replay::parameter_grad(int index) {
  ensure(trains(index), "the gradient of a frozen parameter");
  const Parameter& p = graph_.layout()[index];
  char& written = parameter_written_[static_cast<size_t>(index)];
  const GradSlot slot{slice(gradient, p.offset, p.size()), accumulate || written != 0};
  written = 1;
  return slot;
}

Vec Replay::saved(Node n) const { return graph_.view(graph_.entry(n).saved); }

Vec Replay::scratch(Node n) const {
  const Graph::Entry& e = graph_.entry(n);
  return graph_.view(node_written_.empty() ? e.scratch_forward : e.scratch_backward);
}

void Replay::forward() {
  ensure(graph_.finished_, "replay of an unfinished graph");
  node_written_.clear();  // capacity stays: no allocation in later replays
  for (int i = 0; i < graph_.size(); ++i) {
    const Record& r = graph_.nodes_[static_cast<size_t>(i)].record;
    if (r.forward) r.forward(*this, Node{i});
    if constexpr (inject::kOn)
      if (train && graph_.nodes_[static_cast<size_t>(i)].is_output) inject::activation(exec, value(Node{i}), r.shape[1]);
  }
}

void pass_gradient(const Exec& exec, ConstVec dy, const AnyGradSlot& out) {
  std::visit([&](const auto& dx) { copy_numbers("varion::graph::pass", exec, dy, out.add, dx); }, out.data);
}

void Replay::pass_gradients(Node sum) {
  for (const Node x : graph_.entry(sum).record.passes) {
    if (!graph_.entry(x).wants_grad) continue;
    const AnyGradSlot slot = any_grad(x);
    const auto* const own = std::get_if<Vec>(&slot.data);
    if (own == nullptr || own->data() != grad_of(sum).data()) pass_gradient(exec, grad_of(sum), slot);
  }
}

void Replay::backward(Node root) {
  ensure(graph_.has_backward_, "backward through a graph planned for evaluation");
  ensure(graph_.shape(root).size() == 1, "backward starts from one element, not ",
         graph_.shape(root).text());
  node_written_.assign(static_cast<size_t>(graph_.size()), 0);
  parameter_written_.assign(graph_.layout().parameters().size(), 0);
  Kokkos::deep_copy(exec, grad(root).data, loss_scale);
  for (int i = graph_.size() - 1; i >= 0; --i) {
    const Graph::Entry& e = graph_.nodes_[static_cast<size_t>(i)];
    for (const Node x : e.again) graph_.entry(x).record.again(*this, x);
    if (!e.wants_grad || node_written_[static_cast<size_t>(i)] == 0) continue;
    if (e.record.backward) e.record.backward(*this, Node{i});
    pass_gradients(Node{i});
  }
}

}  // namespace varion
