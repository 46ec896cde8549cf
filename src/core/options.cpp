#include "core/options.hpp"

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "core/error.hpp"
#include "core/suggest.hpp"

extern char** environ;

namespace varion {

namespace {
struct Table {
  std::vector<OptionSpec> all;
  std::map<std::string, std::vector<size_t>> by_key;  // places in `all`: owners may share a key
};
Table& whole_table() {
  static Table t;
  return t;
}
const std::vector<OptionSpec>& table() { return whole_table().all; }

std::string trimmed(const std::string& s) {
  const size_t b = s.find_first_not_of(" \t\r"), e = s.find_last_not_of(" \t\r");
  return b == std::string::npos ? "" : s.substr(b, e - b + 1);
}

std::vector<std::string> keys() {
  std::vector<std::string> out;
  for (const auto& [key, places] : whole_table().by_key) out.push_back(key);
  return out;
}

std::optional<std::vector<Index>> parse_sizes(const std::string& s) {
  std::vector<Index> out;
  std::stringstream in(s);
  for (std::string part; std::getline(in, part, ',');) {
    const auto v = parse_real(trimmed(part));
    if (!v || *v < 1 || *v > 1e9 || *v != static_cast<double>(static_cast<Index>(*v))) return {};
    out.push_back(static_cast<Index>(*v));
  }
  return out;
}

using T = OptionSpec::Type;
/// Empty when the text fits the option, else what is wrong with it.
std::string problem(const OptionSpec& o, const std::string& s) {
  for (const char c : s)
    if (static_cast<unsigned char>(c) < 32) return "holds a control character";
  if (config_line(s) != s) return "begins or ends with a blank, or holds a '#' behind one: no config file could say so";
  switch (o.type) {
    case T::text: return s.size() > 4096 ? "is longer than 4096 characters" : "";
    case T::flag: return s == "true" || s == "false" ? "" : "must be true or false";
    case T::choice: {
      for (const std::string& c : o.choices)
        if (c == s) return "";
      return "must be one of " + join(o.choices) + did_you_mean(s, o.choices);
    }
    case T::sizes: return parse_sizes(s) ? "" : "must be positive integers like 64,64";
    case T::integer:
    case T::real: {
      const auto v = s == "inf" ? std::optional<double>(1e300) : parse_real(s);
      if (!v) return o.type == T::integer ? "must be an integer" : "must be a finite number";
      if (o.type == T::integer && (std::abs(*v) > 9e15 || *v != static_cast<double>(static_cast<Index>(*v))))
        return "must be an integer";
      if (*v < o.low || *v > o.high)
        return "must lie in [" + shortest(o.low) + ", " + shortest(o.high) + "]";
      return "";
    }
  }
  return "";
}
}  // namespace

const std::vector<OptionSpec>& option_table() { return table(); }

std::string config_line(const std::string& line) {
  size_t end = line.find('#');
  while (end != std::string::npos && end > 0 && line[end - 1] != ' ' && line[end - 1] != '\t') end = line.find('#', end + 1);
  return trimmed(line.substr(0, end));
}

bool add_options(const std::string& owner, const std::vector<OptionSpec>& options) {
  for (OptionSpec o : options) {
    o.owner = owner;
    Table& t = whole_table();
    t.by_key[o.key].push_back(t.all.size());
    t.all.push_back(std::move(o));
  }
  return true;
}

std::string shortest(double v) {
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, v);
  return std::string(buffer, end.ptr);
}

std::optional<double> parse_real(const std::string& s) {
  double v = 0;
  const char* first = s.data() + (s.size() > 1 && s[0] == '+' && s[1] != '-' ? 1 : 0);
  const auto r = std::from_chars(first, s.data() + s.size(), v);
  if (r.ec != std::errc() || r.ptr != s.data() + s.size() || !(v - v == 0)) return {};
  return v;
}

void Config::set(const std::string& key, const std::string& value, const std::string& source) {
  const auto places = whole_table().by_key.find(key);
  if (places == whole_table().by_key.end())
    fail(Exit::config, source, ": unknown key '", key.substr(0, 80), "'", did_you_mean(key, keys()),
         "; `varion config template` lists all");
  std::string wrong;
  bool fits = false;
  for (const size_t at : places->second) {
    wrong = problem(table()[at], value);
    fits = fits || wrong.empty();
  }
  if (!fits) fail(Exit::config, source, ": ", key, " = '", value.substr(0, 80), "' ", wrong);
  values_[key] = {value, source};
}

void Config::set_default(const std::string& key, const std::string& value,
                         const std::string& source) {
  if (!has(key)) set(key, value, source);
}

void Config::read_text(const std::string& content, const std::string& name) {
  std::istringstream in(content);
  std::string section;
  std::set<std::string> seen;
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    const std::string where = name + ":" + std::to_string(++number);
    require(number > 1 || line.rfind("\xef\xbb\xbf", 0) != 0, Exit::config, where, ": begins with a byte-order mark: save it as plain UTF-8");
    line = config_line(line);
    if (line.empty()) continue;
    if (line.front() == '[') {
      require(line.back() == ']', Exit::config, where, ": '", line.substr(0, 80),
              "' is no [section]");
      section = trimmed(line.substr(1, line.size() - 2));
      continue;
    }
    const size_t equal = line.find('=');
    require(equal != std::string::npos && !section.empty(), Exit::config, where, ": '",
            line.substr(0, 80), "' is neither [section] nor key = value below one");
    const std::string key = section + "." + trimmed(line.substr(0, equal));
    require(seen.insert(key).second, Exit::config, where, ": ", key, " stands twice in this file");
    set(key, trimmed(line.substr(equal + 1)), where);
  }
}

