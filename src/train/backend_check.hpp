// Do two providers, or two machines, learn the same in the first steps of a run?
#pragma once

#include <map>
#include <string>
#include <vector>

#include "comm/comm.hpp"
#include "core/options.hpp"
#include "io/posterior_file.hpp"

namespace varion {

/// The first steps of a run as a posterior file of kind "reference": the optimizer's state after `step` of them; also
/// first_gradient, of step 1, and, for variational optimizers, first_weights, the weights at which it was taken.
struct FirstSteps {
  io::PosteriorFile file;
  std::map<std::string, std::vector<float>> start;  // what each vector of `file` changed from
};

/// Trains `config` for `steps` steps at the constant rate optim.lr / 1000 under the provider in use. Collective.
FirstSteps first_steps(Config config, Index steps, const Comm& comm = {});

/// The configuration of a reference and its number of steps, with `changes` on top (data.path ...). Errors (65): the file
/// is no reference.
std::pair<Config, Index> reference_config(const io::PosteriorFile& reference, const std::string& name,
                                          const std::vector<std::pair<std::string, std::string>>& changes);

/// One tensor of one vector.
struct BackendDifference {
  std::string tensor, state;
  double difference;  // |ours - reference| / |reference - start|, Euclidean norms; where that is less than 1e-4 of
                      // |reference|, of those
  double tolerance;
  bool ok() const { return difference <= tolerance; }  // NaN is not
};

/// Tensor by tensor, in the file's order. Errors (65): the reference, called `name`, holds other tensors or vectors, or
/// was computed on other data.
std::vector<BackendDifference> compare_first_steps(const FirstSteps& ours, const io::PosteriorFile& reference,
                                                   const std::string& name);

}  // namespace varion
