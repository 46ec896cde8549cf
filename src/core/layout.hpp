// The flat parameter vector's table: which tensor lies where.
#pragma once

#include <functional>
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
  Index offset = 0;  // first element in the flat vector, or in that of frozen parameters
  int number = 0;    // in the order recorded
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

  /// Parameters of which `rule` is true will be frozen: they stand in a vector of their own, and have no gradient, no state, no
  /// noise. Asked before the first is added.
  void freeze(std::function<bool(const std::string& name)> rule) { frozen_rule_ = std::move(rule); }

  /// The index of the parameter `name`, added when new. Errors: known under another shape, or new
  /// after `finish`.
  int add(const std::string& name, const Shape& shape, Init init);

  /// Fixes offsets. Further graphs may only use what is there.
  void finish();
  bool finished() const { return finished_; }

  const std::vector<Parameter>& parameters() const { return parameters_; }  // that are trained
  const std::vector<Parameter>& frozen() const { return frozen_; }
  static bool is_frozen(int i) { return i >= kFrozen; }
  const Parameter& operator[](int i) const {
    return is_frozen(i) ? frozen_[static_cast<size_t>(i - kFrozen)] : parameters_[static_cast<size_t>(i)];
  }
  int find(const std::string& name) const;  // -1 when absent
  Index size() const { return size_; }      // of what is trained
  Index frozen_size() const { return frozen_size_; }
  /// The frozen parameters' values [frozen_size], shared by all that use this layout. Allocated by `finish`.
  const Vec& frozen_values() const { return frozen_values_; }
  /// The groups' runs, as far as they are this process' own.
  std::vector<GroupRange> groups() const;

  /// Of the flat vectors, an optimizer keeps [begin, end) here; other ranks keep the rest. At first: all.
  void keep(Index begin, Index end);
  Index own_begin() const { return own_begin_; }
  Index own_end() const { return own_end_ < 0 ? size_ : own_end_; }
  Index own_size() const { return own_end() - own_begin(); }

  /// Writes the starting values, the frozen ones too: element j of parameter i, in the order recorded, is number j of (seed, init,
  /// step i), so that they do not depend on the order of the flat vector.
  void initialise(const Exec& exec, std::uint64_t seed, Vec flat) const;

 private:
  static constexpr int kFrozen = 1 << 24;  // indices of frozen parameters start here
  std::function<bool(const std::string&)> frozen_rule_;
  std::vector<Parameter> parameters_, frozen_;
  Vec frozen_values_;
  Index frozen_size_ = 0, size_ = 0, own_begin_ = 0, own_end_ = -1;
  bool finished_ = false;
};

}  // namespace varion
