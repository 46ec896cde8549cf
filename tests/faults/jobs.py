"""L1 to L3 and what a job script does: wall time, requests for a checkpoint, signals once and twice, and whole jobs under a stand-in
for Slurm that runs the script of `varion submit`, signals, kills and requeues it."""
import glob, os, random, signal, stat, subprocess, time

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
draw = random.Random(11)
tried = failed = 0
for repeat in range(count(1, 6, 20)):
    for what in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
        for storm in (1, 50):
            name = f"signal-{what}-{storm}-{repeat}"
            p = subprocess.Popen(["mpirun", "-n", "2", VARION, "-q", "train", *whole, f"run.name={name}"], cwd=work, env=environment,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while p.poll() is None and not started(name):
                time.sleep(0.005)
            time.sleep(draw.random() * 0.05)
            ranks = processes(f"run.name={name}")
            victims = ranks if draw.random() < 0.5 else ranks[:1]
            for _ in range(storm if what != signal.SIGINT else 1):
                for pid in victims:
                    try:
                        os.kill(pid, what)
                    except ProcessLookupError:
                        pass
                time.sleep(0.001)
            code = p.wait(60)
            for _ in range(50):
                if not processes(f"run.name={name}"):
                    break
                time.sleep(0.05)
            varion("-q", "train", *whole, f"run.name={name}")
            tried += 1
            failed += code not in (0, 75) or digest(f"{work}/runs/{name}") != expected
rows.append(("signals to ranks, then the same bits (L1)", tried, failed))

# L2: the printed script under a stand-in for Slurm.
bin = f"{work}/bin"
os.makedirs(bin)
for name, body in (("srun", 'while [ "${1#--}" != "$1" ]; do shift; done\nexec mpirun -n "$SLURM_NTASKS" "$@"'),
                   ("scontrol", '[ "$1" = requeue ] && touch "$REQUEUED"')):
    with open(f"{bin}/{name}", "w") as f:
        f.write(f"#!/bin/bash\n{body}\n")
    os.chmod(f"{bin}/{name}", 0o755)
tried = failed = starts = 0
for number in range(count(3, 100, 300)):
    name = f"job-{number}"
    script = varion("submit", "--ranks=2", "--threads=1", "--time=00:10:00", "train", *whole, f"run.name={name}")
    assert "#SBATCH --signal=USR1@300 --requeue" in script and "#SBATCH --ntasks=2" in script
    path = f"{work}/{name}.sh"
    open(path, "w").write(script)
    for restart in range(60):
        requeued = f"{work}/{name}.requeued"
        env = dict(environment, PATH=f"{bin}:{os.environ['PATH']}", VARION=VARION, SLURM_NTASKS="2", SLURM_CPUS_PER_TASK="1",
                   SLURM_JOB_ID=str(1000 + number), SLURM_RESTART_COUNT=str(restart), REQUEUED=requeued)
        p = subprocess.Popen(["bash", path], cwd=work, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        starts += 1
        records = f"{work}/runs/{name}/metrics.jsonl"
        before = os.path.getsize(records) if os.path.exists(records) else 0
        deadline = time.time() + 60
        while p.poll() is None and (os.path.getsize(records) if os.path.exists(records) else 0) <= before and time.time() < deadline:
            time.sleep(0.01)
        time.sleep(draw.random() * 0.4)
        for pid in processes(f"run.name={name}"):  # as --signal=USR1 without B: to the job's steps
            try:
                os.kill(pid, signal.SIGUSR1)
            except ProcessLookupError:
                pass
        try:
            code = p.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            code = p.wait()
        while processes(f"run.name={name}"):
            time.sleep(0.02)
        if code == 0:
            break
        assert code == 75, code
        assert os.path.exists(requeued)
        os.remove(requeued)
    tried += 1
    failed += not os.path.exists(f"{work}/runs/{name}/DONE") or digest(f"{work}/runs/{name}") != expected
rows.append((f"jobs under the stand-in for Slurm (L2), {starts} starts", tried, failed))
assert "did you mean" in varion("submit", "train", "optim.lrr=1", code=78)
varion("submit", code=64)
table("jobs", rows)