void Config::read_file(const std::string& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  require(in.good(), Exit::no_input, "cannot read config file '", path, "'", errno != 0 ? varion::text(": ", std::strerror(errno)) : "");
  std::string content(1 << 20, '\0');
  in.read(content.data(), static_cast<std::streamsize>(content.size()));
  require(in.gcount() < (1 << 20), Exit::config, path, ": larger than 1 MiB, not a config file");
  require(in.eof(), Exit::no_input, "cannot read config file '", path, "': is it a folder?");  // a folder can be opened
  content.resize(static_cast<size_t>(in.gcount()));
  read_text(content, path);
}

void Config::read_environment() {
  for (char** e = environ; *e != nullptr; ++e) {
    const std::string entry = *e;
    const size_t equal = entry.find('=');
    if (entry.rfind("VARION_", 0) != 0 || equal == std::string::npos) continue;
    const std::string name = entry.substr(0, equal);
    // Only names whose first word is a section of the table; VARION_PROVIDER and others are not ours.
    bool ours = false, known = false;
    std::vector<std::string> variables;
    for (const std::string& key : keys()) {
      std::string variable = "VARION_";
      for (const char c : key)
        variable += c == '.' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
      ours = ours || name.compare(0, 8 + key.find('.'), variable, 0, 8 + key.find('.')) == 0;
      known = known || variable == name;
      if (variable == name) set(key, entry.substr(equal + 1), name);
      variables.push_back(std::move(variable));
    }
    require(known || !ours, Exit::config, "environment: unknown key ", name.substr(0, 80), did_you_mean(name, variables));
  }
}

std::vector<std::string> Config::resolve() {
  std::vector<std::string> notes;
  if (has("model.preset") && !text("model.preset").empty()) {
    const std::string name = text("model.preset");
    std::vector<std::string> known;
    for (const auto& [preset, ini] : presets()) known.push_back(preset);
    const auto it = presets().find(name);
    require(it != presets().end(), Exit::config, values_["model.preset"].source, ": unknown preset '", name, "'",
            did_you_mean(name, known), "; known: ", join(known));
    Config recipe;
    recipe.read_text(it->second, "preset " + name);
    for (const auto& [key, v] : recipe.values()) set_default(key, v.text, v.source);
  }
  // Owners first: they decide which specs apply.
  for (const char* key : {"model.name", "optim.name", "data.name"})
    for (const OptionSpec& o : table())
      if (o.key == key) set_default(key, o.value, "built-in");
  const std::set<std::string> owners{"", text("model.name"), text("optim.name"), text("data.name")};
  std::set<std::string> applies;
  for (const OptionSpec& o : table())
    if (owners.count(o.owner) != 0) {
      applies.insert(o.key);
      if (!has(o.key)) {
        values_[o.key] = {o.value, o.owner.empty() ? "built-in" : "built-in for " + o.owner};
      } else {
        const std::string p = problem(o, values_[o.key].text);
        require(p.empty(), Exit::config, values_[o.key].source, ": ", o.key, " = '",
                values_[o.key].text, "' ", p);
      }
    }
  for (auto it = values_.begin(); it != values_.end();) {
    if (applies.count(it->first) == 0) {
      if (it->second.source.rfind("preset ", 0) != 0) notes.push_back(it->second.source + ": " + it->first +
                      " belongs to another model, optimizer or data set and has no effect");
      it = values_.erase(it);
    } else {
      ++it;
    }
  }
  return notes;
}

const Config::Value& Config::value(const std::string& key) const {
  const auto it = values_.find(key);
  ensure(it != values_.end(), "option '", key, "' is not resolved");
  return it->second;
}

std::string Config::text(const std::string& key) const { return value(key).text; }
double Config::real(const std::string& key) const {
  const std::string& s = value(key).text;
  return s == "inf" ? 1e30 : parse_real(s).value_or(0);
}
Index Config::integer(const std::string& key) const { return static_cast<Index>(real(key)); }
bool Config::flag(const std::string& key) const { return value(key).text == "true"; }
std::vector<Index> Config::sizes(const std::string& key) const {
  return parse_sizes(value(key).text).value_or(std::vector<Index>{});
}

std::string Config::ini(bool sources) const {
  std::string out, section;
  for (const auto& [key, v] : values_) {
    const size_t dot = key.find('.');
    if (key.substr(0, dot) != section) {
      section = key.substr(0, dot);
      out += (out.empty() ? "[" : "\n[") + section + "]\n";
    }
    out += key.substr(dot + 1) + " = " + v.text + (sources ? "  # " + v.source : "") + "\n";
  }
  return out;
}

}  // namespace varion
