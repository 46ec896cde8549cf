"""The program as a user meets it: exit codes, one-line errors, resume by signal, h5py, a small study."""
import json, os, re, resource, shutil, signal, struct, subprocess, sys, time

try:
    import h5py
except ImportError:
    print("[skipped] python3-h5py is not installed")
    sys.exit(77)

from command import VARION, in_folder

work, run = in_folder("program-test")
small = ["data.name=moons", "model.sizes=8", "train.steps=30", "eval.samples=2", "eval.every=0st"]

run(code=64)
assert "did you mean 'train'" in run("trian", code=64)
assert "did you mean 'optim.lr'" in run("train", "optim.lrr=1", code=78)
assert "command line" in run("train", "optim.lr=abc", code=78)
assert "known:" in run("train", "optim.name=adam", code=78)
assert "known:" in run("train", "model.name=nope", code=78)
assert "known:" in run("train", "data.name=nope", code=78)
run("train", "run.name=../x", code=78)
run("train", "optim.warmup=5", code=78)
run("train", "nofile.ini", code=66)
run("evaluate", "nofile.h5", code=66)
run("posterior", "info", VARION, code=65)
run("train", *small, "run.dir=/proc/nowhere", code=73)
out = run("train", *small, "run.name=div", "optim.name=sgd", "optim.lr=1e9", "model.sizes=32,32,32", code=10)
assert re.search(r"step \d+: loss .*non-finite entries in the optimizer's state, the first in mean of layers\.\d\.\w+\[\d+\]", out), out
run("study", "plan", "nofolder", code=66)
run("evaluate", "--bogus=1", code=64)

# The first steps compared between providers, and with a file.
tiny = ["data.name=moons", "model.sizes=8"]
assert "WRONG" not in run("verify", "backend", *tiny, "--steps=3", "--record=reference.h5")
out = run("verify", "backend", "--against=reference.h5")
assert "WRONG" not in out and "3 steps" in out and out.count("0.0e+00") == 4 * 5, out
# Networks of convolutions; AdamW, whose first steps go by the signs of gradients, is held to its first gradient.
alone = subprocess.run([VARION, "verify", "backend", *tiny], cwd=work, capture_output=True).returncode == 64  # no provider but portable
for network in () if alone else ("lenet",) if "VARION_SANITIZED" in os.environ else ("lenet", "resnet20"):
    for optimizer in ("adamw", "ivon"):
        out = run("verify", "backend", "data.name=glyphs", f"model.name={network}", f"optim.name={optimizer}", "data.global_batch=8", "--steps=2")
        assert "optim.lr / 1000" in out and "WRONG" not in out, (network, optimizer, out)
run("verify", "backend", "--against=nofile.h5", code=66)
run("verify", "backend", "--against=reference.h5", "--record=other.h5", code=64)
run("verify", "backend", "--against=reference.h5", "--steps=4", code=64)
run("verify", "backend", *tiny, "--steps=none", code=64)
run("verify", "backend", *tiny, "--provider=nope", code=78)
env = dict(os.environ, VARION_PROVIDER="portable")
assert subprocess.run([VARION, "verify", "backend", *tiny], env=env, cwd=work, capture_output=True).returncode == 64

# Resume after stopping, by option and by signal; the result is that of the unbroken run.
run("train", *small, "run.name=whole")
run("train", *small, "run.name=part", "train.stop_after=11", code=75)
run("train", *small, "run.name=part", "run.resume=must")
long = ["data.name=moons", "model.sizes=8", "train.steps=20000", "eval.samples=2", "eval.every=0st", "checkpoint.every=0st"]
p = subprocess.Popen([VARION, "train", *long, "run.name=signal"], cwd=work, stdout=subprocess.DEVNULL)
records = f"{work}/runs/signal/metrics.jsonl"
while p.poll() is None and not (os.path.exists(records) and os.path.getsize(records) > 0):
    time.sleep(0.005)
