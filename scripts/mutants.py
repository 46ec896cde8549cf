#!/usr/bin/env python3
"""E8, K7: mutants of the program, each of which the tests must turn red: a saved field that is not saved or not taken back, an
fsync that is missing, an error that is not looked at, a sum that goes by threads. Every mutant is one edit of one file that must match exactly once; the file
is compiled aside (nothing in the tree changes), programs are linked with it, and tests run until one fails.
  scripts/mutants.py [BUILD FOLDER, default build/separate] [NAME ...]      ends with 1 where a mutant survives
  The folder's files are compiled one by one (CMAKE_UNITY_BUILD=OFF); build/separate is made so.
  scripts/mutants.py --check      only whether every edit still fits"""
import os, re, shlex, shutil, subprocess, sys

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
build = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else f"{root}/build/separate"
wanted = sys.argv[2:]
work = f"{root}/build/mutants"
CHECKPOINT, FILE, DECODE, COMMIT, RUN, RESUME = ("src/train/checkpoint.cpp", "io/posterior_file.cpp", "io/posterior_decode.cpp",
                                                "io/commit_file.cpp", "src/train/run.cpp", "src/train/resume.cpp")
SAFE, START, SPIKES = "io/safetensors.cpp", "src/train/start_values.cpp", "src/train/spikes.cpp"
COPY = "    Kokkos::deep_copy(s.data, Kokkos::View<const float*"


def forget(state):
    return (CHECKPOINT, COPY, f'    if (s.name != "{state}") Kokkos::deep_copy(s.data, Kokkos::View<const float*', ["restart"])


