"""K1, K9: whole jobs of two ranks are killed at random instants and started again by the same command until they are done:
nothing is lost, nothing lies about, and the end has the bits of the unbroken run."""
import os, random, signal, subprocess, time

from whole_jobs import *

needs("mpirun")
work = workplace("kills-test")
job = ["data.name=moons", "model.sizes=16", "data.global_batch=32", "train.steps=300", "eval.samples=2", "eval.every=50st",
       "checkpoint.every=5st", "log.every=1st", "parallel.slots=2", "optim.ess=1000"]


def start(name):
    return subprocess.Popen(["mpirun", "-n", "2", VARION, "-q", "train", *job, f"run.name={name}"], cwd=work,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)


begin = time.time()
assert start("whole").wait(120) == 0
duration = time.time() - begin
expected = digest(f"{work}/runs/whole")
draw = random.Random(7)
rows = {"mpirun": [0, 0], "one rank": [0, 0], "everything": [0, 0]}
jobs, lost, wrong, leftovers, total = 0, 0, 0, 0, count(12, 1000, 10000)
while sum(tried for tried, _ in rows.values()) < total:
    name = f"job-{jobs}"
    jobs += 1
    while True:
        p = start(name)
        time.sleep(draw.random() * duration)
        kind = draw.choice(list(rows))
        ranks = processes(f"run.name={name}")
        victims = {"mpirun": [p.pid], "one rank": draw.sample(ranks, min(1, len(ranks))), "everything": [p.pid, *ranks]}[kind]
        if p.poll() is None:
            rows[kind][0] += 1
            for pid in victims:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        try:
            stderr = p.communicate(timeout=20)[1]
        except subprocess.TimeoutExpired:  # Open MPI 4.1.4's mpirun can hang in its own end when all ranks have gone
            if processes(f"run.name={name}"):
                raise
            print("mpirun itself hung, with no rank left")
            p.kill()
            stderr = p.communicate()[1]
        deadline = time.time() + 10
        while processes(f"run.name={name}") and time.time() < deadline:
            time.sleep(0.02)
        if processes(f"run.name={name}"):
            rows[kind][1] += 1  # orphans
            for pid in processes(f"run.name={name}"):
                os.kill(pid, signal.SIGKILL)
        if p.returncode == 0:
            break
        if b"no checkpoint" in stderr or b"internal error" in stderr:
            lost += 1
            print(stderr.decode())
            break
        duration = max(0.3, duration)
    if not lost:
        wrong += digest(f"{work}/runs/{name}") != expected
        leftovers += sum(n.endswith(".tmp") for _, _, files in os.walk(f"{work}/runs/{name}") for n in files)
        subprocess.run(["rm", "-r", f"{work}/runs/{name}"], check=True)
table("random kill -9 of two-rank jobs (K1, K9)",
      [(f"kills of {kind}: ranks left after 10 s", *r) for kind, r in rows.items()] +
      [("jobs: checkpoints lost", jobs, lost), ("jobs: other bits than unbroken", jobs, wrong), ("jobs: temporary files left", jobs, leftovers)])
