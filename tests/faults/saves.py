"""K3, K4: a run that goes from one checkpoint to the next is killed at every system call on its files, and gets every error
from every one. An error leaves no temporary file. After it, the run goes on from the newest checkpoint, that of before or of then, and
ends with the bits of the unbroken one."""
import os, random, re, shutil, subprocess, sys

from whole_jobs import *

needs("strace", "unshare")
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


class Kind:
    """A run that goes on from one stop to the next and saves on its way: the calls on its files."""

    def __init__(self, name, saved, more, begin, end):
        self.name, self.words, self.stop, self.origin = name, more, [f"train.stop_after={end}"] if end else [], f"{work}/origin-{name.split()[-1]}"
        assert train(f"{self.origin}-whole", *more).returncode == 0
        self.expected = digest(f"{self.origin}-whole")
        os.makedirs(self.origin)
        if begin:
            assert train(self.origin, *more, f"train.stop_after={begin}").returncode == 75
        self.begin, self.end = begin, end
        assert newest_checkpoint(self.origin) == begin
        # The paths that the run touches, then its calls on them, counted by thread as strace does.
        self.on_paths = []
        text = self.traced()
        paths = sorted(set(re.findall(rf'"({re.escape(folder)}[^"]*)"', text)))
        assert any(saved in p and p.endswith(".tmp") for p in paths), paths
        self.on_paths = [word for path in paths for word in ("-P", path)]
        points, numbers, savers = set(), {}, set()
        for line in self.traced().split("\n"):
            m = re.match(r"(\d+) +(\w+)\((.*)", line)
            if not m or m[2] not in CALLS:
                continue
            number = numbers.setdefault(m[1], dict.fromkeys(CALLS, 0))
            number[m[2]] += 1
            points.add((m[2], number[m[2]]))
            if saved in m[3]:
                savers.add(m[1])
        self.points = sorted(points)
        needed = {"openat", "write", "pwrite64", "pread64", "fsync", "close", "rename"}
        assert len(points) > 40 and needed <= {c for c, _ in points}, points
        # Files are written by a thread of their own, beside training.
        assert len(savers) == 1 and list(numbers)[0] not in savers, (name, list(numbers), savers)

    def fresh(self):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.origin, folder)

    def traced(self):
        self.fresh()
        p = self.goes_on("-e", "trace=" + ",".join(CALLS))
        assert p.returncode == (75 if self.stop else 0), p.stderr
        return open(log).read()

    def goes_on(self, *how):
        # In a process namespace of its own the program always has the same number, and so its temporary files the same names.
        return train(folder, *self.words, *self.stop, strace=[*ALONE, "strace", "-f", "-o", log, *self.on_paths, *how])


folder, log = f"{work}/faulted", f"{work}/log"
kinds = [Kind("a checkpoint", "step-0000000005", [], 4, 5), Kind("the first", "step-0000000001", [], 0, 1),
         Kind("the best, the oldest removed", "best.h5", ["data.val_size=40", "eval.every=1st", "checkpoint.keep=1"], 4, 5),
         Kind("the final", "final.h5", [], 8, 0)]
cases = [(kind, call, at, "signal=KILL", "") for kind in kinds for call, at in kind.points]
cases += [(kinds[0], call, at, f"error={error}", more) for call, at in kinds[0].points for error in ERRORS for more in ("", "+")]
some = random.Random(3).sample(cases, min(count(80, len(cases), len(cases)), len(cases)))
rows, hits = {}, {}
for kind, call, at, what, more in some:
    title = f"killed: {kind.name} (K3)" if "KILL" in what else f"{what[6:]} {'from a call on' if more else 'once'} (K4)"
    row = rows.setdefault(title, [0, 0])
    kind.fresh()
    # A failing write must not fail the console, which is no part of a save: -q is silent until an error.
    p = kind.goes_on("-e", f"inject={call}:{what}:when={at}{more}")
    killed = "KILL" in what
    hits[call] = hits.get(call, 0) + ("INJECTED" in open(log).read() or killed)
    problems = []
    if killed and p.returncode not in (-9, 137):
        problems.append(f"ended with {p.returncode} instead of a kill")
    if not killed and p.returncode not in (0, 64, 65, 66, 73, 74, 75):
        problems.append(f"ended with {p.returncode}: {p.stderr}")
    if not killed and p.returncode not in (0, 75) and p.stderr.count("varion: ") != 1 and not (call == "write" and more):
        problems.append(f"said {p.stderr!r}")
    if not killed and p.returncode in (0, 75) and kind.begin and taken_up(folder) != [kind.begin]:
        problems.append(f"began at {taken_up(folder)}, not at {kind.begin}")
    if not killed and leftovers(folder):
        problems.append(f"an error left {leftovers(folder)}")
    # What stood there before the fault, and what came while it lasted; a stop promises its own.
    newest = max(kind.begin, newest_checkpoint(folder), kind.end if p.returncode == 75 else 0)
    wrong = went_on(folder, newest, lambda *words: train(folder, *kind.words, *words))
    problems += wrong
    if not wrong and digest(folder) != kind.expected:
        problems.append("other bits at the end")
    if leftovers(folder):
        problems.append(f"left {leftovers(folder)}")
    row[0] += 1
    row[1] += bool(problems)
    if problems:
        print(kind.name, call, at, what, more, problems)
assert sum(hits.values()) >= len(some) * 0.9, hits  # the faults were met
table(f"faults at {sum(len(k.points) for k in kinds)} system calls of saves ({len(some)} of {len(cases)} cases)", [(k, *r) for k, r in sorted(rows.items())])