MUTANTS = {  # name: file, what stands there once, what is put there, tests
    # E8: not taken back
    **{f"{state} is not loaded": forget(state) for state in ("mean", "hess", "momentum", "exp_avg", "exp_avg_sq")},
    "step is one less": (CHECKPOINT, "  at.samples = count_of(", "  at.step -= 1;\n  at.samples = count_of(", ["restart"]),
    "samples_seen is not loaded": (CHECKPOINT, 'at.samples = count_of(f, name, "samples_seen");', "at.samples = 0;", ["restart"]),
    "record_bytes is not loaded": (CHECKPOINT, 'at.records.bytes = count_of(f, name, "record_bytes");', "at.records.bytes = 0;", ["restart"]),
    "record_sha256 is not loaded": (CHECKPOINT, 'at.records.sha256 = text_of("record_sha256");', "", ["restart"]),
    "nonpositive is not loaded": (CHECKPOINT, 'at.nonpositive = static_cast<double>(count_of(f, name, "nonpositive"));', "", ["restart"]),
    "best is not loaded": (CHECKPOINT, 'if (text_of("best") != "none") at.best = text_of("best");', "", ["restart"]),
    "the parent is not noted": (RUN, "at_.parent_uuid = uuid->second;", "{}", ["restart"]),
    "another seed is taken": (RESUME, 'key == "run.seed" || ', "", ["restart"]),
    "other data are taken": (CHECKPOINT, "digest != f.data.end() && digest->second == std::to_string(data.digest)", "true", ["foreign.py"]),
    "slots are not the checkpoint's": (RESUME, 'before.has("parallel.slots") ? before.text("parallel.slots") : "1"', '"1"', ["ranks.py"]),
    # E8: not saved
    "hess is not saved": ("src/train/snapshot.cpp", "    if (end > begin)\n      std::memcpy(", "    if (end > begin && p.vector != 1)\n      std::memcpy(", ["restart"]),
    "the state's hash is not saved": ("src/train/checkpoint_writer.cpp", '  order_.file.train["state_hash"] = hash;', "", ["test_restart overlap"]),
    "the state's hash is not loaded": (CHECKPOINT, "hash != f.train.end()) at.state_hash = hash->second;", "hash != f.train.end()) {}", ["test_restart overlap"]),
    # E8: what a run remembers of its spikes, each field by itself and all of it in a checkpoint
    "the spike window is not saved": (SPIKES, 'if (!window.empty()) train["spike_window"] = window;', "", ["test_unit spikes"]),
    "the window's losses are not loaded": (SPIKES, "    m.losses.push_back(*loss);", "", ["test_unit spikes"]),
    "the window's norms are not loaded": (SPIKES, "    m.norms.push_back(*norm);", "", ["test_unit spikes"]),
    "the spikes are not saved": (SPIKES, 'if (!spikes.empty()) train["spikes"] = spikes;', "", ["test_unit spikes"]),
    "the spikes are not loaded": (SPIKES, 'm.spikes[count(line.substr(0, blank), "spikes")] = line.substr(blank + 1);',
                                  'count(line.substr(0, blank), "spikes");', ["test_unit spikes"]),
    "the count of skipped steps is not saved": (SPIKES, 'if (m.skipped > 0) train["skipped"] = std::to_string(m.skipped);', "", ["test_unit spikes"]),
    "the count of skipped steps is not loaded": (SPIKES, '!skipped.empty()) m.skipped = count(skipped, "skipped");', '!skipped.empty()) count(skipped, "skipped");',
                                                 ["test_unit spikes"]),
    "a checkpoint holds no spikes": (CHECKPOINT, "  write_spikes(at.spikes, f.train);", "", ["values.py"]),
    "a checkpoint's spikes are not taken back": (CHECKPOINT, "  at.spikes = read_spikes(f.train, name);", "", ["values.py"]),
    "the optimizer counts skipped steps after a resume": (RUN, "    trainer_.skipped(at_.spikes.skipped);", "", ["values.py"]),
    # E8: what a posterior file says of its text and its frozen parameters
    "the tokenizer is not saved": (CHECKPOINT, 'if (data.tokenizer) f.data["tokenizer"] = data.tokenizer->describe();', "", ["language.py"]),
    "the tokenizer is not loaded": (CHECKPOINT, 'tokenizer = make_tokenizer(f.data["tokenizer"]);', 'tokenizer = make_tokenizer("bytes");', ["language.py"]),
    "another text has an alphabet of its own": ("src/data/tokenizer_chars.cpp", "if (!vocabulary.empty()) {", "if (false) {", ["language.py"]),
    "the vocabulary's size is not saved": (CHECKPOINT, 'f.data["vocabulary"] = std::to_string(data.vocabulary);', "{}", ["language.py"]),
    "the frozen parameters' digest is not saved": (RUN, 'order.file.model["frozen_digest"] = frozen_digest_;', "{}", ["language.py"]),
    # What somebody made up: HDF5 reads it in a copy of the process first
    "HDF5's crash is not looked at": (FILE, "require(trial.crash.empty(), ", "require(true, ", ["test_restart made_up"]),
    "an attribute may hold many values": (DECODE, "npoints(space) == 1", "npoints(space) >= 0", ["foreign.py"]),
    # Copied while the next pass runs: the update waits for it
    "the update does not wait for the copy": (RUN, "      writer_.release();", "      {}", ["test_restart overlap"]),
    "the configuration is not saved": (CHECKPOINT, '{"config_ini", config.ini(false)}', '{"config_ini", ""}', ["restart"]),
    "the data's digest is not saved": (CHECKPOINT, '{"digest", std::to_string(data.digest)}', '{"digest", ""}', ["restart"]),
    "history is not saved": (RUN, "for (const std::string& k : keys) order.file.history[k] = folder_.column(k, keys);", "(void)keys;", ["files.py"]),
    "the optimizer's numbers are not saved": (CHECKPOINT, "for (const auto& [k, v] : optimizer.attributes()) f.optim[k] = v;", "", ["restart"]),
    # Damage
    "the trailer is not compared": ("io/segments.cpp", "reached != t.payload || trailer_of(segments) != end", "reached != t.payload", ["restart"]),
    "values are not checked": (DECODE, "require(std::isfinite(out[i]),", "require(true,", ["restart"]),
    "the oldest checkpoint is taken": (FILE, "load_own(path, Depth::attributes).step > best.file.step", "load_own(path, Depth::attributes).step < best.file.step", ["files.py"]),
    "the name decides which checkpoint is taken": (FILE, "load_own(path, Depth::attributes).step > best.file.step", "false", ["files.py"]),
    "a damaged checkpoint takes a place": (FILE, "(last == ~std::uint64_t(0) || name <= checkpoint_name(last))", "(last == last)", ["careless.py"]),
    "what is overwritten goes first": (RUN, "      start = take_start_values(config_, layout_, &optimizer_, comm_);\n",
        "      if (resume == \"never\") io::remove_file(dir + \"/final.h5\");\n      start = take_start_values(config_, layout_, &optimizer_, comm_);\n", ["careless.py"]),
    # K7
    "no fsync of a file": (COMMIT, 'if (::fsync(fd_) != 0) give_up(Exit::io, "sync", errno);', "", ["crash_states.py"]),
    "no fsync of a folder": (COMMIT, "folder.get() >= 0 && ::fsync(folder.get()) == 0", "folder.get() >= 0", ["crash_states.py"]),
    "no fsync of the records": (RUN, "folder_.sync();", "", ["crash_states.py"]),
    "a close is not checked": (COMMIT, 'if (::close(std::exchange(fd_, -1)) != 0) give_up(Exit::io, "close", errno);', "::close(std::exchange(fd_, -1));", ["crash_states.py"]),
    "no rename": (COMMIT, "::rename(part_.c_str(), (dir_ + \"/\" + name_).c_str()) != 0", "false", ["restart"]),
    "the last checkpoint goes before the new one comes": ("src/train/checkpoint_writer.cpp", "  io::write_file(order_.dir, order_.name, io::plan",
        "  order_.after();\n  io::write_file(order_.dir, order_.name, io::plan", ["crash_states.py"]),
    "a share that failed is not looked at": ("src/train/checkpoint_writer.cpp", "const int code = std::stoi(said); code != 0", "const int code = std::stoi(said); code < 0",
        ["parallel_io.py"]),
    # Others
    "the gradient's norm goes by threads": ("src/train/square_sum.cpp", "        for (const double p : part) sum += p;",
        "        const bool back = Host().concurrency() > 1;\n        for (int k = 0; k < lanes; ++k) sum += part[back ? lanes - 1 - k : k];", ["grid.py"]),
    "another network is taken": (RESUME, 'section == "model" || ', "", ["test_restart keys"]),
    "numbers lie in other files": (DECODE, "H5Pget_external_count(how) == 0 && ", "", ["foreign.py"]),
    "a failed read is damage": ("io/byte_reader.cpp", "require(error != Z_ERRNO, Exit::io,", "require(true, Exit::io,", ["rank_io.py"]),
    "tables read numbers in the system's language": ("io/table.cpp", "const auto r = std::from_chars(first, content.data() + stop, v);",
        "struct { std::errc ec{}; char* ptr; } r; v = std::strtod(std::string(first, content.data() + stop).c_str(), &r.ptr); "
        "r.ptr = const_cast<char*>(content.data() + stop);", ["test_unit readers"]),
    "a folder is a configuration": ("src/core/options.cpp", "require(in.eof(), Exit::no_input,", "require(true, Exit::no_input,", ["test_unit options"]),
    "a slow disk is not told of": (RUN, "took > 1)", "took > 1e9)", ["permissions.py"]),
    # Texts and frozen parameters
    "a token is its own target": ("src/train/windows.cpp", "std::copy(window_.begin() + 1, window_.end(), wanted + at",
                                  "std::copy(window_.begin(), window_.end() - 1, wanted + at", ["test_unit text_model"]),
    "draws' likelihoods are summed": ("src/posterior/metrics.cpp", "std::log(sum_ / count_)", "std::log(sum_)", ["test_unit text_model"]),
    "a point estimate's slots are clipped each": ("src/train/network.cpp", "clips_mean_(clip_ > 0 && optimizer_->collects() == 0)", "clips_mean_(false)",
                                                 ["settings.py"]),
    "decoding forgets where it is": ("src/train/text_sampler.cpp", "  ++replay.position;", "", ["test_unit text_model"]),
    "frozen parameters are not looked at": (CHECKPOINT, "layout.frozen_size() == 0 || (frozen", "true || (frozen", ["language.py"]),
    "a resumed run has other frozen parameters": (RUN, "      take_start_values(config_, layout_, nullptr, comm_);", "", ["language.py"]),
    # Tensors from files, tokens from images
    "a gap between tensors is read": (SAFE, "e.begin == reached,", "e.begin >= reached,", ["test_unit safetensors"]),
    "tensors may end behind the file": (SAFE, "require(e.end <= bytes,", "require(true,", ["test_unit safetensors"]),
    "a shape wraps": (SAFE, "n == 0 || e.count <= (std::uint64_t(1) << 60) / n,", "true,", ["test_unit safetensors"]),
    "a name stands twice in a header": (SAFE, "names.back().insert(value.get<std::string>()).second,", "true,", ["test_unit safetensors"]),
    "half numbers are doubled": (SAFE, "exponent - 25", "exponent - 24", ["test_unit safetensors"]),
    "GPT-2's weights are not turned": (START, "if (ends_with(t.name, end)) transpose(t);", "(void)end;", ["test_unit safetensors"]),
    "a shape is not compared": (START, "same = shape[static_cast<size_t>(k)] == p.shape[k];", "same = true;", ["test_unit safetensors"]),
    "the Hessian is not taken": (START, "put(hess, trained, optimizer->own_begin(), *hess_to);", "", ["test_unit safetensors"]),
    "the first step does not know the start": (RUN, "start = take_start_values(config_, layout_, &optimizer_, comm_);", "", ["test_unit safetensors"]),
    "patches' gradients are a token late": ("src/ops/patch_tokens.cpp", "(row / patches * length + c + row % patches)",
                                            "(row / patches * length + row % patches)", ["test_kernels tokens"]),
    "other tokens keep old gradients": ("src/ops/first_token.cpp", "if (!out.add) Kokkos::deep_copy(exec, dx, Real(0));", "", ["test_kernels tokens"]),
    "the mean's gradient is not shared out": ("src/ops/mean_token.cpp", "const Real v = share * dy(", "const Real v = dy(", ["test_kernels tokens"]),
    "patches see only those before": ("models/vit.cpp", "s.width, s.heads, length};", "s.width, s.heads, length, true};", ["test_gradients models"]),
    "an encoder sees only tokens before": ("models/encoder.cpp", "sizes.vocabulary + 1, false)", "sizes.vocabulary + 1, true)", ["test_unit encoder"]),
    "every hidden token is covered": ("src/train/masks.cpp", "!among(w.w[1], 0.9)", "false", ["test_unit encoder"]),
    "open tokens count among the hidden": ("src/train/evaluator.cpp", "if (masks_.hides(key, t)) out", "out", ["test_unit encoder"]),
    "a passage reaches past its class": ("src/train/windows.cpp", "begins_[i] + 1)", "begins_[i] + 2)", ["test_unit encoder"]),
    "time is read off the wall": (RUN, "using Clock = std::chrono::steady_clock;", "using Clock = std::chrono::system_clock;", ["clocks.py"]),
}
if sys.argv[1:] == ["--check"]:
    counts = {name: open(f"{root}/{source}").read().count(old) for name, (source, old, new, tests) in MUTANTS.items()}
    unfit = [f"{name}: what it replaces stands {n} times in {MUTANTS[name][0]}: renew the mutant" for name, n in counts.items() if n != 1]
    print("\n".join(unfit) or f"mutants: {len(counts)} fit")
    sys.exit(1 if unfit else 0)
