// Tables of numbers in text files.
#pragma once

#include <string>
#include <vector>

namespace varion::io {

struct Table {
  long rows = 0, columns = 0;
  std::vector<double> values;  // [rows, columns]
};

/// Numbers separated by blanks, tabs, commas or semicolons, a row a line; a first line without
/// any number is taken for column names, empty lines and a byte order mark are skipped. Errors: 66 not there; 65 a
/// word that is no finite number, rows of different length, no rows, more than 256 MiB; with FILE:LINE:COLUMN.
Table read_table(const std::string& path);

/// A table of one column, or one row, of integers in [low, high]. Errors as above.
std::vector<long> read_indices(const std::string& path, long low, long high);

}  // namespace varion::io
