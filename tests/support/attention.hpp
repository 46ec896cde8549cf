// Attention in double on the host.
#pragma once

#include <algorithm>
#include <cmath>

#include "backends/backend.hpp"
#include "support/vectors.hpp"

namespace varion {

/// y, log_sum and the gradient of qkv of one attention, from the definitions.
struct AttentionReference {
  std::vector<double> y, log_sum, dqkv;
  AttentionReference(const backend::Attention& s, const std::vector<double>& qkv, const std::vector<double>& dy)
      : y(dy.size()), log_sum(at(s.rows() * s.heads)), dqkv(qkv.size()) {
    const Index next = s.heads * s.width;
    const double scale = 1 / std::sqrt(static_cast<double>(s.width));
    for (Index item = 0; item < s.batch * s.heads; ++item)
      for (Index i = 0; i < s.length; ++i) {
        const Index seen = s.causal ? i + 1 : s.length, query = s.query(item) + i * s.pitch();
        const double *const q = &qkv[at(query)], *const above = &dy[at(s.output(item) + i * next)];
        std::vector<double> p(at(seen)), dp(at(seen));
        const auto key = [&](Index j) { return s.query(item) + j * s.pitch() + next; };
        double top = -INFINITY, sum = 0, along = 0;
        for (Index j = 0; j < seen; ++j) {
          for (Index k = 0; k < s.width; ++k) p[at(j)] += scale * q[k] * qkv[at(key(j) + k)];
          top = std::max(top, p[at(j)]);
        }
        for (double& x : p) sum += x = std::exp(x - top);
        log_sum[at(item * s.length + i)] = top + std::log(sum);
        for (Index j = 0; j < seen; ++j) {
          p[at(j)] /= sum;
          for (Index k = 0; k < s.width; ++k) {
            const double v = qkv[at(key(j) + next + k)];
            y[at(s.output(item) + i * next + k)] += p[at(j)] * v;
            dp[at(j)] += above[k] * v;
            dqkv[at(key(j) + next + k)] += p[at(j)] * above[k];
          }
          along += p[at(j)] * dp[at(j)];
        }
        for (Index j = 0; j < seen; ++j) {
          const double e = scale * p[at(j)] * (dp[at(j)] - along);
          for (Index k = 0; k < s.width; ++k) {
            dqkv[at(query + k)] += e * qkv[at(key(j) + k)];
            dqkv[at(key(j) + k)] += e * q[k];
          }
        }
      }
  }
};

}  // namespace varion