p.send_signal(signal.SIGUSR1)
assert p.wait(60) == 75
run("train", *long, "run.name=signal")
run("train", *long, "run.name=nosignal")
for one, two in (("whole", "part"), ("signal", "nosignal")):
    a, b = (h5py.File(f"{work}/runs/{n}/final.h5", "r") for n in (one, two))
    for group in ("params", "optim/hess", "optim/momentum"):
        assert list(a[group]) == list(b[group]) and len(a[group]) == 4
        for name in a[group]:
            assert a[group][name].shape == b[group][name].shape
            assert (a[group][name][()] == b[group][name][()]).all(), (group, name)
    assert a.attrs["format"] == "varion-posterior" and a.attrs["complete"] == "true"
    assert a["optim"].attrs["step"] == b["optim"].attrs["step"]
untimed = lambda n: [re.sub(r'"seconds_per_step":[^,]*,', "", line) for line in open(f"{work}/runs/{n}/metrics.jsonl")]
assert untimed("signal") == untimed("nosignal") and len(untimed("signal")) > 400
assert "finished before" in run("train", *long, "run.name=signal")
assert "seconds_per_step" in open(f"{work}/runs/signal/metrics.csv").readline()
assert not [f for _, _, files in os.walk(work) for f in files if f.endswith(".tmp")]

# The file in h5py: identity, tables with their scales, dimension labels.
f = h5py.File(f"{work}/runs/signal/final.h5", "r")
assert f.attrs["kind"] == "posterior" and len(f.attrs["uuid"]) == 36 and len(f.attrs["parent_uuid"]) == 36
assert f["history/train_loss"].shape == f["history/step"].shape == (400,)
assert f["history/train_loss"].dims[0][0] == f["history/step"]
assert list(f["layers/name"][()]) == [n.encode() for n in f["params"]]
assert f["layers/hess_median"].dims[0][0] == f["layers/name"]
assert [d.label for d in f["params/layers.0.weight"].dims] == ["out", "in"]
assert f["data"].attrs["position"] == str(20000 * 50) and "env_json" in f["model"].attrs

# Bad data files: one line with file, offset and reason; a header's lie costs no memory.
os.makedirs(work + "/lies")
for name, dims in (("train-images-idx3-ubyte", (60000, 200, 200)), ("train-labels-idx1-ubyte", (60000,))):
    with open(f"{work}/lies/{name}", "wb") as g:
        g.write(bytes([0, 0, 8, len(dims)]) + struct.pack(f">{len(dims)}I", *dims) + b"x" * 100)
before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
said = run("data", "check", "data.name=idx", "data.path=lies", code=65).strip().splitlines()
assert len(said) == 1 and "train-images-idx3-ubyte: at byte 116: " in said[0] and "100 of 2400000000 bytes" in said[0], said
assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < max(before, 500000)  # kB
assert "set data.path" in run("data", "check", "data.name=idx", code=78)
assert "No such file" in run("data", "check", "data.name=cifar10", "data.path=nowhere", code=66)
whole = open(f"{work}/runs/whole/final.h5", "rb").read()
with open(f"{work}/damaged.h5", "wb") as g:
    g.write(whole[:-1000])
assert "truncated" in run("evaluate", "damaged.h5", code=65)
shutil.copytree(f"{work}/runs/part", f"{work}/runs/broken")
for name in os.listdir(f"{work}/runs/broken/checkpoints"):
    os.truncate(f"{work}/runs/broken/checkpoints/{name}", 5000)
assert "no checkpoint" in run("train", *small, "run.name=broken", code=65)
assert "already holds a run" in run("train", *small, "run.name=part", "run.resume=never", code=73)
run("train", *small, "run.name=part", "run.resume=never", "run.overwrite=true")

# Presets, validation, the other verbs.
assert "did you mean 'mnist-lenet-ivon'" in run("config", "show", "model.preset=mnist-lenet-ivn", code=78)
for preset in re.search(r"^presets +(.*)$", run("info"), re.M).group(1).split(", "):
    shown = run("config", "show", f"model.preset={preset}")
    assert f"# preset {preset}:" in shown and "note:" not in shown, shown
