"""K3, K4: a run that goes from one checkpoint to the next is killed at every system call on its files, and gets every error
from every one. After it, the same command ends with the bits of the unbroken run: there was always a whole checkpoint."""
import os, random, re, shutil, subprocess, sys

from whole_jobs import *

needs("strace", "unshare")
# In a process namespace of its own the program always has the same number, and so its temporary files the same names.
ALONE = ["unshare", "-p" if os.geteuid() == 0 else "-rp", "--fork", "--kill-child"]
if subprocess.run([*ALONE, "true"], capture_output=True).returncode != 0:
    print("[skipped] no right to a process namespace")
    sys.exit(77)
work = workplace("saves-test")
job = ["data.name=moons", "model.sizes=8", "train.steps=9", "eval.samples=2", "eval.every=0st", "log.every=1st", "checkpoint.every=0st",
       "run.watchdog=off"]
CALLS = ["openat", "write", "pwrite64", "pread64", "fsync", "close", "rename", "unlink", "ftruncate", "flock", "read"]
ERRORS = ["ENOSPC", "EIO", "EDQUOT", "EINTR", "EROFS", "EACCES", "ENOENT", "ESTALE"]


def train(folder, *words, strace=()):
    return subprocess.run([*strace, VARION, "-q", "train", *job, f"run.dir={folder}", *words], cwd=work, capture_output=True, text=True,
                          env=environment, timeout=60)


def copy(name):
    shutil.rmtree(f"{work}/{name}", ignore_errors=True)
    shutil.copytree(f"{work}/origin", f"{work}/{name}")
    return f"{work}/{name}"


assert train(f"{work}/whole").returncode == 0
expected = digest(f"{work}/whole")
assert train(f"{work}/origin", "train.stop_after=4").returncode == 75

# The paths that the run touches, then its calls on them, counted by thread as strace does: the main one and the one that saves.
folder = copy("faulted")
log = f"{work}/log"
TRACE = [*ALONE, "strace", "-f", "-o", log, "-e", "trace=" + ",".join(CALLS)]
assert train(folder, "train.stop_after=5", strace=TRACE).returncode == 75
paths = sorted(set(re.findall(rf'"({re.escape(folder)}[^"]*)"', open(log).read())))
assert any("step-0000000005" in p and p.endswith(".tmp") for p in paths), paths
ON_PATHS = [word for path in paths for word in ("-P", path)]
folder = copy("faulted")
assert train(folder, "train.stop_after=5", strace=[*TRACE, *ON_PATHS]).returncode == 75
points, numbers, savers = set(), {}, set()
for line in open(log):
    m = re.match(r"(\d+) +(\w+)\((.*)", line)
    if not m or m[2] not in CALLS:
        continue
    number = numbers.setdefault(m[1], dict.fromkeys(CALLS, 0))
    number[m[2]] += 1
    points.add((m[2], number[m[2]]))
    if "step-0000000005" in m[3]:
        savers.add(m[1])
points = sorted(points)
assert len(numbers) == 2 and len(savers) == 1 and list(numbers)[0] not in savers, (list(numbers), savers)
needed = {"openat", "write", "pwrite64", "pread64", "fsync", "close", "rename"}
assert len(points) > 40 and needed <= {c for c, _ in points}, points

cases = [(call, at, "signal=KILL", "") for call, at in points]
cases += [(call, at, f"error={error}", more) for call, at in points for error in ERRORS for more in ("", "+")]
some = random.Random(3).sample(cases, min(count(80, len(cases), len(cases)), len(cases)))
rows, hits = {}, {}
for call, at, what, more in some:
    kind = "killed at a call (K3)" if "KILL" in what else f"{what[6:]} {'from a call on' if more else 'once'} (K4)"
    row = rows.setdefault(kind, [0, 0])
    folder = copy("faulted")
    # A failing write must not fail the console, which is no part of a save: -q is silent until an error.
    p = train(folder, "train.stop_after=5", strace=[*ALONE, "strace", "-f", "-o", log, *ON_PATHS, "-e", f"inject={call}:{what}:when={at}{more}"])
    killed = "KILL" in what
    hits[call] = hits.get(call, 0) + ("INJECTED" in open(log).read() or killed)
    problems = []
    if killed and p.returncode not in (-9, 137):
        problems.append(f"ended with {p.returncode} instead of a kill")
    if not killed and p.returncode not in (0, 64, 65, 66, 73, 74, 75):
        problems.append(f"ended with {p.returncode}: {p.stderr}")
    if not killed and p.returncode not in (0, 75) and p.stderr.count("varion: ") != 1 and not (call == "write" and more):
        problems.append(f"said {p.stderr!r}")
    end = train(folder)
    if end.returncode != 0:
        problems.append(f"does not go on: {end.returncode} {end.stderr}")
    elif digest(folder) != expected:
        problems.append("other bits at the end")
    left = [n for _, _, files in os.walk(folder) for n in files if n.endswith(".tmp")]
    if left:
        problems.append(f"left {left}")
    row[0] += 1
    row[1] += bool(problems)
    if problems:
        print(call, at, what, more, problems)
assert sum(hits.values()) >= len(some) * 0.9, hits  # the faults were met
table(f"faults at {len(points)} system calls of a save ({len(some)} of {len(cases)} cases)", [(k, *r) for k, r in sorted(rows.items())])
