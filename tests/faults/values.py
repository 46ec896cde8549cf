"""U7: one number of a run of four ranks goes wrong: not finite, huge or denormal; in the inputs, the weights, the noise, an activation,
the loss, a gradient, or a state vector; on any rank; in the first, a middle or the last step. All ranks find it in that step and decide
alike by the policy, and no file ever holds a number that is not finite. U8, from outside: a flipped bit is found by verify replay."""
import glob, json, random, re, shutil, subprocess

from whole_jobs import *

needs("mpirun")
work = workplace("values-test")
STEPS = {"first": 1, "middle": 13, "last": 24}
job = ["data.name=moons", "model.sizes=16", "data.global_batch=32", "eval.samples=2", "eval.every=0st", "checkpoint.every=5st",
       "train.steps=24", "log.every=8st", "parallel.slots=4", "optim.ess=1000", "optim.beta2=0.999", "train.spike_window=8"]
BAD = ["nan", "+inf", "-inf"]
VALUES = [*BAD, "1e38", "denormal"]
PLACES = ["input", "weight", "activation", "loss", "gradient", "hess", "momentum", "noise"]


def run(ranks, *words, program=INJECT):
    launcher = ["mpirun", "-n", str(ranks)] if ranks else []
    return subprocess.run([*launcher, program, "-q", *words], cwd=work, capture_output=True, text=True, env=environment, timeout=120)


def wrong_files(folder):
    """Files of the run that hold a number that is not finite."""
    out = []
    for path in glob.glob(f"{folder}/**/*.h5", recursive=True):
        with h5py.File(path) as f:
            f.visititems(lambda n, d: out.append(f"{path}:{n}") if isinstance(d, h5py.Dataset) and n.split("/")[0] in ("params", "optim")
                         and not (abs(d[()]) < 3.5e38).all() else None)
    return out


def what_went_wrong(policy, place, value, step, p, folder):
    lines = [line for line in p.stderr.splitlines() if line.startswith("varion: ")]
    text, problems = (lines or [""])[0], wrong_files(folder)
    log = open(f"{folder}/log.txt").read()
    found = p.returncode == 10 and f"step {step}:" in text
    if p.returncode != 0 and len(lines) != 1:
        problems.append(f"{len(lines)} lines of a cause")
    if value not in BAD:  # found, on whatever way, or harmless; never silently wrong
        return problems + ([] if p.returncode in (0, 10, 70) else [f"ended with {p.returncode}"])
    if policy in ("off", "stop"):
        if not found:
            problems.append(f"not found in the step: {p.returncode} {text}")
        # Where it lies is named, but for a loss, which is in no vector.
        if place != "loss" and not re.search(r"the first in \w+ of [\w.]+\[\d+\]", text):
            problems.append("without its place: " + text)
        state = json.load(open(f"{folder}/status.json"))["state"]
        if state != "diverged":
            problems.append("state " + state)
    elif policy == "skip" and place in ("hess", "momentum"):  # there is no sound state any more
        if p.returncode != 10:
            problems.append(f"went on: {p.returncode}")
    else:
        skipped = [json.loads(line) for line in open(f"{folder}/metrics.jsonl") if "skipped" in line]
        if p.returncode != 0 or len(skipped) != 1 or skipped[0]["step"] != step or (policy == "rollback") != ("; back to step" in log):
            problems.append(f"{p.returncode} {text} {skipped}")
    return problems


every = [("stop", place, value, rank, when) for place in PLACES for value in VALUES for rank in range(4) for when in STEPS]
sample = random.Random(8)
others = [(policy, place, value, sample.randrange(4), sample.choice(list(STEPS))) for policy in ("off", "skip", "rollback") for place in PLACES for value in VALUES]
few = [("stop", "input", "nan", 0, "first"), ("stop", "gradient", "-inf", 3, "last"), ("off", "momentum", "+inf", 2, "middle"),
       ("off", "loss", "nan", 1, "middle"), ("skip", "weight", "nan", 2, "middle"), ("rollback", "hess", "+inf", 1, "last"),
       ("rollback", "activation", "-inf", 3, "middle"), ("stop", "noise", "1e38", 1, "middle")]