run("train", *small, "run.name=best", "data.val_size=100", "eval.every=10st")
assert h5py.File(f"{work}/runs/best/best.h5", "r")["optim"].attrs["step"] == min(
    (row for row in map(json.loads, open(f"{work}/runs/best/metrics.jsonl")) if "val_at_mean/nll" in row), key=lambda row: row["val_at_mean/nll"])["step"]
assert "the same bits" in run("verify", "resume", *small, "optim.name=von")
run("verify", "resume", *small, "--steps=x", code=64)
run("verify", "nothing", code=64)

# A two-arm study: run, run again (skipped), report.
os.makedirs(work + "/study")
with open(work + "/study/study.ini", "w") as f:
    f.write("[study]\nquestion = test\nbase = base.ini\nseeds = 1-2\nreport = test/acc, test/nll\n[vary]\noptim.name = ivon, sgd\n")
with open(work + "/study/base.ini", "w") as f:
    f.write("[data]\nname = moons\n[model]\nsizes = 8\n[train]\nsteps = 20\n[eval]\nsamples = 2\n")
assert run("study", "run", "study").count("test/acc") == 4
assert run("study", "run", "study").count("done before") == 4
table = run("study", "report", "study")
assert "optim.name=ivon at the mean" in table and "optim.name=sgd" in table
csv = run("study", "report", "study", "--format=csv").splitlines()
assert csv[0] == "arm,n,test/acc,test/acc_se,test/nll,test/nll_se" and len(csv) == 4
assert run("study", "status", "study").count("done") == 4
assert run("-q", "train", *small, "run.name=quiet") == "" and os.path.exists(f"{work}/runs/quiet/DONE")
assert "layers.0.weight" in run("posterior", "layers", "runs/whole/final.h5")
run("evaluate", "runs/whole/final.h5", "--samples=3")

# A posterior as a safetensors file, read by hand; another run starts from it.
run("posterior", "export", "runs/whole/final.h5", "--out=whole.safetensors", "--states=hess")
raw = open(work + "/whole.safetensors", "rb").read()
size = int.from_bytes(raw[:8], "little")
header = json.loads(raw[8:8 + size])
assert header.pop("__metadata__")["varion_states"] == "hess"
with h5py.File(work + "/runs/whole/final.h5") as f:
    assert header.keys() == set(f["params"]) | {name + ".hess" for name in f["optim/hess"]}
    for name, place in header.items():
        stored = f["optim/hess"][name[:-5]] if name.endswith(".hess") else f["params"][name]
        begin, end = place["data_offsets"]
        assert place["dtype"] == "F32" and tuple(place["shape"]) == stored.shape and raw[8 + size + begin:8 + size + end] == stored[()].tobytes()
assert "starting from whole.safetensors" in run("train", *small, "run.name=warm", "model.init=whole.safetensors", "model.init_hess=true")
run("posterior", "export", "runs/whole/final.h5", code=64)
assert "it has hess, momentum" in run("posterior", "export", "runs/whole/final.h5", "--out=x", "--states=mode", code=64)
run("posterior", "export", "runs/whole/final.h5", "--out=nowhere/x", code=73)
run("posterior", "info", "runs/whole/final.h5", "--out=x", code=64)
run("train", *small, "run.name=cold", "model.init=nothing.safetensors", code=66)
run("config", "template")
show = run("config", "show", "optim.lr=3")
assert "lr = 3  # command line" in show

