"""K3, K4: a run that goes from one checkpoint to the next is killed at every system call on its files, and gets every error
from every one. After it, the same command ends with the bits of the unbroken run: there was always a whole checkpoint."""
import errno, random, re, shutil, subprocess

from common import *

needs("strace")
work = workplace("saves-test")
job = ["data.name=moons", "model.sizes=8", "train.steps=9", "eval.samples=2", "eval.every=0st", "log.every=1st", "checkpoint.every=0st",
       "run.watchdog=off"]
CALLS = ["openat", "write", "pwrite64", "fsync", "close", "rename", "unlink", "ftruncate", "flock", "read"]
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

# Which calls of the main thread touch the run's directory: by path, or by a descriptor that was opened there.
folder = copy("traced")
assert train(folder, "train.stop_after=5", strace=["strace", "-o", f"{work}/log", "-e", "trace=" + ",".join(CALLS)]).returncode == 75
points, number, open_here = [], dict.fromkeys(CALLS, 0), set()
for line in open(f"{work}/log"):
    m = re.match(r"(\w+)\((.*)", line)
    if not m or m[1] not in number:
        continue
    call, rest = m[1], m[2]
    number[call] += 1
    fd = re.match(r"(\d+)", rest)
    here = folder in rest or (fd and fd[1] in open_here)
    if call == "openat" and here and (opened := re.search(r"= (\d+)$", line.strip())):
        open_here.add(opened[1])
    if here:
        points.append((call, number[call]))
    if call == "close" and fd:
        open_here.discard(fd[1])
assert len(points) > 60 and {"openat", "write", "fsync", "close", "rename"} <= {c for c, _ in points}, points

cases = [(call, at, "signal=KILL", "") for call, at in points]
cases += [(call, at, f"error={error}", more) for call, at in points for error in ERRORS for more in ("", "+")]
some = random.Random(3).sample(cases, min(count(80, len(cases), len(cases)), len(cases)))
rows = {}
for call, at, what, more in some:
    kind = "killed at a call (K3)" if "KILL" in what else f"{what[6:]} {'from a call on' if more else 'once'} (K4)"
    row = rows.setdefault(kind, [0, 0])
    folder = copy("faulted")
    # A failing write must not fail the console, which is no part of a save: -q is silent until an error.
    p = train(folder, "train.stop_after=5", strace=["strace", "-o", "/dev/null", "-e", f"inject={call}:{what}:when={at}{more}"])
    killed = "KILL" in what
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
    left = [n for _, _, files in __import__("os").walk(folder) for n in files if n.endswith(".tmp")]
    if left:
        problems.append(f"left {left}")
    row[0] += 1
    row[1] += bool(problems)
    if problems:
        print(call, at, what, more, problems)
table(f"faults at {len(points)} system calls of a save ({len(some)} of {len(cases)} cases)", [(k, *r) for k, r in sorted(rows.items())])
