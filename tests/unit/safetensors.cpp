// The safetensors reader and writer: what is read, and that everything else is refused with the file and the reason; and what
// model.init makes of such files.
#include "io/safetensors.hpp"

#include <cmath>
#include <cstring>
#include <filesystem>

#include "core/error.hpp"
#include "data/dataset.hpp"
#include "io/commit_file.hpp"
#include "io/input_file.hpp"
#include "io/posterior_file.hpp"
#include "support/catch.hpp"
#include "support/config.hpp"
#include "support/files.hpp"
#include "support/refusal.hpp"
#include "train/network.hpp"
#include "train/run.hpp"
#include "train/start_values.hpp"

using namespace varion;

namespace {
const std::string kSafetensorsDir = "safetensors-test";

/// A file of this header and so many bytes of data, 0, 1, 2 ... 63, 0 ...
std::string with_header(const std::string& name, const std::string& header, size_t data) {
  std::string bytes(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, 8);
  bytes += header;
  for (size_t i = 0; i < data; ++i) bytes += static_cast<char>(i % 64);
  return put(kSafetensorsDir, name, bytes);
}

void refused(const std::string& header, size_t data, const std::string& reason) {
  const std::string path = with_header("lie", header, data);
  const std::string why = refusal(Exit::data, [&] { io::read_safetensors(path); });
  INFO(why);
  CHECK(why.find(path + ": ") == 0);
  CHECK(why.find(reason) != std::string::npos);
}

/// A tensor's entry.
std::string entry(const std::string& name, const std::string& dtype, const std::string& shape, const std::string& place) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[" + place + "]}";
}
std::string one(const std::string& dtype, const std::string& shape, const std::string& place) { return "{" + entry("w", dtype, shape, place) + "}"; }
}  // namespace

TEST_CASE("what is written reads back, and the numbers are aligned") {
  const io::Safetensors a{{{"w", {2, 3}, {1, -2, 3e-40f, 4, 5, 6}}, {"a \"b\"\xc3\xa9", {}, {7}}, {"empty", {0, 4}, {}}}, {{"format", "pt"}}};
  for (const io::Safetensors& content : {a, io::Safetensors{}}) {
    io::make_folder(kSafetensorsDir);
    io::save_safetensors(kSafetensorsDir, "round", content);
    const io::Safetensors b = io::read_safetensors(kSafetensorsDir + "/round");
    REQUIRE(b.tensors.size() == content.tensors.size());
    for (size_t i = 0; i < b.tensors.size(); ++i) {
      const io::NamedTensor &x = content.tensors[i], &y = b.tensors[i];
      CHECK((x.name == y.name && x.shape == y.shape && x.values == y.values));
    }
    CHECK(b.metadata == content.metadata);
    const std::string bytes = io::read_file(kSafetensorsDir + "/round", 1 << 20);
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    CHECK(length % 8 == 0);
  }
  CHECK_THROWS_AS(io::save_safetensors(kSafetensorsDir, "bad", {{{"w", {2}, {1}}}, {}}), Error);
  CHECK_THROWS_AS(io::save_safetensors(kSafetensorsDir, "bad", {{{"w", {1}, {1}}, {"w", {1}, {1}}}, {}}), Error);
  CHECK(refusal(Exit::cant_create, [] { io::save_safetensors(kSafetensorsDir + "/nowhere", "x", {}); }).find("nowhere") != std::string::npos);
}

