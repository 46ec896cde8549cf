#include "core/layout.hpp"

#include "core/error.hpp"
#include "core/memory.hpp"
#include "core/random.hpp"

namespace varion {

int Layout::find(const std::string& name) const {
  for (size_t i = 0; i < parameters_.size(); ++i)
    if (parameters_[i].name == name) return static_cast<int>(i);
  for (size_t i = 0; i < frozen_.size(); ++i)
    if (frozen_[i].name == name) return kFrozen + static_cast<int>(i);
  return -1;
}

int Layout::add(const std::string& name, const Shape& shape, Init init) {
  const int known = find(name);
  if (known >= 0) {
    ensure((*this)[known].shape == shape, "parameter '", name, "' has shape ",
           (*this)[known].shape.text(), ", not ", shape.text());
    return known;
  }
  ensure(!finished_, "parameter '", name, "' is not in the model's table");
  ensure(shape.size() > 0, "parameter '", name, "' is empty: ", shape.text());
  Parameter p;
  p.name = name;
  p.shape = shape;
  p.init = init;
  p.group = shape.rank >= 2 ? 0 : 1;
  p.number = static_cast<int>(parameters_.size() + frozen_.size());
  const bool frozen = frozen_rule_ && frozen_rule_(name);
  std::vector<Parameter>& list = frozen ? frozen_ : parameters_;
  list.push_back(p);
  return static_cast<int>(list.size()) - 1 + (frozen ? kFrozen : 0);
}

void Layout::finish() {
  if (finished_) return;
  size_ = 0;
  for (int group = 0; group < kGroups; ++group)
    for (Parameter& p : parameters_)
      if (p.group == group) {
        p.offset = size_;
        size_ += p.size();
      }
  frozen_size_ = 0;
  for (Parameter& p : frozen_) {
    p.offset = frozen_size_;
    frozen_size_ += p.size();
  }
  frozen_values_ = long_vector("varion::layout::frozen", frozen_size_);
  finished_ = true;
}

void Layout::keep(Index begin, Index end) {
  ensure(finished_ && begin >= 0 && begin <= end && end <= size_, "a stretch [", begin, ", ", end, ") of ", size_);
  own_begin_ = begin;
  own_end_ = end;
}

std::vector<GroupRange> Layout::groups() const {
  std::vector<GroupRange> out;
  Index begin = 0;
  for (int group = 0; group < kGroups; ++group) {
    Index end = begin;
    for (const Parameter& p : parameters_)
      if (p.group == group) end += p.size();
    const GroupRange own{group, std::max(begin, own_begin()), std::min(end, own_end())};
    if (own.end > own.begin) out.push_back(own);
    begin = end;
  }
  return out;
}

/// 4 bytes written per number.
void start_value(const Exec& exec, const RandomKey& key, const Init& init, Vec part) {
  switch (init.kind) {
    case Init::Kind::constant: Kokkos::deep_copy(exec, part, init.value); break;
    case Init::Kind::uniform: fill_uniform(exec, key, init.value, part); break;
    case Init::Kind::normal: {
      fill_normal(exec, key, part);
      const Real sd = init.value;
      Kokkos::parallel_for(
          "varion::layout::scale", Range(exec, 0, static_cast<Index>(part.extent(0))), KOKKOS_LAMBDA(const Index j) { part(j) *= sd; });
      break;
    }
  }
}

void Layout::initialise(const Exec& exec, std::uint64_t seed, Vec flat) const {
  ensure(finished_ && static_cast<Index>(flat.extent(0)) == size_, "initialise before finish");
  for (const auto& [list, values] : {std::pair{&parameters_, flat}, {&frozen_, frozen_values_}})
    for (const Parameter& p : *list) start_value(exec, RandomKey::make(seed, Stream::init, static_cast<std::uint64_t>(p.number)), p.init, slice(values, p.offset, p.size()));
}

}  // namespace varion
