"""checkpoint.parallel_io: every rank writes its part of a checkpoint. The bits of the run in which one rank writes; a rank that cannot
write, or dies while it writes, leaves the checkpoint before."""
import os, re, shutil, subprocess

from whole_jobs import *

needs("mpirun", "strace")
work = workplace("parallel-io-test")
# 65 MB of state: every rank has segments to write. Little of it is computed with.
job = ["-q", "train", "data.name=moons", "model.sizes=2300,2300", "data.global_batch=4", "data.train_size=16", "data.test_size=8", "optim.ess=1e6",
       "parallel.slots=4", "parallel.noise=shared", "train.steps=4", "eval.samples=1", "eval.every=0st", "log.every=1st", "run.watchdog=60"]


def run(ranks, name, *words, fault=()):
    """`fault`: words before the program of rank 1."""
    one = [VARION, *job, f"run.dir={work}/{name}", *words]
    launch = ["mpirun", "-n", "1", *one, ":", "-n", "1", *fault, *one, *([":", "-n", str(ranks - 2), *one] if ranks > 2 else [])] if ranks else one
    p = subprocess.run(launch, cwd=work, capture_output=True, text=True, env=environment, timeout=200)
    return p.returncode, p.stdout + p.stderr


def leftovers(name):
    return [n for n in os.listdir(f"{work}/{name}/checkpoints") if n.endswith(".tmp")]


def layers(name):
    with h5py.File(f"{work}/{name}/final.h5") as f:
        return {n: d[()].tolist() for n, d in f["layers"].items()}


code, said = run(0, "whole")
assert code == 0, said
expected = digest(f"{work}/whole")
rows, ALL = [], "checkpoint.parallel_io=true"
tried = failed = 0
for ranks in count((2,), (2, 4), (2, 4)):
    for sharded in ("true",) if SANITIZED else ("false", "true"):
        name = f"all-{ranks}-{sharded}"
        words = [ALL, f"parallel.shard_posterior={sharded}", "checkpoint.every=1st"]
        first = run(ranks, name, *words, "train.stop_after=2")
        after = run(0 if sharded == "true" else ranks, name, *(words if sharded == "false" else words[:1]))
        tried += 1
        good = first[0] == 75 and after[0] == 0 and digest(f"{work}/{name}") == expected and layers(name) == layers("whole") and not leftovers(name)
        failed += not good
        if not good:
            print(name, first, after)
rows.append(("all ranks write, others take it up", tried, failed))

assert run(2, "origin", ALL, "train.stop_after=2")[0] == 75
strace = lambda what: ["strace", "-f", "-o", "/dev/null", "-e", "trace=pwrite64,fsync", "-e", f"inject={what}"]
faults = [("pwrite64:error=ENOSPC:when=1+", 74), ("pwrite64:error=EIO:when=2", 74), ("fsync:error=EIO:when=1", 74), ("pwrite64:signal=KILL:when=2", 0)]
if SANITIZED:
    faults = faults[::3]
tried = failed = 0
for what, wanted in faults:
    shutil.rmtree(f"{work}/fault", ignore_errors=True)
    shutil.copytree(f"{work}/origin", f"{work}/fault")
    code, said = run(2, "fault", ALL, "train.stop_after=3", fault=strace(what))
    good = (code == wanted and said.count("varion: ") == 1 and re.search(r"varion: rank 1: cannot (write|sync)", said) and not leftovers("fault")
            if wanted else code not in (0, 75))
    good = good and sorted(n for n in os.listdir(f"{work}/fault/checkpoints") if n.endswith(".h5")) == ["step-0000000002.h5"]
    again = run(2, "fault", ALL, "run.resume=must")
    good = good and again[0] == 0 and digest(f"{work}/fault") == expected and not leftovers("fault")
    tried += 1
    failed += not good
    if not good:
        print(what, code, said[-500:], again)
rows.append(("one of two ranks cannot write, or dies", tried, failed))

# A state that is not finite is left out on all ranks alike, and nothing written before goes for it.
code, said = run(2, "wild", ALL, "optim.name=sgd", "optim.schedule=constant", "optim.lr=1e9", "model.sizes=64", "train.steps=8",
                 "checkpoint.every=1st", "train.stop_on_nonfinite=false")
kept = sorted(os.listdir(f"{work}/wild/checkpoints"))
rows.append(("a state that is not finite is left out", 1, int(code != 0 or "final.h5 was not written" not in said or not kept or kept[-1] == "step-0000000008.h5")))
table("checkpoints that all ranks write", rows)
