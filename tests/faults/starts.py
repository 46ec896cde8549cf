"""K10, L5: several runs are started in one directory at once. One writes, the others end with 73 and name it; a lock whose holder
is dead holds nobody up. And jobs of an array that start in one second keep apart."""
import json, os, signal, subprocess, time

from whole_jobs import *

work = workplace("starts-test")
job = ["data.name=moons", "model.sizes=8", "train.steps=100000", "eval.samples=1", "eval.every=0st", "checkpoint.every=0st", "log.every=1st"]
rounds, failed, stale = count(10, 100, 1000), 0, 0
for number in range(rounds):
    name, together = f"round-{number}", 2 + number % 7
    command = [VARION, "-q", "train", *job, f"run.name={name}"]
    all = [subprocess.Popen(command, cwd=work, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
           for _ in range(together)]
    deadline = time.time() + 30
    while sum(p.poll() is None for p in all) > 1 and time.time() < deadline:
        time.sleep(0.01)
    records = f"{work}/runs/{name}/metrics.jsonl"
    while not (os.path.exists(records) and os.path.getsize(records) > 0) and time.time() < deadline:
        time.sleep(0.01)
    running = [p for p in all if p.poll() is None]
    losers = [(p.returncode, p.stderr.read()) for p in all if p.poll() is not None]
    good = len(running) == 1 and len(losers) == together - 1
    good = good and [code for code, said in losers if code != 73 or f"process {running[0].pid}" not in said] == []
    for p in running:
        p.send_signal(signal.SIGKILL if number % 2 else signal.SIGUSR1)
        p.wait(30)
    failed += not good
    # The winner is gone, killed or stopped: the next one begins or goes on at once.
    p = subprocess.run([*command, "train.steps=3", "run.resume=never", "run.overwrite=true"], cwd=work, capture_output=True, text=True, env=environment)
    stale += p.returncode != 0 or json.load(open(f"{work}/runs/{name}/status.json"))["state"] != "done"
# L5: one tree of runs, a name each; and what they would all be called without.
together, clobbered = count(16, 64, 64), 0
short = [*job[:2], "train.steps=5", *job[3:]]
all = [subprocess.Popen([VARION, "-q", "train", *short, f"run.name=array-{k}", f"run.seed={k + 1}"], cwd=work, stderr=subprocess.PIPE,
                        stdout=subprocess.DEVNULL, text=True, env=environment) for k in range(together)]
codes = [p.wait(120) for p in all]
digests = {digest(f"{work}/runs/array-{k}") for k in range(together) if codes[k] == 0}
clobbered = together - len(digests)
table("several starts in one directory (K10)", [("rounds with one writer, the others refused with its name", rounds, failed),
                                                ("starts after the holder's end", rounds, stale),
                                                ("jobs of an array, a run each (L5)", together, clobbered)])