TEST_CASE("half and bfloat numbers become the floats they stand for") {
  const auto read = [](const char* dtype, std::initializer_list<std::uint16_t> words) {
    std::string path = with_header("halves", one(dtype, std::to_string(words.size()), "0," + std::to_string(2 * words.size())), 0);
    std::string bytes = io::read_file(path, 1 << 20);
    for (const std::uint16_t w : words) bytes += std::string{static_cast<char>(w & 255), static_cast<char>(w >> 8)};
    io::commit_file(kSafetensorsDir, "halves", bytes);
    return io::read_safetensors(path).tensors[0].values;
  };
  CHECK(read("F16", {0x0000, 0x3c00, 0xc000, 0x3555, 0x7bff, 0x0001, 0x03ff, 0x0400, 0x83ff}) ==
        std::vector<float>{0, 1, -2, 0.333251953125f, 65504, 0x1p-24f, 1023 * 0x1p-24f, 0x1p-14f, -1023 * 0x1p-24f});
  CHECK(std::signbit(read("F16", {0x8000})[0]));
  CHECK(read("BF16", {0x3f80, 0xc000, 0x4049, 0x0001}) == std::vector<float>{1, -2, 3.140625f, 0x1p-133f});
  for (const std::uint16_t bad : std::initializer_list<std::uint16_t>{0x7c00, 0xfc00, 0x7e00, 0x7c01})
    CHECK(refusal(Exit::data, [&] { read("F16", {0, bad}); }).find("'w' is not finite at index 1") != std::string::npos);
  for (const std::uint16_t bad : std::initializer_list<std::uint16_t>{0x7f80, 0xff80, 0x7fc0})
    CHECK(refusal(Exit::data, [&] { read("BF16", {bad}); }).find("'w' is not finite at index 0") != std::string::npos);
}

TEST_CASE("I4: safetensors files that lie are refused") {
  CHECK(refusal(Exit::no_input, [] { io::read_safetensors(kSafetensorsDir + "/nothing"); }).find("nothing") != std::string::npos);
  CHECK(refusal(Exit::data, [] { io::read_safetensors("."); }).find("not a regular file") != std::string::npos);
  io::make_folder(kSafetensorsDir);
  io::commit_file(kSafetensorsDir, "lie", "seven b");
  CHECK(refusal(Exit::data, [] { io::read_safetensors(kSafetensorsDir + "/lie"); }).find("7 bytes are no safetensors file") != std::string::npos);
  for (const auto& [length, reason] : {std::pair<const char*, const char*>{"\xff\xff\xff\xff\xff\xff\xff\xff", "more than 16777216"},
                                       {"\x01\x00\x00\x01\x00\x00\x00\x00", "more than 16777216"}, {"\x03\x00\x00\x00\x00\x00\x00\x00", "inside the header: 2 of 3"}}) {
    io::commit_file(kSafetensorsDir, "lie", std::string(length, 8) + "{}");
    CHECK(refusal(Exit::data, [] { io::read_safetensors(kSafetensorsDir + "/lie"); }).find(reason) != std::string::npos);
  }
  refused("", 0, "no JSON: wrong at byte 9");
  refused("{\"w\":", 0, "no JSON");
  refused("{\"\xff\":1}", 0, "no JSON");
  refused("{\"w\":1e999}", 0, "a number is too large");
  refused("[]", 0, "no JSON object");
  refused("{\"w\":{\"shape\":[[[[1]]]]}}", 0, "nested too deep");
  refused(std::string(100000, '['), 0, "nested too deep");
  refused("{" + entry("w", "F32", "1", "0,4") + "," + entry("w", "F32", "1", "4,8") + "}", 8, "names 'w' twice");
  refused("{\"w\":{\"dtype\":\"F32\",\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "names 'dtype' twice");
  refused("{\"w\":3}", 0, "tensor 'w' has no dtype");
  refused("{\"w\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "has no shape");
  refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "has no data_offsets");
  refused("{\"w\":{\"dtype\":4,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype is no text");
  for (const char* dtype : {"F64", "I64", "BOOL", "f32", "", "F8_E4M3"}) refused(one(dtype, "1", "0,8"), 8, "F32, F16 and BF16 are read");
  refused("{\"w\":{\"dtype\":\"F32\",\"shape\":4,\"data_offsets\":[0,4]}}", 4, "shape is no list");
  refused(one("F32", "1,1,1,1,1,1,1,1,1", "0,4"), 4, "at most 8 extents");
  for (const char* extent : {"-1", "1.5", "\"1\"", "null", "4611686018427387904"}) refused(one("F32", extent, "0,4"), 4, "an extent is no count");
  refused(one("F32", "4294967296,4294967296", "0,0"), 0, "more than 2^60");        // 2^64: zero, where it wraps
  refused(one("F32", "4611686018427387903", "0,4"), 4, "more than 2^60");          // times 4 wraps
  refused(one("F32", "1", "0"), 4, "no pair");
  refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":0}}", 4, "no pair");
  refused(one("F32", "1", "-4,0"), 4, "a data offset is no count");
  refused(one("F32", "1", "0,4.0"), 4, "a data offset is no count");
  refused(one("F32", "2", "0,4"), 4, "take 8 bytes");
  refused(one("F16", "2", "0,8"), 8, "take 4 bytes");
  refused(one("F32", "1", "4,0"), 4, "take 4 bytes, its data_offsets are 4 and 0");
  refused(one("F32", "2", "0,8"), 7, "ends at byte 8 of 7");
  refused(one("F32", "1152921504606846976", "0,4611686018427387904"), 4, "no count");
  refused(one("F32", "1152921504606846975", "0,4611686018427387900"), 4, "ends at byte 4611686018427387900 of 4");
  refused("{" + entry("a", "F32", "2", "0,8") + "," + entry("b", "F32", "2", "4,12") + "}", 12, "'b' starts at byte 4 of the data, inside the one before");
  refused("{" + entry("a", "F32", "1", "0,4") + "," + entry("b", "F32", "1", "8,12") + "}", 12, "'b' starts at byte 8 of the data, behind a gap");
  refused(one("F32", "1", "4,8"), 8, "behind a gap");
  refused(one("F32", "1", "0,4"), 9, "5 bytes behind the last tensor");
  refused("{}", 1, "1 bytes behind the last tensor");
  refused("{\"__metadata__\":[]}", 0, "__metadata__ is no object");
  refused("{\"__metadata__\":{\"a\":1}}", 0, "__metadata__ 'a' is no text");
  refused("{\"a\\nb" + std::string(200, 'x') + "\":3}", 0, "tensor 'a?b" + std::string(77, 'x') + "' has no dtype");
}