PLACES = {"language.py": "tests/studies", "careless.py": "tests/studies", "settings.py": "tests/studies", "ranks.py": "tests/mpi", "parallel_io.py": "tests/mpi", "grid.py": "tests/mpi", "foreign.py": "tests/restart", "files.py": "tests/restart"}  # others: tests/faults
INJECTED = {"values.py"}  # which put faults in


def commands(target):
    out = subprocess.run(["ninja", "-C", build, "-t", "commands", target], capture_output=True, text=True)
    if out.returncode != 0:
        sys.exit(f"{build} is no build folder: scripts/build.sh first")
    return out.stdout.splitlines()


def run(words, where, **more):
    env = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=f"{root}/tests/support", VARION_SOURCE_DIR=root, OMPI_ALLOW_RUN_AS_ROOT="1",
               OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_hwloc_base_binding_policy="none", **more)
    # A mutant may believe any number: it gets so much memory and time. Being ended by them is a red test too.
    limit = ["prlimit", f"--as={8 << 30}", "timeout", "900"]
    return subprocess.run([*limit, *words], cwd=where, env=env, capture_output=True, text=True)


def made(name, source, old, new, programs):
    """The program's folder with the mutant compiled and linked; empty: the edit does not fit, or does not compile."""
    text = open(f"{root}/{source}").read()
    if text.count(old) != 1:
        print(f"  {name}: what it replaces stands {text.count(old)} times in {source}: renew the mutant")
        return ""
    folder = f"{work}/{re.sub('[^a-z0-9_]+', '-', name)}"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with open(f"{folder}/{os.path.basename(source)}", "w") as f:
        f.write(text.replace(old, new))
    objects = {}  # by what they stand for: varion_inject compiles some sources by itself
    for program in programs:
        lines = commands(program)
        link = [line for line in lines if f" -o {program} " in line][-1]
        compile = [shlex.split(line) for line in lines if line.endswith(f"-c {root}/{source}")]
        compile = [words for words in compile if words[words.index("-o") + 1] in link.split()]
        if len(compile) != 1:
            sys.exit(f"{source} is compiled by {len(compile)} commands of {program}")
        words = compile[0]
        thing = words[words.index("-o") + 1]
        if thing not in objects:
            objects[thing] = f"{folder}/mutant-{len(objects)}.o"
            words = [w for w in words if w not in ("-MD",)]
            for flag in ("-MT", "-MF"):
                at = words.index(flag)
                del words[at:at + 2]
            words[words.index("-o") + 1] = objects[thing]
            words[-1] = f"{folder}/{os.path.basename(source)}"
            p = subprocess.run(words + ["-w"], cwd=build, capture_output=True, text=True)
            if p.returncode != 0:
                print(f"  {name}: does not compile:\n{p.stderr[-1500:]}")
                return ""
        link = link.replace(f" {thing} ", f" {objects[thing]} ").replace(f" -o {program} ", f" -o {folder}/{program} ")
        p = subprocess.run(link, shell=True, cwd=build, capture_output=True, text=True)
        if p.returncode != 0:
            print(f"  {name}: does not link:\n{p.stderr[-1500:]}")
            return ""
    return folder


