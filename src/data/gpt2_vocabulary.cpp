#include "data/gpt2_vocabulary.hpp"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "core/error.hpp"
#include "data/utf8.hpp"
#include "io/input_file.hpp"

namespace varion {

namespace {
/// The files write a byte as a character that can be seen: the printable ones of Latin-1 as they are, the others, in their order,
/// as U+0100 and on. -1: the character stands for none.
int byte_of(std::int32_t code) {
  static const std::vector<int> bytes = [] {
    std::vector<int> of(256 + 68, -1);
    size_t hidden = 256;
    for (int b = 0; b < 256; ++b) {
      const bool seen = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      of[seen ? static_cast<size_t>(b) : hidden++] = b;
    }
    return of;
  }();
  return code >= 0 && static_cast<size_t>(code) < bytes.size() ? bytes[static_cast<size_t>(code)] : -1;
}

/// The bytes of a token as the files write it; false: not of that alphabet.
bool spell(std::string_view written, std::string& bytes) {
  bytes.clear();
  for (size_t at = 0; at < written.size();) {
    const Character c = character_at(written, at);
    const int b = byte_of(c.code);
    if (b < 0) return false;
    bytes += static_cast<char>(b);
    at += static_cast<size_t>(c.bytes);
  }
  return !bytes.empty();
}

/// The first of these names that is there, or the first.
std::string one_of(const std::string& folder, const char* name, const char* other) {
  std::error_code none;
  const bool second = !std::filesystem::exists(folder + "/" + name, none) && std::filesystem::exists(folder + "/" + other, none);
  return folder + "/" + (second ? other : name);
}
}  // namespace

Gpt2Vocabulary parse_gpt2_vocabulary(const std::string& json, const std::string& json_name, const std::string& merges,
                                     const std::string& merges_name) {
  const auto table = nlohmann::json::parse(json, nullptr, false);
  require(table.is_object() && !table.empty(), Exit::data, json_name, ": no JSON object of tokens and their numbers");
  const size_t size = table.size();
  std::vector<std::string> tokens(size);
  std::unordered_map<std::string, std::int32_t> number;
  std::string bytes;
  for (const auto& [written, value] : table.items()) {
    require(value.is_number_unsigned() && value.get<std::uint64_t>() < size && tokens[value.get<size_t>()].empty(), Exit::data,
            json_name, ": the number of '", written.substr(0, 40), "' is ", value.dump().substr(0, 40), ": the ", size,
            " tokens must have the numbers 0 to ", size - 1, ", each once");
    require(spell(written, bytes), Exit::data, json_name, ": token ", value.get<size_t>(), ", '", written.substr(0, 40),
            "', holds a character that stands for no byte");
    tokens[value.get<size_t>()] = bytes;
    number[bytes] = value.get<std::int32_t>();
  }
  Gpt2Vocabulary v;
  if (const auto end = number.find("<|endoftext|>"); end != number.end()) v.end_of_text = end->second;
  for (const std::string& t : tokens) v.bytes.add(t);
  std::vector<bool> made(size, false);  // by single bytes and the merges so far
  for (int b = 0; b < 256; ++b) {
    const auto at = number.find(std::string(1, static_cast<char>(b)));
    require(at != number.end(), Exit::data, json_name, ": no token for byte ", b, ", so that text with it could not be encoded");
    v.of_byte[static_cast<size_t>(b)] = at->second;
    made[static_cast<size_t>(at->second)] = true;
  }
  int line_number = 0;
  for (size_t begin = 0; begin < merges.size();) {
    const size_t end = std::min(merges.find('\n', begin), merges.size());
    std::string_view line = std::string_view(merges).substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty() || (line_number == 1 && line.rfind("#version", 0) == 0)) continue;
    const auto refuse = [&](const std::string& reason) {
      fail(Exit::data, merges_name, ":", line_number, ": '", line.substr(0, 80), "' ", reason);
    };
    const size_t space = line.find(' ');
    std::string left, right;
    if (space == std::string_view::npos || !spell(line.substr(0, space), left) || !spell(line.substr(space + 1), right))
      refuse("is not two tokens with a space between");
    const auto a = number.find(left), b = number.find(right), ab = number.find(left + right);
    if (a == number.end() || b == number.end() || ab == number.end()) refuse("merges, or makes, what " + json_name + " does not number");
    if (!made[static_cast<size_t>(a->second)] || !made[static_cast<size_t>(b->second)])
      refuse("merges what no line before has made");
    if (made[static_cast<size_t>(ab->second)]) refuse("makes a token that is already made");
    made[static_cast<size_t>(ab->second)] = true;
    v.merges.push_back({a->second, b->second, ab->second});
  }
  return v;
}

Gpt2Vocabulary read_gpt2_vocabulary(const std::string& folder) {
  constexpr size_t kMost = size_t(64) << 20;
  const std::string json = one_of(folder, "encoder.json", "vocab.json"), merges = one_of(folder, "vocab.bpe", "merges.txt");
  const std::string tokens = io::read_file(json, kMost);
  return parse_gpt2_vocabulary(tokens, json, io::read_file(merges, kMost), merges);
}

}  // namespace varion