TEST_CASE("I4: every byte of a small file, cut off or flipped, is read or refused") {
  const io::Safetensors a{{{"w", {2, 3}, {1, 2, 3, 4, 5, 6}}, {"b", {1}, {7}}}, {{"k", "v"}}};
  io::make_folder(kSafetensorsDir);
  io::save_safetensors(kSafetensorsDir, "bits", a);
  const std::string bytes = io::read_file(kSafetensorsDir + "/bits", 1 << 20);
  int refusals = 0, tried = 0;
  const auto attempt = [&](const std::string& changed) {
    io::commit_file(kSafetensorsDir, "changed", changed);
    ++tried;
    try {
      io::read_safetensors(kSafetensorsDir + "/changed");
    } catch (const Error& e) {
      CHECK(e.code() == Exit::data);
      ++refusals;
    }
  };
  for (size_t n = 0; n < bytes.size(); ++n) attempt(bytes.substr(0, n));
  CHECK(refusals == tried);
  for (size_t n = 0; n < bytes.size(); ++n)
    for (int bit = 0; bit < 8; bit += 3) {
      std::string changed = bytes;
      changed[n] = static_cast<char>(changed[n] ^ (1 << bit));
      attempt(changed);
    }
  CHECK(refusals < tried);  // names and numbers may be any
}

namespace {
Layout layout_of(std::initializer_list<std::pair<const char*, Shape>> parameters) {
  Layout l;
  for (const auto& [name, shape] : parameters) l.add(name, shape, {});
  l.finish();
  return l;
}
io::NamedTensor tensor(const std::string& name, std::vector<long> shape, float value = 1) {
  size_t n = 1;
  for (const long e : shape) n *= static_cast<size_t>(e);
  return {name, std::move(shape), std::vector<float>(n, value)};
}
std::string mismatch(const WeightFile& f, const Layout& l, const std::vector<std::string>& skip, Exit code = Exit::data) {
  return refusal(code, [&] { match_tensors(f, "F", l, skip); });
}
}  // namespace

