// The flat parameter vector's table: which tensor lies where.
#pragma once

#include <string>
#include <vector>

#include "core/types.hpp"

namespace varion {

/// How a parameter starts. `bound` of a uniform is 1/sqrt(fan_in), PyTorch's default for linear
/// and convolution weights and biases.
struct Init {
  enum class Kind { constant, uniform, normal } kind = Kind::constant;
  Real value = 0;  // constant: the value; uniform: the bound; normal: the standard deviation
};

struct Parameter {
  std::string name;  // dotted, as in PyTorch's state_dict
  Shape shape;       // PyTorch's shape, C order
  Init init;
  Index offset = 0;  // first element in the flat vector
  int group = 0;     // 0: two or more dimensions ("matrix"); 1: one dimension ("vector")
  Index size() const { return shape.size(); }
};

/// A run of the flat vector that shares one group.
struct GroupRange {
  int group;
  Index begin, end;
};

/// All parameters of a model. Recording a graph adds to it; a second graph finds the same names.
/// After `finish` the vector holds group 0 first, then group 1, each in the order recorded, so an
/// optimizer needs one launch per group and one in all where the groups' options are equal.
class Layout {
 public:
  static constexpr int kGroups = 2;
  static const char* group_name(int group) { return group == 0 ? "matrix" : "vector"; }

  /// The index of the parameter `name`, added when new. Errors: known under another shape, or new
  /// after `finish`.
  int add(const std::string& name, const Shape& shape, Init init);

  /// Fixes offsets. Further graphs may only use what is there.
  void finish();
  bool finished() const { return finished_; }

  const std::vector<Parameter>& parameters() const { return parameters_; }
  const Parameter& operator[](int i) const { return parameters_[static_cast<size_t>(i)]; }
  int find(const std::string& name) const;  // -1 when absent
  Index size() const { return size_; }
  /// The groups' runs, as far as they are this process' own.
  std::vector<GroupRange> groups() const;

  /// Of the flat vectors, an optimizer keeps [begin, end) here; other ranks keep the rest. At first: all.
  void keep(Index begin, Index end);
  Index own_begin() const { return own_begin_; }
  Index own_end() const { return own_end_ < 0 ? size_ : own_end_; }
  Index own_size() const { return own_end() - own_begin(); }

  /// Writes the starting values: element j of parameter i is number j of (seed, init, step i), so
  /// that they do not depend on the order of the flat vector.
  void initialise(const Exec& exec, std::uint64_t seed, Vec flat) const;

 private:
  std::vector<Parameter> parameters_;
  Index size_ = 0, own_begin_ = 0, own_end_ = -1;
  bool finished_ = false;
};

}  // namespace varion
