// Regression tables with split files, in the layout of the UCI benchmark (Hernandez-Lobato and Adams 2015):
// data.txt, index_features.txt, index_target.txt, n_splits.txt, index_train_K.txt, index_test_K.txt.
#include <cmath>

#include "core/error.hpp"
#include "data/dataset.hpp"
#include "io/table.hpp"

namespace varion {

namespace {
DataSet load_uci(const Config& c) {
  const std::string folder = data_path(c) + "/";
  const io::Table t = io::read_table(folder + "data.txt");
  const auto features = io::read_indices(folder + "index_features.txt", 0, t.columns - 1);
  const auto target = io::read_indices(folder + "index_target.txt", 0, t.columns - 1);
  require(target.size() == 1, Exit::data, folder, "index_target.txt: ", target.size(), " targets, expected 1");
  const auto splits = io::read_indices(folder + "n_splits.txt", 1, 1000000);
  require(splits.size() == 1, Exit::data, folder, "n_splits.txt: expected one number");
  const std::string which = c.text("data.split");
  const auto number = which == "auto" ? std::optional<double>(static_cast<double>((c.integer("run.seed") + splits[0] - 1) % splits[0]))
                                      : parse_real(which);
  require(number && *number >= 0 && *number < static_cast<double>(splits[0]) && *number == std::floor(*number),
          Exit::config, "data.split = '", which, "' must be auto or lie in 0 .. ", splits[0] - 1);
  const std::string split = std::to_string(static_cast<long>(*number));
  const auto train = io::read_indices(folder + "index_train_" + split + ".txt", 0, t.rows - 1);
  const auto test = io::read_indices(folder + "index_test_" + split + ".txt", 0, t.rows - 1);
  std::vector<char> taken(static_cast<size_t>(t.rows), 0);
  for (const long row : train) taken[static_cast<size_t>(row)] = 1;
  for (const long row : test)
    require(taken[static_cast<size_t>(row)] == 0, Exit::data, folder, "index_test_", split, ".txt: row ", row,
            " is also a training row");

  // Columns are standardised by the training rows; a constant column is only centred.
  const auto at = [&](long row, long column) { return t.values[static_cast<size_t>(row * t.columns + column)]; };
  const auto moments = [&](long column) {
    double mean = 0, squares = 0;
    for (const long row : train) mean += at(row, column) / static_cast<double>(train.size());
    for (const long row : train) squares += (at(row, column) - mean) * (at(row, column) - mean);
    const double sd = std::sqrt(squares / static_cast<double>(train.size()));
    return std::pair<double, double>{mean, sd > 0 ? sd : 1};
  };
  DataSet d;
  d.name = "uci";
  for (Examples* e : {&d.train, &d.test}) {
    const auto& rows = e == &d.train ? train : test;
    e->example = {static_cast<Index>(features.size())};
    e->count = static_cast<Index>(rows.size());
    e->x.resize(rows.size() * features.size());
    e->targets.resize(rows.size());
  }
  const auto fill = [&](long column, size_t place, bool is_target) {
    const auto [mean, sd] = moments(column);
    for (Examples* e : {&d.train, &d.test}) {
      const auto& rows = e == &d.train ? train : test;
      for (size_t i = 0; i < rows.size(); ++i)
        (is_target ? e->targets[i] : e->x[i * features.size() + place]) =
            static_cast<float>((at(rows[i], column) - mean) / sd);
    }
    return sd;
  };
  for (size_t k = 0; k < features.size(); ++k) fill(features[k], k, false);
  d.target_scale = fill(target[0], 0, true);
  return d;
}

using T = OptionSpec::Type;
const bool registered_uci =
    add_options("uci", {{"data.path", T::text, "", "folder of the files"},
                        {"data.split", T::text, "auto", "which split; auto: run.seed - 1, modulo their number"}}) &&
    DataSets::of().add("uci", {"regression table with split files, as the UCI benchmark lays them out", load_uci});
}  // namespace

}  // namespace varion