TEST_CASE("tensors are matched by name and shape, and what is left over is told") {
  const Layout l = layout_of({{"body.weight", {3, 2}}, {"body.bias", {3}}, {"head.weight", {5, 3}}});
  const WeightFile whole{{tensor("head.weight", {5, 3}), tensor("body.bias", {3}), tensor("body.weight", {3, 2})}, {}};
  CHECK(match_tensors(whole, "F", l, {}) == std::vector<int>{2, 1, 0});
  CHECK(match_tensors(whole, "F", l, {"head"}) == std::vector<int>{2, 1, -1});
  CHECK(match_tensors(whole, "F", l, {"body.bias", "head.weight"}) == std::vector<int>{2, -1, -1});
  const WeightFile small{{tensor("head.weight", {9, 3}), tensor("body.bias", {3}), tensor("body.weight", {3, 2})}, {}};
  CHECK(mismatch(small, l, {}) == "F: 'head.weight' is [9, 3], the model's is [5, 3]; model.init_skip=head leaves it as drawn");
  CHECK(match_tensors(small, "F", l, {"head"})[2] == -1);
  const WeightFile flat{{tensor("head.weight", {15}), tensor("body.bias", {3}), tensor("body.weight", {3, 2})}, {}};
  CHECK(mismatch(flat, l, {}).find("is [15], the model's is [5, 3]") != std::string::npos);
  const WeightFile less{{tensor("body.bias", {3}), tensor("body.weight", {3, 2})}, {}};
  CHECK(mismatch(less, l, {}) == "F: no tensor 'head.weight'; model.init_skip=head leaves it as drawn");
  CHECK(match_tensors(less, "F", l, {"head"}) == std::vector<int>{1, 0, -1});
  WeightFile more = whole;
  more.tensors.push_back(tensor("body.scale", {3}));
  CHECK(mismatch(more, l, {}) == "F: 'body.scale' [3] is no parameter of the model; model.init_skip=body passes it over");
  CHECK(match_tensors(more, "F", l, {"body.scale"}) == std::vector<int>{2, 1, 0});
  more.tensors.back() = tensor("other.bias", {3}, 0);  // adds nothing
  CHECK(match_tensors(more, "F", l, {}) == std::vector<int>{2, 1, 0});
  more.tensors.back().values[2] = 1e-30f;
  CHECK(mismatch(more, l, {}).find("'other.bias' [3] is no parameter") != std::string::npos);
  CHECK(mismatch(whole, l, {"hea"}, Exit::config) == "model.init_skip: neither the model nor 'F' has a tensor 'hea'");
  CHECK(mismatch(whole, l, {"head.weight.x"}, Exit::config).find("head.weight.x") != std::string::npos);
}

TEST_CASE("GPT-2 files of Hugging Face and nanoGPT get the same names and shapes") {
  const auto gpt2 = [](const std::string& prefix, bool turned) {
    std::vector<io::NamedTensor> t{tensor(prefix + "wte.weight", {7, 2}), tensor(prefix + "wpe.weight", {4, 2}), tensor(prefix + "ln_f.weight", {2}),
                                   tensor(prefix + "h.0.ln_1.weight", {2}), tensor(prefix + "h.0.ln_1.bias", {2}, 0)};
    const auto linear = [&](const std::string& name, long out, long in) {
      io::NamedTensor w = tensor(prefix + "h.0." + name, turned ? std::vector<long>{in, out} : std::vector<long>{out, in});
      for (long o = 0; o < out; ++o)
        for (long i = 0; i < in; ++i) w.values[static_cast<size_t>(turned ? i * out + o : o * in + i)] = static_cast<float>(10 * o + i);
      t.push_back(w);
    };
    linear("attn.c_attn.weight", 6, 2);
    linear("attn.c_proj.weight", 2, 2);
    linear("mlp.c_fc.weight", 8, 2);
    linear("mlp.c_proj.weight", 2, 8);
    return t;
  };
  std::vector<io::NamedTensor> expected = gpt2("", false);
  for (const char* prefix : {"", "transformer."})
    for (const bool turned : {false, true}) {
      std::vector<io::NamedTensor> t = gpt2(prefix, turned);
      t.push_back(tensor(std::string(prefix) + "h.0.attn.bias", {1, 1, 4, 4}));  // the mask
      t.push_back(tensor(std::string(prefix) + "h.0.attn.masked_bias", {}, -1e4f));
      t.push_back(tensor("lm_head.weight", {7, 2}));
      gpt2_names(t);
      REQUIRE(t.size() == expected.size());
      for (size_t i = 0; i < t.size(); ++i) {
        INFO(t[i].name << " " << prefix << turned);
        CHECK((t[i].name == expected[i].name && t[i].shape == expected[i].shape && t[i].values == expected[i].values));
      }
    }
  std::vector<io::NamedTensor> untied = gpt2("", true);
  untied.push_back(tensor("lm_head.weight", {7, 2}, 2));
  gpt2_names(untied);
  CHECK(untied.back().name == "lm_head.weight");
  const Layout l = layout_of({{"transformer.wte.weight", {7, 2}}, {"transformer.wpe.weight", {4, 2}}, {"transformer.ln_f.weight", {2}},
                              {"transformer.h.0.ln_1.weight", {2}}, {"transformer.h.0.attn.c_attn.weight", {6, 2}},
                              {"transformer.h.0.attn.c_proj.weight", {2, 2}}, {"transformer.h.0.mlp.c_fc.weight", {8, 2}},
                              {"transformer.h.0.mlp.c_proj.weight", {2, 8}}});
  CHECK(match_tensors({expected, {}}, "F", l, {}) == std::vector<int>{0, 1, 2, 3, 5, 6, 7, 8});
  CHECK(mismatch({untied, {}}, l, {}).find("'lm_head.weight' [7, 2] is no parameter") != std::string::npos);
  expected[4].values[0] = 0.1f;
  CHECK(mismatch({expected, {}}, l, {}).find("'h.0.ln_1.bias' [2] is no parameter") != std::string::npos);
  std::vector<io::NamedTensor> other{tensor("transformer.x", {2, 6})};
  gpt2_names(other);
  CHECK((other[0].name == "transformer.x" && other[0].shape == std::vector<long>{2, 6}));
}

