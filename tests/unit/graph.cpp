// The memory plan never overlaps what lives at the same time, and a recorded graph replays without surprises.
#include "graph/graph.hpp"

#include "core/random.hpp"
#include "graph/plan.hpp"
#include "ops/ops.hpp"
#include "support/catch.hpp"
#include "support/vectors.hpp"

using namespace varion;

TEST_CASE("buffers alive together have places of their own") {
  const auto key = RandomKey::make(1, Stream::test, 0);
  for (Index trial = 0; trial < 200; ++trial) {
    MemoryPlan plan;
    struct Buffer {
      Index words;
      int from, to, id;
    };
    std::vector<Buffer> all;
    Index largest = 0;
    for (Index k = 0; k < 25; ++k) {
      const Words4 w = key.words(trial * 100 + k);
      const Index words = 1 + below(w.w[0], 500);
      const int from = static_cast<int>(below(w.w[1], 30)), to = from + static_cast<int>(below(w.w[2], 10));
      all.push_back({words, from, to, plan.add(words, from, to)});
      largest = std::max(largest, words);
    }
    const Index total = plan.solve();
    CHECK(total >= largest);
    CHECK(total <= plan.unshared());
    for (const Buffer& a : all) {
      CHECK(plan.offset(a.id) + a.words <= total);
      for (const Buffer& b : all) {
        const bool together = a.id < b.id && a.from <= b.to && b.from <= a.to;
        const bool apart = plan.offset(a.id) + a.words <= plan.offset(b.id) || plan.offset(b.id) + b.words <= plan.offset(a.id);
        if (together && !apart) FAIL("buffers " << a.id << " and " << b.id << " of trial " << trial << " overlap");
      }
    }
  }
}

TEST_CASE("a chain of buffers needs the room of two") {
  MemoryPlan plan;
  for (int k = 0; k < 20; ++k) plan.add(1024, k, k + 1);
  CHECK(plan.solve() == 2048);
}

TEST_CASE("training and evaluation graphs share parameters, and a strange one is refused") {
  Layout layout;
  Graph train(layout);
  const Node x = train.input({4, 3});
  const Node loss = cross_entropy(train, linear(train, x, "fc", 5), train.input({4}, true));
  train.output(loss);
  train.finish(true);
  CHECK(layout.size() == 20);
  Graph eval(layout);
  eval.output(linear(eval, eval.input({9, 3}), "fc", 5));
  eval.finish(false);
  CHECK(layout.size() == 20);
  Graph other(layout);
  CHECK_THROWS_AS(linear(other, other.input({1, 3}), "fc2", 5), Error);   // new after finish
  CHECK_THROWS_AS(linear(other, other.input({1, 4}), "fc", 5), Error);    // another shape
  CHECK(train.arena_words() <= train.unshared_words());
}

TEST_CASE("a value that backward computes again is kept by nobody, and its gradients are those of the value") {
  constexpr Index rows = 33, width = 16, layers = 8;
  struct Ends {
    Node x, target, loss, inner;
  };
  const auto chain = [](Graph& g, bool watched) {  // an output stays where it is
    Ends ends;
    Node x = ends.x = g.input({rows, width}, false, true);
    for (Index k = 0; k < layers; ++k) {
      const std::string name = "block" + std::to_string(k);
      // An output larger than all else takes the place that block 0's value has left, for good: who computes that one again there spoils it.
      if (k == 1) g.output(ends.inner = linear(g, x, "inner", 5 * width));
      const Node norm = layer_norm(g, x, name + ".norm", true), wide = gelu(g, linear(g, norm, name + ".in", 4 * width));
      if (watched) {
        g.output(norm);
        g.output(wide);
      }
      x = add(g, x, linear(g, wide, name + ".out", width));
    }
    ends.target = g.input({rows}, true);
    ends.loss = cross_entropy(g, x, ends.target);
    g.output(ends.loss);
    g.finish(true);
    return ends;
  };
  const Exec exec;
  const auto gradient_of = [&](const Graph& g, const Ends& ends) {
    Replay replay(g, exec);
    const Vec weights("weights", static_cast<size_t>(g.layout().size()));
    fill_uniform(exec, RandomKey::make(1, Stream::test, 1), Real(0.4), weights);
    replay.weights = weights;
    replay.gradient = Vec("gradient", weights.extent(0));
    fill_uniform(exec, RandomKey::make(1, Stream::test, 2), Real(2), replay.value(ends.x));
    Kokkos::deep_copy(exec, replay.ints(ends.target), 3);
    for (int pass = 0; pass < 2; ++pass) {  // the second finds the arena as the first has left it
      replay.forward();
      replay.backward(ends.loss);
    }
    exec.fence();
    return std::pair(host(replay.gradient), host(replay.value(ends.inner)));
  };
  Layout one, other;
  Graph again(one), kept(other);
  const auto ends = chain(again, false), same = chain(kept, true);
  CHECK(gradient_of(again, ends) == gradient_of(kept, same));
  if (kHostExec) CHECK(again.arena_words() + (layers - 2) * rows * 5 * width <= kept.arena_words());
  else CHECK(again.arena_words() <= kept.arena_words());
}
