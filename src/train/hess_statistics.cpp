#include "train/hess_statistics.hpp"

#include <cmath>

#include "train/host_copy.hpp"
#include "train/quantiles.hpp"

namespace varion {

std::optional<HessStatistics> hess_statistics(const Exec& exec, const Optimizer& optimizer, double start, const Comm& comm) {
  if (!comm.is_first() && optimizer.own_size() == optimizer.size()) return {};  // nothing is asked of it
  HessStatistics s;
  Vec own_hess;
  for (const StateVector& state : optimizer.state())
    if (state.name == "hess") own_hess = state.data;
  {
    const std::vector<float> hess = whole(own_hess, optimizer, comm);
    if (comm.is_first()) {
      for (const float h : hess) s.unmoved += std::abs(static_cast<double>(h) / start - 1) < 1e-3;
      s.unmoved /= static_cast<double>(hess.size());
      s.hess = quantiles(hess);
    }
  }
  const std::vector<float> sigma = whole(optimizer.sigma(exec), optimizer, comm);
  std::vector<float> ratio = whole(optimizer.state()[0].data, optimizer, comm);
  if (!comm.is_first()) return {};
  for (size_t i = 0; i < sigma.size(); ++i) ratio[i] = std::abs(ratio[i]) / sigma[i];
  s.sigma = quantiles(sigma);
  s.snr = quantiles(ratio);
  return s;
}

}  // namespace varion
