#include "io/table.hpp"

#include <charconv>

#include "core/error.hpp"
#include "io/input_file.hpp"

namespace varion::io {

Table read_table(const std::string& path) {
  const std::string content = read_file(path, size_t(256) << 20);
  const auto blank = [&](size_t i) {
    const char c = content[i];
    return c == ' ' || c == '\t' || c == ',' || c == ';' || c == '\r';
  };
  Table t;
  long number = 0;
  size_t at = content.rfind("\xef\xbb\xbf", 0) == 0 ? 3 : 0;  // a byte order mark
  while (at < content.size()) {
    const size_t end = std::min(content.find('\n', at), content.size());
    const std::string where = path + ":" + std::to_string(++number);
    std::string bad;  // the first word that is no number
    size_t bad_column = 0;
    long found = 0;
    for (size_t p = at; p < end;) {
      if (blank(p)) {
        ++p;
        continue;
      }
      size_t stop = p;
      while (stop < end && !blank(stop)) ++stop;
      double v = 0;
      const char* first = content.data() + p + (content[p] == '+' && content[p + 1] != '-' ? 1 : 0);
      const auto r = std::from_chars(first, content.data() + stop, v);
      if (r.ec == std::errc() && r.ptr == content.data() + stop && v - v == 0) {
        t.values.push_back(v);
        ++found;
      } else if (bad_column == 0) {
        bad = content.substr(p, std::min<size_t>(stop - p, 40));
        bad_column = p - at + 1;
      }
      p = stop;
    }
    at = end + 1;
    if (bad_column > 0) {
      if (number == 1 && found == 0) continue;  // column names
      for (char& c : bad)
        if (static_cast<unsigned char>(c) < 32) c = '?';
      fail(Exit::data, where, ":", bad_column, ": '", bad, "' is no finite number");
    }
    if (found == 0) continue;
    if (t.rows == 0) t.columns = found;
    require(found == t.columns, Exit::data, where, ": ", found, " numbers, the rows before have ", t.columns);
    ++t.rows;
  }
  require(t.rows > 0, Exit::data, path, ": holds no numbers");
  return t;
}

std::vector<long> read_indices(const std::string& path, long low, long high) {
  const Table t = read_table(path);
  require(t.columns == 1 || t.rows == 1, Exit::data, path, ": a ", t.rows, " x ", t.columns,
          " table, expected one column");
  std::vector<long> out;
  for (size_t i = 0; i < t.values.size(); ++i) {
    const double v = t.values[i];
    require(v >= static_cast<double>(low) && v <= static_cast<double>(high) &&
                v == static_cast<double>(static_cast<long>(v)),
            Exit::data, path, ": entry ", i + 1, " is ", v, ", expected an integer in [", low, ", ", high, "]");
    out.push_back(static_cast<long>(v));
  }
  return out;
}

}  // namespace varion::io
