"""F1, F2: a rank of a job dies, leaves or hangs, by a signal from outside at any instant and by a fault inside in every phase. The job
ends in time, with one line of a cause where the program can give one, and a stack where it hung; no rank is left; the last checkpoint
is whole, and the run goes on from it on other numbers of ranks, to the bits of the unbroken one."""
import os, random, re, shutil, signal, subprocess, time

from whole_jobs import *

needs("mpirun")
work = workplace("ranks-end-test")
job = ["data.name=moons", "model.sizes=16", "data.global_batch=32", "eval.samples=2", "eval.every=0st", "checkpoint.every=5st",
       "log.every=1st", "parallel.slots=4", "optim.ess=1000"]
LIMIT = 3  # seconds of the watchdog
draw = random.Random(5)


def start(name, ranks, steps, *words):
    return subprocess.Popen(["mpirun", "-n", str(ranks), VARION, "-q", "train", *job, f"train.steps={steps}", f"run.name={name}", *words],
                            cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for_checkpoint(name, p):
    folder, deadline = f"{work}/runs/{name}/checkpoints", time.time() + 60
    while p.poll() is None and time.time() < deadline:
        if os.path.isdir(folder) and [n for n in os.listdir(folder) if n.startswith("step-")]:
            return
        time.sleep(0.01)


STAYED = "\nstill running\n"


def ended(p, limit, word, program=VARION):
    """What a job said, and whether mpirun went wrong by itself: it died of a signal, or was still there after the limit with no rank left."""
    try:
        said = p.communicate(timeout=limit)[1]
        return said, p.returncode < 0
    except subprocess.TimeoutExpired:
        alone = not processes(word, program)
        p.kill()
        return p.communicate()[1] + STAYED, alone


# What the watchdog says, and a frame as backtrace_symbols_fd writes it; MPI's own, of a crash, begin with the host.
WATCHDOG = re.compile(r"varion: watchdog: rank \d+, \w+, step \d+: no progress for ")
FRAME = re.compile(r"^/\S*\(\S*\)\[0x[0-9a-f]+\]$", re.M)
ENDING = re.compile(r"varion: watchdog: rank \d+, end: ")  # who waits within MPI_Finalize shows no stack


def missing(said, phase=""):
    """What the watchdog has not said of a hang."""
    if phase == "finalize":
        return [] if ENDING.search(said) else ["no line of the watchdog"]
    line = WATCHDOG.search(said)
    return ["no line of the watchdog"] if line is None else [] if FRAME.search(said, line.end()) else ["no stack"]


def to_the_end(p, name):
    said = ended(p, 60, f"run.name={name}")[0]
    return subprocess.CompletedProcess(p.args, p.returncode, stderr=said)


died, stayed, ends = [], [], 0  # mpirun, by itself
rows = {}
cases = [("SIGKILL", 10), ("SIGSEGV", 10), ("SIGABRT", 10), ("SIGSTOP", LIMIT + 5 + 2)]
for repeat in range(count(1, 8, 40)):
    for ranks in count((2,), (2, 4), (2, 4)):
        for what, limit in cases:
            name = f"{what}-{ranks}-{repeat}"
            p = start(name, ranks, 1000000, f"run.watchdog={LIMIT}")
            wait_for_checkpoint(name, p)
            time.sleep(draw.random() * 0.3)
            newest = newest_checkpoint(f"{work}/runs/{name}")
            victims = processes(f"run.name={name}")
            problems = []
            if len(victims) != ranks:
                problems.append(f"{len(victims)} ranks: {p.stderr.read() if p.poll() is not None else ''}")
            else:
                os.kill(draw.choice(victims), getattr(signal, what))
                begin = time.time()
                said, own = ended(p, limit, f"run.name={name}")
                taken, ends = time.time() - begin, ends + 1
                if own:
                    (stayed if STAYED in said else died).append(name)
                if p.returncode in (0, 75) or taken > limit + (1 if own else 0):
                    problems.append(f"ended with {p.returncode} after {taken:.1f} s: {said}")
                if what == "SIGSTOP" and (missing(said) or (p.returncode != 70 and not own)):
                    problems.append(f"ended with {p.returncode}, {missing(said)}: {said}")
            deadline = time.time() + 5
            while processes(f"run.name={name}") and time.time() < deadline:
                time.sleep(0.05)
            left = processes(f"run.name={name}")
            if left:
                problems.append(f"left {left}")
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
            newest, others = max(newest, newest_checkpoint(f"{work}/runs/{name}")), draw.choice((1, 2, 4))
            problems += went_on(f"{work}/runs/{name}", newest, lambda *words: to_the_end(start(name, others, 1, *words), name))  # it is beyond
            row = rows.setdefault(f"{what} to one of {ranks} ranks", [0, 0])
            row[0] += 1
            row[1] += bool(problems)
            if problems:
                print(name, problems)

# Slow but moving is left alone: steps of a second under a limit of three.
p = start("slow", 2, 6, f"run.watchdog={LIMIT}")
begin = time.time()
while p.poll() is None:
    for sig, rest in ((signal.SIGSTOP, 1.0), (signal.SIGCONT, 0.3)):
        for pid in processes("run.name=slow"):
            try:
                os.kill(pid, sig)
            except ProcessLookupError:
                pass
        time.sleep(rest)
rows["slow but moving"] = [1, int(p.returncode != 0)]

# Faults inside: kind x number of ranks x phase. Every job has a checkpoint of step 10 and goes on to 25.
DEATHS = ["kill", "segv", "abort", "throw", "bad_alloc", "exit0", "exit3", "mpi_abort", "early_finalize"]
HANGS = ["stop", "loop", "deadlock", "lost_message", "slow_disk"]
PHASES = {"init": 0, "data": 0, "forward": 17, "reduce": 17, "save": 15, "finalize": 0}
SAYS = {"throw", "bad_alloc", "exit0", "exit3", "early_finalize"}  # the program itself can say what has happened
whole = [*job, "parallel.slots=8", "train.steps=25"]


def train(program, ranks, name, *words):
    launcher = ["mpirun", "-n", str(ranks)] if ranks else []
    return subprocess.Popen([*launcher, program, "-q", "train", *whole, f"run.name={name}", *words], cwd=work, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True, env=environment)


assert train(VARION, 0, "whole").wait(60) == 0
assert train(VARION, 0, "origin", "train.stop_after=10").wait(60) == 75
expected = digest(f"{work}/runs/whole")
usual = {}  # what a whole job takes here
for ranks in (2, 4, 8):
    begin = time.time()
    assert train(INJECT, ranks, f"usual-{ranks}").wait(60) == 0 and digest(f"{work}/runs/usual-{ranks}") == expected
    usual[ranks] = time.time() - begin
every = [(kind, ranks, phase) for kind in [*DEATHS, *HANGS] for ranks in (2, 4, 8) for phase in PHASES]
every += [("slow", ranks, phase) for ranks in (2, 4, 8) for phase in PHASES]
few = [("exit0", 4, "forward"), ("throw", 2, "save"), ("early_finalize", 4, "reduce"), ("kill", 2, "finalize"), ("lost_message", 2, "finalize"),
       ("slow", 2, "reduce")]
slowest = {}
for kind, ranks, phase in count(few, every, every):
    name = f"inside-{kind}-{ranks}-{phase}"
    shutil.copytree(f"{work}/runs/origin", f"{work}/runs/{name}")
    rank, place = draw.randrange(ranks), phase
    if kind == "slow_disk" and phase == "save":
        rank, place = 0, "write"
    begin = time.time()
    # What follows a hang is the limit and five seconds; a disk that is slow within the limit holds nobody up.
    limit = usual[ranks] + (LIMIT + 5 if kind in HANGS else 10)
    # Where a rank dies, the watchdog of others must not speak first: what a rank above the first says comes after two seconds.
    p = train(INJECT, ranks, name, f"run.watchdog={10 if kind in DEATHS else LIMIT}", f"--inject={place}:{PHASES[phase]}:{rank}:{kind}")
    said, own = ended(p, limit, f"run.name={name}", INJECT)
    while processes(f"run.name={name}", INJECT) and time.time() - begin < 60:
        time.sleep(0.02)
    taken = time.time() - begin
    # Not only at the begin of a line: what others write does not end where it should.
    lines = re.findall("varion: .*", said)
    problems = []
    ends += 1
    if own:
        (stayed if STAYED in said else died).append(name)
    if processes(f"run.name={name}", INJECT) or taken > limit + (1 if own else 0):
        problems.append(f"took {taken:.1f} s of {limit:.1f}")
    if (p.returncode == 0) != (kind == "slow"):
        problems.append("ended with 0" if p.returncode == 0 else f"ended with {p.returncode}")
    if kind in HANGS and (missing(said, phase) or (p.returncode != 70 and not own)):
        problems.append(f"a hang ended with {p.returncode}, {missing(said, phase)}")
    if kind in DEATHS and len(lines) != (kind in SAYS) and not (kind in SAYS and phase == "finalize"):
        problems.append(f"{len(lines)} lines of a cause")
    for pid in processes(f"run.name={name}", INJECT):
        os.kill(pid, signal.SIGKILL)
    newest, others = max(10, newest_checkpoint(f"{work}/runs/{name}")), draw.choice((0, 2, 4))
    wrong = went_on(f"{work}/runs/{name}", newest, lambda *words: to_the_end(train(VARION, others, name, *words), name))
    problems += wrong
    if not wrong and digest(f"{work}/runs/{name}") != expected:
        problems.append("other bits at the end")
    shutil.rmtree(f"{work}/runs/{name}", ignore_errors=True)
    title = "slow but moving, inside" if kind == "slow" else f"{'F2' if kind in HANGS else 'F1'} {kind} on one of {ranks} ranks"
    row = rows.setdefault(title, [0, 0])
    row[0] += 1
    row[1] += bool(problems)
    slowest[kind in HANGS] = max(slowest.get(kind in HANGS, 0), taken - usual[ranks])
    if problems:
        print(name, rank, p.returncode, problems, lines or said, flush=True)
if died or stayed:
    print("mpirun itself died of a signal:", died, "stayed with no rank left:", stayed)
print("slowest end beyond a usual job:", ", ".join(f"{'hangs' if h else 'deaths'} {t:.1f} s" for h, t in sorted(slowest.items())))
table("ranks that die, leave or hang (F1, F2)", [(k, *r) for k, r in rows.items()],
      [("mpirun itself died of a signal", ends, len(died)), ("mpirun itself stayed", ends, len(stayed))])
