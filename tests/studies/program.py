"""The program as a user meets it: exit codes, one-line errors, resume by signal, h5py, a small study."""
import os, shutil, signal, subprocess, sys, time

try:
    import h5py
except ImportError:
    print("[skipped] python3-h5py is not installed")
    sys.exit(77)

VARION = os.environ["VARION_BIN"]
work = os.path.abspath("program-test")
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work)


def run(*words, code=0):
    p = subprocess.run([VARION, *words], cwd=work, capture_output=True, text=True)
    assert p.returncode == code, (words, p.returncode, p.stdout, p.stderr)
    if code not in (0, 75):
        assert len(p.stderr.strip().splitlines()) >= 1, (words, p.stderr)
    return p.stdout + p.stderr


small = ["data.name=moons", "model.sizes=8", "train.steps=30", "eval.samples=2", "eval.every=0st"]

run(code=64)
assert "did you mean 'train'" in run("trian", code=64)
assert "did you mean 'optim.lr'" in run("train", "optim.lrr=1", code=78)
assert "command line" in run("train", "optim.lr=abc", code=78)
assert "known:" in run("train", "optim.name=adam", code=78)
assert "known:" in run("train", "model.name=nope", code=78)
assert "known:" in run("train", "data.name=nope", code=78)
run("train", "run.name=../x", code=78)
run("train", "optim.warmup=5", code=78)
run("train", "nofile.ini", code=66)
run("evaluate", "nofile.h5", code=66)
run("posterior", "info", VARION, code=65)
run("train", *small, "run.dir=/proc/nowhere", code=73)
run("train", *small, "run.name=div", "optim.name=sgd", "optim.lr=1e9", "model.sizes=32,32,32", code=10)
run("study", "plan", "nofolder", code=66)
run("evaluate", "--bogus=1", code=64)

# Resume after stopping, by option and by signal; the result is that of the unbroken run.
run("train", *small, "run.name=whole")
run("train", *small, "run.name=part", "train.stop_after=11", code=75)
run("train", *small, "run.name=part", "run.resume=must")
long = ["data.name=moons", "model.sizes=8", "train.steps=4000", "eval.samples=2", "eval.every=0st", "checkpoint.every=0st"]
p = subprocess.Popen([VARION, "train", *long, "run.name=signal"], cwd=work, stdout=subprocess.DEVNULL)
time.sleep(0.4)
p.send_signal(signal.SIGUSR1)
assert p.wait(60) in (75, 0)
run("train", *long, "run.name=signal")
run("train", *long, "run.name=nosignal")
for one, two in (("whole", "part"), ("signal", "nosignal")):
    a, b = (h5py.File(f"{work}/runs/{n}/final.h5", "r") for n in (one, two))
    for group in ("params", "optim/hess", "optim/momentum"):
        assert list(a[group]) == list(b[group]) and len(a[group]) == 4
        for name in a[group]:
            assert a[group][name].shape == b[group][name].shape
            assert (a[group][name][()] == b[group][name][()]).all(), (group, name)
    assert a.attrs["format"] == "varion-posterior" and a.attrs["complete"] == "true"
    assert a["optim"].attrs["step"] == b["optim"].attrs["step"]
steps = [line.split('"step":')[1].rstrip("}\n") for line in open(f"{work}/runs/signal/metrics.jsonl")]
assert len([s for s in steps if s == "4000"]) <= 2 and len(steps) == len(open(f"{work}/runs/nosignal/metrics.jsonl").readlines())
assert not [f for _, _, files in os.walk(work) for f in files if f.endswith(".tmp")]

# A two-arm study: run, run again (skipped), report.
os.makedirs(work + "/study")
with open(work + "/study/study.ini", "w") as f:
    f.write("[study]\nquestion = test\nbase = base.ini\nseeds = 1,2\nreport = test/acc, test/nll\n[vary]\noptim.name = ivon, sgd\n")
with open(work + "/study/base.ini", "w") as f:
    f.write("[data]\nname = moons\n[model]\nsizes = 8\n[train]\nsteps = 20\n[eval]\nsamples = 2\n")
assert run("study", "run", "study").count("test/acc") == 4
assert run("study", "run", "study").count("done before") == 4
table = run("study", "report", "study")
assert "optim.name=ivon at the mean" in table and "optim.name=sgd" in table
csv = run("study", "report", "study", "--format=csv").splitlines()
assert csv[0] == "arm,n,test/acc,test/acc_se,test/nll,test/nll_se" and len(csv) == 4
assert run("study", "status", "study").count("done") == 4
assert "layers.0.weight" in run("posterior", "layers", "runs/whole/final.h5")
run("evaluate", "runs/whole/final.h5", "--samples=3")
run("config", "template")
show = run("config", "show", "optim.lr=3")
assert "lr = 3  # command line" in show
print("program: all checks passed")
