"""Runs on 1, 2 and 4 ranks: the same bits, also where one number of ranks continues another's run; and what is refused."""
import json, os, re, signal, subprocess, time

import whole_jobs
from whole_jobs import VARION, environment, h5py

whole_jobs.needs("mpirun")
work = whole_jobs.workplace("ranks-test")
run = whole_jobs.on_ranks(work)


def digest(name):
    return whole_jobs.digest(f"{work}/runs/{name}")


base = ["data.global_batch=32", "train.steps=12", "eval.samples=2", "eval.every=4st", "eval.batch=16", "log.every=1st",
        "data.train_size=100", "data.test_size=40", "checkpoint.every=0st", "parallel.slots=4"]
models = {"mlp": ["data.name=glyphs", "model.sizes=24,16"], "lenet": ["data.name=glyphs", "model.name=lenet"]}
optimizers = {"ivon": ["optim.name=ivon", "optim.ess=1e4"], "ivon2": ["optim.name=ivon", "optim.ess=1e4", "optim.mc_samples=2"],
              "shared": ["optim.name=ivon", "optim.ess=1e4", "parallel.noise=shared"],
              "shared2": ["optim.name=ivon", "optim.ess=1e4", "parallel.noise=shared", "optim.mc_samples=2"],
              "adamw": ["optim.name=adamw", "optim.lr=0.001", "optim.grad_clip=0.5"], "sgd": ["optim.name=sgd", "optim.lr=0.01"]}
mlp = models["mlp"]
cases = [*(("mlp", optimizer) for optimizer in optimizers), ("lenet", "ivon"), ("lenet", "adamw")]
if whole_jobs.SANITIZED:
    cases = [("mlp", "ivon"), ("mlp", "shared2"), ("mlp", "adamw")]
hashes = {}
for model, optimizer in cases:
    case = f"{model}-{optimizer}"
    for ranks in (0, 1, 2, 4):
        run(ranks, "train", *base, *models[model], *optimizers[optimizer], f"run.name={case}-{ranks}")
    hashes[case] = digest(f"{case}-0")
    for ranks in (1, 2, 4):
        assert digest(f"{case}-{ranks}") == hashes[case], (case, ranks)
# The test can see a difference: other noise, other slots.
assert len(set(hashes.values())) == len(hashes), hashes
run(2, "train", *[w for w in base if "slots" not in w], *mlp, *optimizers["ivon"], "run.name=auto")
assert digest("auto") != hashes["mlp-ivon"]
assert "parallel.slots = 2" in re.sub(r" *= *", " = ", open(f"{work}/runs/auto/config.ini").read()).replace("slots =", "parallel.slots =")

# Stopped on n ranks, continued on m.
for before, after in ((1, 4), (4, 2), (2, 0), (4, 1)):
    name = f"moved-{before}-{after}"
    words = [*base, *mlp, *optimizers["ivon"], f"run.name={name}"]
    run(before, "train", *words, "train.stop_after=5", code=75)
    run(after, "train", *words)
    assert digest(name) == hashes["mlp-ivon"], name
# The number of slots is the run's: auto takes the checkpoint's, another number is refused.
words = [*[w for w in base if "slots" not in w], *mlp, *optimizers["ivon"]]
run(4, "train", *words, "run.name=kept", "train.stop_after=5", code=75)
run(1, "train", *words, "run.name=kept")
assert digest("kept") == hashes["mlp-ivon"]
assert "parallel.slots" in run(1, "train", *words, "run.name=kept", "parallel.slots=2", "train.steps=14", code=78)

# MPI's own sums: no promise of bits, nearly the same numbers, and 3 ranks may take part.
run(4, "train", *base, *mlp, *optimizers["ivon"], "run.name=fast", "parallel.mode=fast")
with h5py.File(f"{work}/runs/fast/final.h5") as a, h5py.File(f"{work}/runs/mlp-ivon-0/final.h5") as b:
    for n in b["params"]:
        assert abs(a["params"][n][()] - b["params"][n][()]).max() < 1e-4
run(3, "train", *base, *mlp, *optimizers["ivon"], "run.name=three", "parallel.mode=fast", "parallel.slots=3",
    "data.global_batch=33")

# Refused, in one line that rank 0 says.
for words, ranks, code, message in (
        (["parallel.slots=4"], 3, 78, "no multiple of the 3 ranks"),
        (["parallel.slots=3", "data.global_batch=33"], 3, 78, "power of two"),
        (["parallel.slots=8", "data.global_batch=12"], 2, 78, "no multiple of parallel.slots"),
        (["parallel.slots=0"], 2, 78, "parallel.slots = '0'"),
        (["parallel.shard_posterior=true"], 2, 78, "parallel.noise=shared"),
        (["parallel.shard_posterior=true", "parallel.noise=shared", "data.name=moons", "model.sizes=8"], 2, 78, "too few"),
        (["optim.lr=abc"], 2, 78, "optim.lr"),
        (["data.name=idx", "data.path=/nowhere"], 2, 66, "/nowhere")):
    out = run(ranks, "train", *base, *mlp, *words, "run.name=refused", code=code)
    assert message in out and out.count("varion: ") == 1, out
