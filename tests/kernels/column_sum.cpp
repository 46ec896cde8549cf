// Column sums, plain and behind a ReLU, against a host loop: one row, chunks that are whole and not, chunks of chunks.
#include "ops/column_sum.hpp"

#include <cmath>

#include "support/catch.hpp"
#include "support/vectors.hpp"

using namespace varion;

TEST_CASE("column sums") {
  for (const Index rows : {1, 2, 63, 512, 513, 4097, 300000})
    for (const Index columns : {1, 3, 16, 19, 33})
      for (const bool relu : {false, true})
        for (const bool add : {false, true}) {
          if (rows * columns > 1000000) continue;
          INFO("rows " << rows << " columns " << columns << " relu " << relu << " add " << add);
          const Vec dy = draw(1, rows * columns), y = draw(2, rows * columns);
          const Vec sum = add ? draw(3, columns) : poisoned(columns);
          const auto hd = host(dy), hy = host(y);
          std::vector<double> expected = add ? host(sum) : std::vector<double>(static_cast<size_t>(columns));
          std::vector<double> masked = hd;
          for (size_t i = 0; i < hd.size(); ++i) {
            if (relu && !(hy[i] > 0)) masked[i] = 0;
            expected[i % static_cast<size_t>(columns)] += masked[i];
          }
          const Vec scratch = poisoned(column_sum_words(rows, columns));
          if (relu) relu_column_sum(Exec(), rows, columns, y, dy, {sum, add}, scratch);
          else column_sum(Exec(), rows, columns, dy, {sum, add}, scratch);
          CHECK(host(dy) == masked);
          const auto got = host(sum);
          double worst = 0;  // NaN must fail
          for (size_t k = 0; k < got.size(); ++k) {
            const double off = std::abs(got[k] - expected[k]);
            worst = !(off <= worst) ? off : worst;
          }
          CHECK(worst <= 2e-7 * static_cast<double>(rows + 4));
        }
}
