#include <boost/program_options.hpp>
#include <cstdio>

#include "app/command.hpp"
#include "comm/mpi_session.hpp"
#include "core/error.hpp"

namespace varion {

namespace po = boost::program_options;

std::string Arguments::flag(const std::string& name, const std::string& fallback) const {
  std::string value = fallback;
  for (const auto& [k, v] : flags)
    if (k == name) value = v;
  return value;
}

Arguments parse_arguments(const std::vector<std::string>& arguments,
                          const std::vector<std::string>& known) {
  po::options_description table;
  for (const std::string& name : known) table.add_options()(name.c_str(), po::value<std::string>());
  table.add_options()("words", po::value<std::vector<std::string>>());
  po::positional_options_description everything;
  everything.add("words", -1);
  Arguments out;
  try {
    const auto parsed = po::command_line_parser(arguments)
                            .options(table)
                            .positional(everything)
                            .style(po::command_line_style::unix_style &
                                   ~po::command_line_style::allow_guessing)
                            .run();
    for (const auto& o : parsed.options) {
      if (o.string_key != "words") {
        out.flags.emplace_back(o.string_key, o.value.at(0));
        continue;
      }
      const std::string& word = o.value.at(0);
      const size_t equal = word.find('=');
      const size_t dot = word.find('.');
      if (equal != std::string::npos && dot < equal && word.find('/') > equal)
        out.settings.emplace_back(word.substr(0, equal), word.substr(equal + 1));
      else
        out.words.push_back(word);
    }
  } catch (const po::error& e) {
    fail(Exit::usage, e.what(), "; flags here: ", known.empty() ? "none" : "--" + join(known, ", --"));
  }
  return out;
}

std::pair<std::vector<std::string>, bool> without_force(const std::vector<std::string>& arguments) {
  std::vector<std::string> others;
  for (const std::string& word : arguments)
    if (word != "--force") others.push_back(word);
  const bool there = others.size() < arguments.size();
  return {std::move(others), there};
}

std::pair<std::string, std::string> place_for(const std::filesystem::path& path, bool force, const std::string& input) {
  std::error_code none;
  const bool exists = std::filesystem::exists(path, none);
  require(!exists || !std::filesystem::equivalent(path, input, none), Exit::cant_create, "'", path.string(), "' is what is read: take another name");
  require(force || !exists, Exit::cant_create, "'", path.string(), "' is there: take another name, or --force");
  return {path.has_parent_path() ? path.parent_path().string() : ".", path.filename().string()};
}

namespace {
bool quiet = false;
}
bool is_quiet() { return quiet; }
void set_quiet() { quiet = true; }

void tell(const std::vector<std::string>& notes) {
  for (const std::string& note : notes)
    if (MpiSession::rank() == 0) std::fprintf(stderr, "note: %s\n", note.c_str());
}

Config make_config(const Arguments& a) {
  Config c;
  for (const std::string& file : a.words) c.read_file(file);
  c.read_environment();
  for (const auto& [k, v] : a.settings) c.set(k, v, "command line");
  tell(c.resolve());
  return c;
}

}  // namespace varion