namespace {
Config moons(const std::string& dir, const std::vector<std::pair<std::string, std::string>>& more) {
  Config c;
  for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{
           {"data.name", "moons"}, {"model.name", "mlp"}, {"model.sizes", "6"}, {"train.steps", "12"}, {"optim.ess", "1e4"}, {"eval.samples", "1"},
           {"eval.every", "0st"}, {"run.dir", kSafetensorsDir + "/" + dir}})
    c.set(key, value, "test");
  for (const auto& [key, value] : more) c.set(key, value, "test");
  c.resolve();
  return c;
}
/// The state that a run with this configuration starts from: mean and Hessian.
std::pair<std::vector<float>, std::vector<float>> start_of(Config c) {
  const DataSet data = load_data(c);
  Layout layout;
  Trainer trainer(layout, c, data, Exec());
  take_start_values(c, layout, &trainer.optimizer(), Comm());
  const auto numbers = [](const Vec& v) {
    const auto h = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), v);
    return std::vector<float>(h.data(), h.data() + h.extent(0));
  };
  const auto state = trainer.optimizer().state();
  return {numbers(state[0].data), state[1].name == "hess" ? numbers(state[1].data) : std::vector<float>()};
}
}  // namespace

TEST_CASE("a run starts from a posterior, from its export, and with its Hessian") {
  std::filesystem::remove_all(kSafetensorsDir);
  REQUIRE(train_run(moons("first", {}), true).code == Exit::ok);
  const std::string posterior = kSafetensorsDir + "/first/final.h5";
  const io::PosteriorFile f = io::load_posterior(posterior);
  std::vector<float> hess;
  for (const auto& [name, flat] : f.states)
    if (name == "hess") hess = flat;
  // As `varion posterior export --states=hess` writes it.
  io::Safetensors all{{}, {{"varion_states", "hess"}}};
  for (const io::TensorInfo& t : f.tensors) {
    all.tensors.push_back({t.name, t.shape, {f.mean.begin() + t.offset, f.mean.begin() + t.offset + t.size}});
    all.tensors.push_back({t.name + ".hess", t.shape, {hess.begin() + t.offset, hess.begin() + t.offset + t.size}});
  }
  io::save_safetensors(kSafetensorsDir, "first.safetensors", all);
  const auto drawn = start_of(moons("second", {}));
  CHECK(drawn.first != f.mean);
  for (const std::string& file : {posterior, kSafetensorsDir + "/first.safetensors"}) {
    INFO(file);
    const auto mean_only = start_of(moons("second", {{"model.init", file}}));
    CHECK(mean_only.first == f.mean);
    CHECK(mean_only.second == drawn.second);
    const auto both = start_of(moons("second", {{"model.init", file}, {"model.init_hess", "true"}}));
    CHECK(both.first == f.mean);
    CHECK(both.second == hess);
    CHECK(start_of(moons("second", {{"model.init", file}, {"optim.name", "adamw"}})).first == f.mean);
  }
  // The last layer stays as drawn.
  const auto skipped = start_of(moons("second", {{"model.init", posterior}, {"model.init_skip", "layers.1"}, {"model.init_hess", "true"}}));
  for (const io::TensorInfo& t : f.tensors)
    for (auto i = static_cast<size_t>(t.offset); i < static_cast<size_t>(t.offset + t.size); ++i) {
      const bool last = t.name.rfind("layers.1", 0) == 0;
      CHECK(skipped.first[i] == (last ? drawn.first : f.mean)[i]);
      CHECK(skipped.second[i] == (last ? drawn.second : hess)[i]);
    }
  const auto fails = [&](Exit code, const std::vector<std::pair<std::string, std::string>>& more) {
    return refusal(code, [&] { start_of(moons("second", more)); });
  };
  CHECK(fails(Exit::config, {{"model.init", posterior}, {"model.init_hess", "true"}, {"optim.name", "adamw"}}).find("adamw is a point estimate") !=
        std::string::npos);
  CHECK(fails(Exit::config, {{"model.init_hess", "true"}}).find("need model.init=FILE") != std::string::npos);
  CHECK(fails(Exit::config, {{"model.init_skip", "head"}}).find("need model.init=FILE") != std::string::npos);
  CHECK(fails(Exit::config, {{"model.init", kSafetensorsDir + "/x.pt"}}).find("must be random") != std::string::npos);
  CHECK(fails(Exit::no_input, {{"model.init", kSafetensorsDir + "/x.safetensors"}}).find("x.safetensors") != std::string::npos);
  CHECK(fails(Exit::data, {{"model.init", posterior}, {"model.sizes", "7"}}).find("'layers.0.weight' is [6, 2], the model's is [7, 2]") != std::string::npos);
  io::Safetensors bare = all;
  bare.metadata.clear();  // then they are tensors like others
  io::save_safetensors(kSafetensorsDir, "bare.safetensors", bare);
  CHECK(fails(Exit::data, {{"model.init", kSafetensorsDir + "/bare.safetensors"}}).find(".hess' [") != std::string::npos);
  all.tensors.pop_back();
  io::save_safetensors(kSafetensorsDir, "less.safetensors", all);
  CHECK(fails(Exit::data, {{"model.init", kSafetensorsDir + "/less.safetensors"}, {"model.init_hess", "true"}}).find("no Hessian of 'layers.1.bias'") != std::string::npos);
  all.tensors[1].values[0] = -1;
  io::save_safetensors(kSafetensorsDir, "negative.safetensors", all);
  CHECK(fails(Exit::data, {{"model.init", kSafetensorsDir + "/negative.safetensors"}, {"model.init_skip", "layers.1"}, {"model.init_hess", "true"}})
            .find("hess + weight_decay is not positive at index 0") != std::string::npos);
}

