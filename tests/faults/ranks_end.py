"""F1, F2: a rank of a job dies or hangs. The job ends in time, with one line of a cause where the program can give one; no rank is
left; the last checkpoint is whole and the run goes on from it on other numbers of ranks."""
import os, random, signal, subprocess, time

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


rows = {}
cases = [("SIGKILL", 10), ("SIGSEGV", 10), ("SIGABRT", 10), ("SIGSTOP", LIMIT + 5 + 2)]
for repeat in range(count(1, 8, 40)):
    for ranks in (2, 4):
        for what, limit in cases:
            name = f"{what}-{ranks}-{repeat}"
            p = start(name, ranks, 1000000, f"run.watchdog={LIMIT}")
            wait_for_checkpoint(name, p)
            time.sleep(draw.random() * 0.3)
            victims = processes(f"run.name={name}")
            problems = []
            if len(victims) != ranks:
                problems.append(f"{len(victims)} ranks: {p.stderr.read() if p.poll() is not None else ''}")
            else:
                os.kill(draw.choice(victims), getattr(signal, what))
                begin = time.time()
                try:
                    said = p.communicate(timeout=60)[1]
                except subprocess.TimeoutExpired:
                    p.kill()
                    said = p.communicate()[1]
                taken = time.time() - begin
                if p.returncode in (0, 75) or taken > limit:
                    problems.append(f"ended with {p.returncode} after {taken:.1f} s: {said}")
                if what == "SIGSTOP" and (p.returncode != 70 or "watchdog: rank" not in said or "no progress" not in said):
                    problems.append(f"ended with {p.returncode}: {said}")
            deadline = time.time() + 5
            while processes(f"run.name={name}") and time.time() < deadline:
                time.sleep(0.05)
            left = processes(f"run.name={name}")
            if left:
                problems.append(f"left {left}")
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
            end = start(name, draw.choice((1, 2, 4)), 1, "train.steps=1")  # a checkpoint beyond: done before, or goes on
            said = end.communicate(timeout=60)[1]
            if end.returncode != 0:
                problems.append(f"does not go on: {end.returncode} {said}")
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
table("ranks that die or hang (F1, F2)", [(k, *r) for k, r in rows.items()])
