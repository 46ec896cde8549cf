"""K8: one long job of two ranks that is killed again and again at random instants and resubmitted by its exit code, as a scheduler
would, until it is done: it ends with the bits of the unbroken run, and no kill costs more than the steps from a save to the next, a
step, and those done while a save is written. Both ranks pause in every step: the machine stays free, the unbroken run is short."""
import math, random, re, signal, time

from whole_jobs import *

needs("mpirun")
work = workplace("chaos-test")
SECONDS = count(3, 3600, 8 * 3600)
PAUSE, SAVE = count(5, 100, 800), count(20, 20, 5)  # milliseconds a step, steps a save
job = ["-q", "train", "data.name=moons", "data.val_size=40", "model.sizes=64,64", "data.global_batch=32", "eval.samples=2", "eval.every=200st",
       "log.every=1st", "log.state_hash_every=100st", "parallel.slots=2", "optim.ess=1000", "checkpoint.keep=3"]
MOST = SAVE + 1 + min(SAVE, math.ceil(1000 / PAUSE))  # a save takes a second at most, and the next one waits for it
HELD = (10, 64, 65, 66, 69, 70, 73, 74, 78)  # what a scheduler does not start again


def start(name, steps):
    pauses = [f"--inject=forward:0:{rank}:pause:{PAUSE}" for rank in (0, 1)]
    return subprocess.Popen(["mpirun", "-n", "2", INJECT, *pauses, *job, f"run.name={name}", f"train.steps={steps}", f"checkpoint.every={SAVE}st"],
                            cwd=work, env=environment, stdout=subprocess.DEVNULL, stderr=open(f"{work}/stderr", "w"))


def ranks(name):
    return processes(f"run.name={name}", INJECT)


def took(steps):
    begin = time.time()
    assert start(f"speed-{steps}", steps).wait(120) == 0
    return time.time() - begin


def last_step(folder):
    """Of the records on the disk; the last one may be torn."""
    lines = open(f"{folder}/metrics.jsonl").read().split("\n") if os.path.exists(f"{folder}/metrics.jsonl") else []
    return max((json.loads(line)["step"] for line in lines[-4:-1]), default=0)


def send(what, pids):
    for pid in pids:
        try:
            os.kill(pid, what)
        except ProcessLookupError:
            pass


# How many steps fill the time: a save's steps get through between two kills, or are begun again after a start.
step = max((took(3 * SAVE) - took(SAVE)) / (2 * SAVE), PAUSE / 1000)
starting = took(1)
between = max(count(1, 30, 30), 2 * starting)  # kills
ending = 2  # seconds, that mpirun takes to end the others
steps = SAVE * max(5, round(SECONDS / ((math.exp(SAVE * step / between) - 1) * (between + starting + ending))))
print(f"{steps} steps of {1000 * step:.1f} ms, {SAVE} a save, a start {starting:.1f} s, a kill in {between:.1f} s", flush=True)
subprocess.run([VARION, *job, "run.name=whole", f"train.steps={steps}", "checkpoint.every=0st"], cwd=work, env=environment, check=True)
expected, folder = digest(f"{work}/runs/whole"), f"{work}/runs/chaos"

draw = random.Random(9)
WAYS = {"SIGKILL of a rank": (signal.SIGKILL, "one"), "SIGKILL of mpirun": (signal.SIGKILL, "mpirun"), "SIGKILL of everything": (signal.SIGKILL, "all"),
        "SIGUSR1 to a rank": (signal.SIGUSR1, "one"), "SIGUSR1 to mpirun": (signal.SIGUSR1, "mpirun"), "SIGTERM to all ranks": (signal.SIGTERM, "ranks"),
        "SIGTERM to mpirun": (signal.SIGTERM, "mpirun")}
tried, failed, losses = dict.fromkeys(WAYS, 0), dict.fromkeys(WAYS, 0), {w: [0] for w in WAYS}
reached = said = orphans = hung = starts = 0
way_done, code, begin = None, None, time.time()
while code != 0 and time.time() - begin < 2 * SECONDS + 60:
    p = start("chaos", steps)
    starts += 1
    gap = draw.expovariate(1 / between) if starts > 1 else starting + draw.random() * 3 * SAVE * step  # the first kill surely comes
    way, kill_at = None, time.time() + gap
    while p.poll() is None:
        there = ranks("chaos") if way is None and time.time() >= kill_at else []
        if there:
            way = draw.choice(list(WAYS))
            what, whom = WAYS[way]
            victims = {"one": draw.sample(there, 1), "mpirun": [p.pid], "all": [p.pid, *there], "ranks": there}[whom]
            send(what, victims)
            sent = time.time()
        if way and time.time() - sent > 20:
            hung += not ranks("chaos")  # Open MPI 4.1.4's mpirun can hang in its own end when all ranks have gone
            failed[way] += bool(ranks("chaos"))
            send(signal.SIGKILL, [p.pid, *ranks("chaos")])
        time.sleep(0.005)
    code, stderr = p.returncode, open(f"{work}/stderr").read()
    gone = time.time() + 10
    while ranks("chaos") and time.time() < gone:
        time.sleep(0.01)
    orphans += bool(ranks("chaos"))
    send(signal.SIGKILL, ranks("chaos"))
    # What the kill before this start has cost is known from where the program went on.
    log = open(f"{folder}/log.txt").read() if os.path.exists(f"{folder}/log.txt") else ""
    said = said if said <= len(log) else 0  # a start without a checkpoint begins a new log
    went_on = re.findall(r"continuing from \S+ at step (\d+)", log[said:])
    if went_on or (way_done and "varion " in log[said:]):
        lost = reached - int(went_on[-1] if went_on else 0)
        losses[way_done].append(lost)
        failed[way_done] += lost > MOST or lost < 0 or (code_done == 75 and lost != 0)
        print(f"{time.time() - begin:8.1f} s: {way_done}, code {code_done}, reached step {reached}, {lost} done again", flush=True)
        reached = 0
    if "skipped: " in log[said:]:
        print(f"a checkpoint was refused:\n{log[said:]}")
        failed[way_done] += 1
    said = len(log)
    if last_step(folder) > reached:
        reached, way_done, code_done = last_step(folder), way, code
    if way is None and code != 0:
        print(f"ended by itself with {code}: {stderr}")
        break
    if code in HELD:
        print(f"{way}: a scheduler would hold it: {code} {stderr}")
        failed[way] += 1
        break
    if way and code != 0:
        tried[way] += 1
wall = time.time() - begin
equal = code == 0 and digest(folder) == expected
left = [n for _, _, files in os.walk(folder) for n in files if n.endswith(".tmp")]
every = [n for values in losses.values() for n in values]
print(f"{wall:.0f} s, {starts} starts, {sum(tried.values())} kills; steps done again: {max(every)} at most, {sum(every)} in all, "
      f"more than {SAVE} + 1 after {sum(n > SAVE + 1 for n in every)} kills; mpirun itself hung {hung} times")
table("one job, killed again and again (K8)",
      [(f"{w}: {max(losses[w])} steps done again at most", tried[w], failed[w]) for w in WAYS] +
      [("starts: ranks left after 10 s", starts, orphans), ("temporary files left at the end", 1, len(left)), ("other bits than unbroken", 1, int(not equal))])
