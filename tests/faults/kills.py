"""K1, K9: whole jobs of two ranks are killed at random instants and started again by the same command until they are done:
nothing is lost, nothing lies about, and the end has the bits of the unbroken run."""
import os, random, signal, subprocess, threading, time

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
rows = {"mpirun": [0, 0], "one rank": [0, 0], "everything": [0, 0]}
jobs, lost, wrong, leftovers, hung, total = 0, 0, 0, 0, 0, count(12, 1000, 10000)
counting = threading.Lock()


def job_until_done(number):
    """Killed until it ends by itself. Whether a checkpoint was lost."""
    global hung
    name, draw = f"job-{number}", random.Random(number)
    while True:
        p = start(name)
        time.sleep(draw.random() * 1.5 * duration)
        kind = draw.choice(list(rows))
        ranks = processes(f"run.name={name}")
        victims = {"mpirun": [p.pid], "one rank": draw.sample(ranks, min(1, len(ranks))), "everything": [p.pid, *ranks]}[kind]
        if p.poll() is None and victims:
            with counting:
                rows[kind][0] += 1
            for pid in victims:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        try:
            stderr = p.communicate(timeout=20)[1]
        except subprocess.TimeoutExpired:  # Open MPI 4.1.4's mpirun can hang in its own end when all ranks have gone
            hung += not processes(f"run.name={name}")
            p.kill()
            stderr = p.communicate()[1]
        deadline = time.time() + 10
        while processes(f"run.name={name}") and time.time() < deadline:
            time.sleep(0.02)
        if processes(f"run.name={name}"):
            with counting:
                rows[kind][1] += 1  # orphans
            for pid in processes(f"run.name={name}"):
                os.kill(pid, signal.SIGKILL)
        if p.returncode == 0:
            return False
        if b"no checkpoint" in stderr or b"internal error" in stderr:
            print(stderr.decode())
            return True


def worker(_):
    global jobs, lost, wrong, leftovers
    while True:
        with counting:
            if sum(tried for tried, _ in rows.values()) >= total:
                return
            number, jobs = jobs, jobs + 1
        gone = job_until_done(number)
        folder = f"{work}/runs/job-{number}"
        other = not gone and digest(folder) != expected
        left = 0 if gone else sum(n.endswith(".tmp") for _, _, files in os.walk(folder) for n in files)
        if not gone and not other:
            subprocess.run(["rm", "-r", folder], check=True)
        with counting:
            lost, wrong, leftovers = lost + gone, wrong + other, leftovers + left


side_by_side(worker, range(3))
print(f"mpirun itself hung {hung} times, with no rank left")
table("random kill -9 of two-rank jobs (K1, K9)",
      [(f"kills of {kind}: ranks left after 10 s", *r) for kind, r in rows.items()] +
      [("jobs: checkpoints lost", jobs, lost), ("jobs: other bits than unbroken", jobs, wrong), ("jobs: temporary files left", jobs, leftovers)])