def red(tests, folder):
    """The test that fails, or nothing."""
    for test in tests:
        if test == "restart":
            for file in ("posterior_file", "exact"):
                p = run([f"{folder}/test_restart", "-a", "-#", f"[#{file}]"], folder)
                if p.returncode != 0:
                    return file
        elif test.startswith("test_"):
            program, file = test.split()
            if run([f"{folder}/{program}", "-a", "-#", f"[#{file}]"], folder).returncode != 0:
                return file
        else:
            p = run(["/usr/bin/python3", f"{root}/{PLACES.get(test, 'tests/faults')}/{test}"], folder, VARION_BIN=f"{folder}/varion",
                    VARION_INJECT_BIN=f"{folder}/varion_inject")
            if p.returncode == 77:
                print(f"  {test} was skipped: {p.stdout.strip()}")
            elif p.returncode != 0:
                return test
    return ""


def programs(tests):
    out = ["test_restart" if t == "restart" else t.split()[0] if t.startswith("test_") else "varion" for t in tests]
    return out + ["varion_inject"] if INJECTED & set(tests) else out


if build == f"{root}/build/separate":
    subprocess.run([f"{root}/scripts/setup.sh", "openmp"], check=True)
    subprocess.run(["cmake", "--preset", "openmp", "-B", build, "-DCMAKE_UNITY_BUILD=OFF"], cwd=root, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", build, "--", "--quiet"], cwd=root, check=True)
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work)
# The tests are green without a mutant, else their red would say nothing.
for tests in sorted({tuple(m[3]) for name, m in MUTANTS.items() if not wanted or name in wanted}):
    folder = f"{work}/none"
    os.makedirs(folder, exist_ok=True)
    for program in programs(list(tests)):
        shutil.copy(f"{build}/{program}", folder)
    if failed := red(list(tests), folder):
        sys.exit(f"{failed} fails without a mutant")
survived = 0
for name, (source, old, new, tests) in MUTANTS.items():
    if wanted and name not in wanted:
        continue
    folder = made(name, source, old, new, programs(tests))
    by = red(tests, folder) if folder else ""
    survived += not by
    print(f"  {name:52} {'red: ' + by if by else 'SURVIVES' if folder else 'NOT MADE'}", flush=True)
    if folder:
        shutil.rmtree(folder)
print(f"mutants (E8, K7): {survived} of {len(wanted) or len(MUTANTS)} not seen")
sys.exit(1 if survived else 0)
