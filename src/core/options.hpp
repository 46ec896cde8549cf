// The option table and a resolved configuration.
//
// Every key of a run is one OptionSpec: the table makes the parser, the help, the template and the
// checks. Values keep their text and where they came from, so that every message can name the source.
// Precedence: built-in < preset < files in order < VARION_SECTION_KEY < command line.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/types.hpp"

namespace varion {

struct OptionSpec {
  enum class Type { text, integer, real, flag, choice, sizes };
  OptionSpec(std::string key_, Type type_, std::string value_, std::string help_,
             std::vector<std::string> choices_ = {}, double low_ = -1e300, double high_ = 1e300)
      : key(std::move(key_)),
        type(type_),
        value(std::move(value_)),
        help(std::move(help_)),
        choices(std::move(choices_)),
        low(low_),
        high(high_) {}
  std::string key;  // "optim.lr"
  Type type;
  std::string value;  // built-in default, as text
  std::string help;
  std::vector<std::string> choices;
  double low, high;   // bounds of integers and reals, inclusive
  std::string owner;  // the model, optimizer or data set it belongs to; empty: all
};

class Config {
 public:
  struct Value {
    std::string text, source;
  };

  /// `source` names where the text stands: "command line", "FILE:LINE", "VARION_OPTIM_LR". Errors (78): unknown
  /// key, with the nearest known one; a value that does not fit its type or bounds.
  void set(const std::string& key, const std::string& value, const std::string& source);
  /// Reads `[section]` and `key = value` lines; `#` starts a comment.
  void read_file(const std::string& path);
  void read_text(const std::string& text, const std::string& name);
  /// Takes VARION_SECTION_KEY variables.
  void read_environment();
  /// Sets a value only where nobody has set one (defaults that depend on others).
  void set_default(const std::string& key, const std::string& value, const std::string& source);
  /// Fills in what model.preset says and nobody has set, then built-in defaults for everything that applies to this model, optimizer and data set;
  /// returns notes about keys given for another one.
  std::vector<std::string> resolve();

  bool has(const std::string& key) const { return values_.count(key) != 0; }
  std::string text(const std::string& key) const;
  double real(const std::string& key) const;
  Index integer(const std::string& key) const;
  bool flag(const std::string& key) const;
  std::vector<Index> sizes(const std::string& key) const;
  const std::map<std::string, Value>& values() const { return values_; }

  /// The whole configuration as INI, in the table's order; usable as input. `sources` adds comments.
  std::string ini(bool sources) const;

 private:
  const Value& value(const std::string& key) const;
  std::map<std::string, Value> values_;
};

/// A line of a config file without its comment, which a '#' at the start or behind a blank begins, and without the blanks around it.
std::string config_line(const std::string& line);

/// All options: the program's own and those that models, optimizers and data sets registered.
const std::vector<OptionSpec>& option_table();
/// Adds a group's options; called by the registries' owners before the first use of the table.
bool add_options(const std::string& owner, const std::vector<OptionSpec>& options);

/// Recipes by name, as INI (models/presets/*.ini, compiled in).
const std::map<std::string, std::string>& presets();

/// Shortest text that reads back as the same double.
std::string shortest(double v);
/// Whole text as a number, locale-free; empty when it is none or not finite.
std::optional<double> parse_real(const std::string& s);

}  // namespace varion