# The benchmarks run, and tables of unequal work are not compared.
out = run("bench", "--quick=yes", "--repeats=1", "--json=quick.json")
measured = json.load(open(work + "/quick.json"))
rows = {r["name"]: r for r in measured["results"]}
assert measured["schema"] == "varion-bench-1" and all(r["median_s"] > 0 for r in rows.values())
assert rows["optimizer/ivon/12400"]["bytes"] == 36 * 12400 and rows["optimizer/ivon/12400"]["launches"] == 1
# What stays from step to step is counted where it is allocated: vectors of parameters, and 24 bytes of the optimizer's report.
for optimizer, vectors in (("sgd", 3), ("adamw", 4), ("ivon", 5)):
    for name in (f"optimizer/{optimizer}/12400", f"step/mlp-1024-1024/128/{optimizer}"):
        assert 4 * vectors <= rows[name]["bytes_per_parameter"] < 4 * vectors + 0.01, (name, rows[name]["bytes_per_parameter"])
assert "B/param" in out and re.search(r"^step/mlp-1024-1024/128/ivon .* 20\.0 ", out, re.M), out
assert all(r["bytes_per_parameter"] == 0 for n, r in rows.items() if n.startswith(("ceiling/", "gemm/", "convolution/")))
assert all(r["bytes"] > 0 for n, r in rows.items() if n.endswith(("host_to_device", "device_to_host")))
assert "gemm/forward/8x30x6" in rows and "convolution/1x1/16to32@32/2/input" in rows
used = measured["machine"]["provider"].split()[0]
convolutions = [r for r in measured["results"] if r["name"] == "convolution/3x3/16to16@32/1/forward"]
assert convolutions[0]["provider"] == "portable" and {r["provider"] for r in convolutions} >= {"portable", used}
assert rows["gemm/forward/8x30x6"]["provider"] == used
assert "--quick" in run("bench", "compare", "quick.json", "quick.json", code=78)
measured["quick"] = False


def write(name, **changes):
    with open(f"{work}/{name}.json", "w") as f:
        json.dump({**measured, **changes}, f)


write("a")
write("other", machine={**measured["machine"], "precision": "tf32"})
write("unequal", results=[{**r, "items": r["items"] + 1} for r in measured["results"]])
write("disjoint", results=[])
write("moved", results=[{**r, "bytes": r["bytes"] + 8} for r in measured["results"]])
write("harder", results=[{**r, "flops": r["flops"] + 1} for r in measured["results"]])
write("vendor", results=[{**r, "provider": "another" if r["provider"] == convolutions[-1]["provider"] else r["provider"]} for r in measured["results"]])
write("ranks", machine={**measured["machine"], "ranks": "2"})
write("kernels", machine={**measured["machine"], "ranks": "2"}, results=[r for r in measured["results"] if r["name"].startswith("optimizer/")])
write("junk", schema="x")
assert "optimizer/ivon/12400" in run("bench", "compare", "a.json", "a.json")
assert "precision" in run("bench", "compare", "a.json", "other.json", code=78)
assert "not the same work" in run("bench", "compare", "a.json", "unequal.json", code=78)
assert "flops" in run("bench", "compare", "a.json", "harder.json", code=78)
assert "optimizer/ivon/12400" in run("bench", "compare", "a.json", "moved.json")
assert "unequal numbers of ranks: 1 and 2" in run("bench", "compare", "a.json", "ranks.json", code=78)
assert "ranks: A 1 | B 2" in run("bench", "compare", "a.json", "kernels.json")
# Every provider beside itself, and the preferred ones of two builds beside each other.
beside = lambda other: [line.split("  ")[-1] for line in run("bench", "compare", "a.json", other).splitlines()  # noqa: E731
                        if line.startswith(convolutions[0]["name"] + " ")]
assert beside("a.json") == [r["provider"] for r in convolutions]
assert beside("vendor.json") == [r["provider"] for r in convolutions[:-1]] + [convolutions[-1]["provider"] + " | another"]
assert "share no benchmark" in run("bench", "compare", "a.json", "disjoint.json", code=78)
run("bench", "compare", "a.json", "junk.json", code=65)
run("bench", "compare", "a.json", "missing.json", code=66)
run("bench", "nothing-so-named", "--quick=yes", code=64)
run("bench", "--precision=half", code=64)
print("program: all checks passed")