assert len(every) == 480
rows, ends = {}, {}
for policy, place, value, rank, when in count(few, every + others, every + others):
    folder = f"{work}/runs/case"
    shutil.rmtree(folder, ignore_errors=True)
    words = ["train", *job, "run.name=case", f"train.spike_policy={policy}", f"--inject={place}:{STEPS[when]}:{rank}:{value}:{sample.randrange(1000)}"]
    p = run(4, *words)
    problems = what_went_wrong(policy, place, value, STEPS[when], p, folder)
    for title in (f"{value} with the policy {policy}", f"in {place}"):
        row = rows.setdefault(title, [0, 0])
        row[0] += 1
        row[1] += bool(problems)
    if value not in BAD:
        ends.setdefault(value, {}).setdefault(p.returncode, []).append(place)
    if problems:
        print(words[-2:], p.returncode, problems, flush=True)
for value, codes in ends.items():
    print(f"{value}: " + ", ".join(f"{len(places)} ended with {code}" for code, places in sorted(codes.items())))

# A spike by size, stopped and resumed around it on other numbers of ranks: the bits and records of the unbroken run.
for policy in ("skip", "rollback"):
    words = ["train", *job, f"train.spike_policy={policy}", "log.state_hash_every=6st", "train.spike_sigma=6"]
    spike = "--inject=gradient:13:0:leap:7"
    assert run(4, *words, f"run.name=whole-{policy}", spike).returncode == 0
    expected = digest(f"{work}/runs/whole-{policy}")
    assert len([1 for line in open(f"{work}/runs/whole-{policy}/metrics.jsonl") if "leaps" in line]) == 1, policy
    problems = 0
    cases = [(stop, before, after) for stop in (3, 11, 12, 13, 14, 18) for before in (1, 2, 4) for after in (0, 4)]
    some = sample.sample(cases, count(2, len(cases), len(cases)))
    for stop, before, after in some:
        name = f"part-{policy}-{stop}-{before}-{after}"
        first = run(before, *words, f"run.name={name}", f"train.stop_after={stop}", spike)
        second = run(after, *words, f"run.name={name}", spike)
        good = first.returncode == 75 and second.returncode == 0 and digest(f"{work}/runs/{name}") == expected
        problems += not good
        if not good:
            print(name, first.returncode, first.stderr, second.returncode, second.stderr)
    rows[f"stopped and resumed with the policy {policy}"] = [len(some), problems]
# More spikes than the limit end the run.
p = run(0, "train", *job, "run.name=many", "train.spike_policy=skip", "train.spike_limit=1", "--inject=loss:5:0:nan", "--inject=loss:7:0:nan")
rows["more spikes than the limit"] = [1, int(p.returncode != 10 or "step 7: loss nan is not finite; more than train.spike_limit = 1" not in p.stderr)]

# A bit that flips unseen. On one rank of several, the ranks' states differ, which the next hash shows; on one rank alone, its replay.
quiet = ["train", *job, "log.state_hash_every=1st", "checkpoint.keep=9"]
p = run(2, *quiet, "run.name=apart", "--inject=hess:13:1:flip3:5")
rows["a flip on one of two ranks"] = [1, int(p.returncode != 70 or "step 13: the state on rank 1 is not that on rank 0" not in p.stderr)]
assert run(0, *quiet, "run.name=flipped", "--inject=momentum:13:0:flip20:9").returncode == 0
assert run(0, *quiet, "run.name=sound").returncode == 0
failed = 0
for name, step, code in (("sound", 13, 0), ("sound", 24, 0), ("flipped", 12, 0), ("flipped", 13, 70), ("flipped", 15, 70), ("flipped", 16, 0)):
    p = run(0, "verify", "replay", f"runs/{name}", f"--step={step}", program=VARION)
    bad = p.returncode != code or ("WRONG" in p.stdout) != (code == 70)
    failed += bad
    if bad:
        print(name, step, p.returncode, p.stdout, p.stderr)
p = run(2, "verify", "replay", "runs/flipped", "--step=14", program=VARION)
failed += p.returncode != 70
for words, code, message in ((["runs/sound", "--step=25"], 65, "no hash of the state"), (["runs/nowhere"], 66, "holds no run"), (["runs/sound", "--step=x"], 64, "--step")):
    p = run(0, "verify", "replay", *words, program=VARION)
    failed += p.returncode != code or message not in p.stderr
rows["replays, and replays refused"] = [10, failed]

# The program itself knows none of this.
p = run(0, "train", *job, "run.name=refused", "--inject=loss:5:0:nan", program=VARION)
rows["--inject in the program itself"] = [1, int(p.returncode != 64 or b"--inject" in open(VARION, "rb").read() or b"--inject" not in open(INJECT, "rb").read())]
table("values that go wrong (U7, U8)", [(k, *r) for k, r in rows.items()])
