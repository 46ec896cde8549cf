"""L1 to L3 and what a job script does: wall time, requests for a checkpoint, signals once and twice, and whole jobs under a stand-in
for Slurm that runs the script of `varion submit`, signals it, ends it after a grace, kills it after another, and requeues it."""
import glob, os, random, signal, subprocess, time

from whole_jobs import *

needs("mpirun", "bash")
work = workplace("jobs-test")
small = ["data.name=moons", "model.sizes=16", "data.global_batch=32", "eval.samples=2", "eval.every=0st", "log.every=1st", "optim.ess=1000"]
rows = []


def varion(*words, code=0, env=environment):
    p = subprocess.run([VARION, *words], cwd=work, capture_output=True, text=True, env=env, timeout=120)
    assert p.returncode == code, (words, p.returncode, p.stdout, p.stderr)
    return p.stdout + p.stderr


def step_of(name):
    return json.load(open(f"{work}/runs/{name}/status.json"))["step"]


def started(name):
    return os.path.exists(f"{work}/runs/{name}/metrics.jsonl") and os.path.getsize(f"{work}/runs/{name}/metrics.jsonl") > 0


# L3: the program's own limit, counted from where a run begins, and Slurm's, an hour of the clock.
begin = time.time()
varion("train", *small, "train.steps=1", "run.name=start", "eval.samples=1")
starting = time.time() - begin
failed = 0
for number in range(count(2, 25, 50)):
    for env, words in ((environment, ["run.walltime=00:00:04"]), (dict(environment, SLURM_JOB_END_TIME=str(int(time.time()) + 4)), [])):
        begin = time.time()
        out = varion("train", *small, "train.steps=100000000", f"run.name=limit-{number}-{len(words)}", "checkpoint.every=0st", *words, code=75, env=env)
        good = time.time() - begin < 4.2 + (starting if words else 0) and "before the time was over" in out and step_of(f"limit-{number}-{len(words)}") > 0
        failed += not good
        # `auto` of a requeued job has a new limit.
        varion("train", *small, f"train.steps={step_of(f'limit-{number}-{len(words)}') + 2}", f"run.name=limit-{number}-{len(words)}", "run.walltime=off")
rows.append(("stopped in time with a checkpoint (L3)", 2 * count(2, 25, 50), failed))
for bad in ("run.walltime=1h", "run.walltime=00:61:00", "run.walltime=00:00:00x", "run.watchdog=-1", "run.watchdog=soon"):
    assert bad.split("=")[0] in varion("train", *small, "train.steps=1", "run.name=bad", bad, code=78)

# A checkpoint on request.
p = subprocess.Popen([VARION, "-q", "train", *small, "train.steps=100000000", "run.name=request", "checkpoint.every=0st"], cwd=work, env=environment)
while not started("request"):
    time.sleep(0.01)
open(f"{work}/runs/request/output_now", "w").close()
deadline = time.time() + 10
while not glob.glob(f"{work}/runs/request/checkpoints/step-*.h5") and time.time() < deadline:
    time.sleep(0.01)
assert glob.glob(f"{work}/runs/request/checkpoints/step-*.h5") and not os.path.exists(f"{work}/runs/request/output_now")

# Ctrl-C twice: at once, the checkpoint stands.
p.send_signal(signal.SIGSTOP)  # so that both come before the step ends
p.send_signal(signal.SIGINT)
time.sleep(0.05)
p.send_signal(signal.SIGCONT)
time.sleep(0.001)
p.send_signal(signal.SIGINT)
assert p.wait(20) in (75, 130), p.returncode
varion("train", *small, "train.steps=1", "run.name=request")

# L1: every signal, once and as a storm, to one rank or all of them.
whole = [*small, "train.steps=400", "checkpoint.every=50st", "parallel.slots=2"]
varion("train", *whole, "run.name=whole")
expected = digest(f"{work}/runs/whole")
def sent(what, pids):
    for pid in pids:
        try:
            os.kill(pid, what)
        except ProcessLookupError:
            pass


def signalled(case):
    """Whether a job that got this signal, once or as a storm, ends as it should and then with the same bits; its exit code."""
    repeat, what, storm, whom = case
    name, draw = f"signal-{what}-{storm}-{whom}-{repeat}", random.Random(repeat)
    p = subprocess.Popen(["mpirun", "-n", "2", VARION, "-q", "train", *whole, f"run.name={name}"], cwd=work, env=environment,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while p.poll() is None and not started(name):
        time.sleep(0.005)
    time.sleep(draw.random() * 0.05)
    ranks = processes(f"run.name={name}")
    for _ in range(storm):
        sent(what, {"all": ranks, "one": ranks[:1], "mpirun": [p.pid]}[whom])
        time.sleep(0.001)
    try:
        code = p.wait(20)
    except subprocess.TimeoutExpired:  # Open MPI 4.1.4's mpirun can hang in its own end when all ranks have gone
        code = "a job that hangs" if processes(f"run.name={name}") else "mpirun hung"
        sent(signal.SIGKILL, [p.pid, *processes(f"run.name={name}")])
        p.wait()
    for _ in range(200):
        if not processes(f"run.name={name}"):
            break
        time.sleep(0.05)
    varion("-q", "train", *whole, f"run.name={name}")
    right = (0, 75) if what in CAUGHT and whom != "mpirun" and (what != signal.SIGINT or storm == 1) else \
        (0,) if what == signal.SIGCONT else (0, 1, 75, 128 + what, -what, "mpirun hung")
    good = code in right and digest(f"{work}/runs/{name}") == expected
    if not good:
        print(case, code)
    return good, code


CAUGHT = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)  # the others do what the system does about them
cases = [(repeat, what, storm, whom) for repeat in range(count(1, 6, 20)) for what in (*CAUGHT, signal.SIGHUP, signal.SIGCONT)
         for storm in (1, 50) for whom in ("all", "one", "mpirun")]
