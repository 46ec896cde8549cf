"""K1, K9: whole jobs of two ranks are killed at random instants and started again by the same command until they are done:
every start goes on from the newest checkpoint, nothing lies about, and the end has the bits of the unbroken run."""
import os, random, signal, subprocess, threading, time

from whole_jobs import *

needs("mpirun")
work = workplace("kills-test")
job = ["data.name=moons", "model.sizes=16", "data.global_batch=32", "train.steps=300", "eval.samples=2", "eval.every=50st",
       "checkpoint.every=5st", "log.every=1st", "parallel.slots=2", "optim.ess=1000"]


def start(name, *words):
    return subprocess.Popen(["mpirun", "-n", "2", VARION, "-q", "train", *job, f"run.name={name}", *words], cwd=work,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)


begin = time.time()
assert start("whole").wait(120) == 0
duration = time.time() - begin
expected = digest(f"{work}/runs/whole")
rows = {"mpirun": [0, 0], "one rank": [0, 0], "everything": [0, 0]}
jobs, lost, wrong, left, hung, resumed, older, total = 0, 0, 0, 0, 0, 0, 0, count(12, 1000, 10000)
counting = threading.Lock()


def job_until_done(number):
    """Killed until it ends by itself. Whether a checkpoint was lost."""
    global hung, resumed, older
    name, draw = f"job-{number}", random.Random(number)
    folder, newest = f"{work}/runs/{name}", 0
    while True:
        due, before = newest, len(taken_up(folder))  # with `auto` a start without the checkpoint would come to the same bits
        p = start(name, *(["run.resume=must"] if due else []))
        time.sleep(draw.random() * 1.5 * duration)
        kind = draw.choice(list(rows))
        ranks = processes(f"run.name={name}")
        victims = {"mpirun": [p.pid], "one rank": draw.sample(ranks, min(1, len(ranks))), "everything": [p.pid, *ranks]}[kind]
        newest = max(newest, newest_checkpoint(folder))
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
            alone = not processes(f"run.name={name}")
            with counting:
                hung += alone
                rows[kind][1] += not alone and bool(victims)  # ranks that go on
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
        newest, steps = max(newest, newest_checkpoint(folder)), taken_up(folder)[before:]
        if due and (steps or p.returncode == 0):  # else it was killed before it could say
            with counting:
                resumed += 1
                older += steps[-1:] < [due]
            if steps[-1:] < [due]:
                print(f"{name}: went on from {steps}, not from {due}")
                return True
        if p.returncode == 0:
            return False
        if b"no checkpoint" in stderr or b"internal error" in stderr:
            print(stderr.decode())
            return True


def worker(_):
    global jobs, lost, wrong, left
    while True:
        with counting:
            if sum(tried for tried, _ in rows.values()) >= total:
                return
            number, jobs = jobs, jobs + 1
        gone = job_until_done(number)
        folder = f"{work}/runs/job-{number}"
        other = not gone and digest(folder) != expected
        lying = 0 if gone else len(leftovers(folder))
        if not gone and not other:
            subprocess.run(["rm", "-r", folder], check=True)
        with counting:
            lost, wrong, left = lost + gone, wrong + other, left + lying


side_by_side(worker, range(3))
assert resumed > 0, "no job was killed after its first checkpoint"
table("random kill -9 of two-rank jobs (K1, K9)",
      [(f"kills of {kind}: ranks left after 10 s", *r) for kind, r in rows.items()] +
      [("starts: not from the newest checkpoint", resumed, older), ("jobs: checkpoints lost", jobs, lost),
       ("jobs: other bits than unbroken", jobs, wrong), ("jobs: temporary files left", jobs, left)],
      [("mpirun itself stayed", sum(tried for tried, _ in rows.values()), hung)])