TEST_CASE("a run that started from a file resumes without it, to the same bits") {
  std::filesystem::remove_all(kSafetensorsDir);
  REQUIRE(train_run(moons("first", {}), true).code == Exit::ok);
  std::filesystem::copy_file(kSafetensorsDir + "/first/final.h5", kSafetensorsDir + "/start.h5");
  const std::vector<std::pair<std::string, std::string>> start{{"model.init", kSafetensorsDir + "/start.h5"}, {"model.init_hess", "true"}};
  REQUIRE(train_run(moons("whole", start), true).code == Exit::ok);
  auto stopped = start;
  stopped.emplace_back("train.stop_after", "5");
  REQUIRE(train_run(moons("part", stopped), true).code == Exit::stopped);
  std::filesystem::remove(kSafetensorsDir + "/start.h5");
  REQUIRE(train_run(moons("part", start), true).code == Exit::ok);
  const io::PosteriorFile a = io::load_posterior(kSafetensorsDir + "/whole/final.h5"), b = io::load_posterior(kSafetensorsDir + "/part/final.h5");
  CHECK(a.mean == b.mean);
  CHECK(a.states == b.states);
  CHECK(io::read_file(kSafetensorsDir + "/whole/log.txt", 1 << 20).find("starting from " + kSafetensorsDir + "/start.h5: 4 of 4 tensors and their Hessian") != std::string::npos);
}