results = side_by_side(signalled, cases if TIER != "C" else cases[::4])
codes = [code for _, code in results]
print("signals: exit codes " + ", ".join(f"{code}: {codes.count(code)}" for code in sorted(set(codes), key=str)))
assert codes.count(75) > len(codes) // 5, "hardly a signal came in time"
rows.append(("signals to a job, then the same bits (L1)", len(results), sum(not good for good, _ in results)))

# L2: the printed script under a stand-in for Slurm.
bin = f"{work}/bin"
os.makedirs(bin)
for name, body in (("srun", 'while [ "${1#--}" != "$1" ]; do shift; done\nexec mpirun -n "$SLURM_NTASKS" "$@"'),
                   ("scontrol", '[ "$1" = requeue ] && touch "$REQUEUED"')):
    with open(f"{bin}/{name}", "w") as f:
        f.write(f"#!/bin/bash\n{body}\n")
    os.chmod(f"{bin}/{name}", 0o755)


# How a time limit comes to an end: a job that has not left by the end of a grace gets the next signal.
LIMITS = {"USR1": [signal.SIGUSR1], "USR1, TERM": [signal.SIGUSR1, signal.SIGTERM],
          "USR1, TERM, KILL": [signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL]}
starts = []  # how it was to end, whether it got a signal at all, how it ended, whether it should


def batch_job(number):
    """Whether it ended with the same bits, whatever became of its starts."""
    name, draw, order = f"job-{number}", random.Random(number), []
    script = varion("submit", "--ranks=2", "--threads=1", "--time=00:10:00", "train", *whole, f"run.name={name}")
    assert "#SBATCH --signal=USR1@300 --requeue" in script and "#SBATCH --ntasks=2" in script
    path, requeued, folder = f"{work}/{name}.sh", f"{work}/{name}.requeued", f"{work}/runs/{name}"
    records, newest = f"{folder}/metrics.jsonl", 0
    with open(path, "w") as f:
        f.write(script)
    for restart in range(60):
        env = dict(environment, PATH=f"{bin}:{os.environ['PATH']}", VARION=VARION, SLURM_NTASKS="2", SLURM_CPUS_PER_TASK="1",
                   SLURM_JOB_ID=str(1000 + number), SLURM_RESTART_COUNT=str(restart), REQUEUED=requeued)
        due, said = newest, len(taken_up(folder))
        before = os.path.getsize(records) if os.path.exists(records) else 0
        p = subprocess.Popen(["bash", path], cwd=work, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.time() + 60
        while p.poll() is None and (os.path.getsize(records) if os.path.exists(records) else 0) <= before and time.time() < deadline:
            time.sleep(0.01)
        time.sleep(draw.random() * 0.1)
        order = order or draw.sample(list(LIMITS), len(LIMITS))  # each in turn, in any order
        how, code, met = order.pop(), None, p.poll() is None
        newest = max(newest, newest_checkpoint(folder))
        for what in LIMITS[how]:
            if what == signal.SIGKILL and p.poll() is None:  # the script, mpirun and the ranks, as a step's whole container
                code = "killed"
                os.killpg(p.pid, what)
            sent(what, processes(f"run.name={name}"))  # as --signal=USR1 without B: to the job's steps
            if what != LIMITS[how][-1]:
                time.sleep(draw.random() * 0.05)
        try:
            p.wait(20)
        except subprocess.TimeoutExpired:  # Open MPI 4.1.4's mpirun can hang in its own end when all ranks have gone
            code = "a job that hangs" if processes(f"run.name={name}") else "mpirun stayed"
            os.killpg(p.pid, signal.SIGKILL)
            sent(signal.SIGKILL, processes(f"run.name={name}"))
            p.wait()
        while processes(f"run.name={name}"):
            time.sleep(0.02)
        code, there, steps = p.returncode if code is None else code, newest_checkpoint(folder), taken_up(folder)[said:]
        newest = max(newest, there)
        # Killed jobs are requeued by the scheduler itself, stopped ones by their script; a stop leaves a checkpoint of its step.
        asked = os.path.exists(requeued)
        if asked:
            os.remove(requeued)
        good = (code in (0, "killed", "mpirun stayed") or (code == 75 and asked and there == step_of(name))) and (not due or steps[-1:] >= [due])
        starts.append((how, met, code, good))
        if not good:
            print(f"{name}, start {restart}, {how}: {code}, went on from {steps} of {due}, newest {there}, requeued {asked}")
            return False
        if code == 0:
            break
    return os.path.exists(f"{folder}/DONE") and digest(folder) == expected


results = side_by_side(batch_job, range(count(3, 300, 1000)))
killed, stayed = (sum(code == what for _, _, code, _ in starts) for what in ("killed", "mpirun stayed"))
tried = {how: [good for one, met, _, good in starts if one == how and (met or not good)] for how in LIMITS}
assert all(tried.values()) and killed > 0, (starts, "too late for one of the limits")
rows += [(f"starts that end by {how} (L2)", len(goods), goods.count(False)) for how, goods in tried.items()]
rows.append((f"jobs of {len(starts)} starts, {killed} killed (L2)", len(results), results.count(False)))
assert "did you mean" in varion("submit", "train", "optim.lrr=1", code=78)
varion("submit", code=64)
table("jobs", rows, [("mpirun itself stayed, of a signal (L1)", len(codes), codes.count("mpirun hung")),
                     ("mpirun itself stayed, under the stand-in (L2)", len(starts), stayed)])