assert "one rank" in run(2, "evaluate", "runs/auto/final.h5", code=64)
assert "ok" in run(4, "verify", "ranks", "data.name=moons", "model.sizes=8", "data.global_batch=32")
assert "mpirun" in run(1, "verify", "ranks", code=64)
assert "allreduce/tree" in run(2, "bench", "allreduce", "--quick=yes", "--repeats=1")
if ", parallel" in run(1, "info"):  # HDF5, which the other case takes
    assert "files/shares" in run(4, "bench", "files/", "--quick=yes", "--repeats=1", f"--dir={work}")  # the last has nothing to write
assert not [name for name in os.listdir(work) if "varion-bench" in name]
assert "one rank" in run(2, "verify", "gradients", code=64)

# A number that is not finite: all ranks end with the step and the entry that is the first, and it is in no checkpoint.
out = run(2, "train", *base, *mlp, "optim.name=sgd", "optim.lr=1e9", "run.name=diverged", "checkpoint.every=1st", code=10)
assert re.search(r"varion: step \d+: .*the first in mean of layers\.\d\.\w+\[\d+\]", out) and out.count("varion: ") == 1, out
assert json.load(open(f"{work}/runs/diverged/status.json"))["state"] == "diverged"
for name in os.listdir(f"{work}/runs/diverged/checkpoints"):
    with h5py.File(f"{work}/runs/diverged/checkpoints/{name}") as f:
        f.visititems(lambda n, d: None if not isinstance(d, h5py.Dataset) or d.dtype.kind != "f" or (abs(d[()]) < 3e38).all() else 1 / 0)

# Ranks that disagree about the run: another seed on rank 1.
p = subprocess.run(["mpirun", "-n", "1", VARION, "train", *base, *mlp, "run.name=apart", ":",
                    "-n", "1", VARION, "train", *base, *mlp, "run.name=apart", "run.seed=2"],
                   cwd=work, capture_output=True, text=True, env=environment, timeout=120)
assert p.returncode == 78 and "rank 1 has another configuration" in p.stderr, (p.returncode, p.stderr)

# Ranks with different numbers of threads are told of, where there are threads; with the same number they are not.
threads = "OpenMP" in subprocess.run([VARION, "info"], capture_output=True, text=True).stdout
for other, told in ((2, threads), (1, False)):
    p = subprocess.run(["mpirun", "-n", "1", "-x", "OMP_NUM_THREADS=1", VARION, "train", *base, *mlp, f"run.name=threads{other}", ":",
                        "-n", "1", "-x", f"OMP_NUM_THREADS={other}", VARION, "train", *base, *mlp, f"run.name=threads{other}"],
                       cwd=work, capture_output=True, text=True, env=environment, timeout=120)
    assert p.returncode == 0 and ("different numbers of threads" in p.stdout) == told, (p.returncode, p.stdout, p.stderr)

# A signal to one rank stops all of them with a checkpoint; the run goes on on another number of ranks.
long = [*base, *mlp, *optimizers["ivon"], "train.steps=100000"]
p = subprocess.Popen(["mpirun", "-n", "2", VARION, "train", *long, "run.name=signal", "log.every=1st"], cwd=work,
                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
records = f"{work}/runs/signal/metrics.jsonl"
while p.poll() is None and not (os.path.exists(records) and os.path.getsize(records) > 0):
    time.sleep(0.01)
pids = whole_jobs.processes("run.name=signal")
assert len(pids) == 2, pids
os.kill(max(pids), signal.SIGUSR1)
p.communicate(timeout=60)
assert p.returncode == 75, p.returncode
status = json.load(open(f"{work}/runs/signal/status.json"))
assert status["state"] == "interrupted"
step = status["step"]
run(1, "train", *long, "run.name=signal", f"train.stop_after={step + 3}", code=75)
assert json.load(open(f"{work}/runs/signal/status.json"))["step"] == step + 3

# A rank that dies takes the others with it.
p = subprocess.Popen(["mpirun", "-n", "2", VARION, "train", *long, "run.name=killed"], cwd=work,
                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
records = f"{work}/runs/killed/metrics.jsonl"
while p.poll() is None and not (os.path.exists(records) and os.path.getsize(records) > 0):
    time.sleep(0.01)
pids = whole_jobs.processes("run.name=killed")
os.kill(max(pids), signal.SIGKILL)
begin = time.time()
p.communicate(timeout=60)
assert p.returncode not in (0, 75) and time.time() - begin < 10, (p.returncode, time.time() - begin)
print("ranks: all as it should be,", len(hashes), "cases on 0, 1, 2 and 4 ranks")
