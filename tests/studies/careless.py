"""What a slip of the hand must not cost: results of earlier runs, files, and figures that are true."""
import csv, glob, io, json, math, os, shutil, signal, subprocess, time

from command import VARION, in_folder

work, run = in_folder("careless-test")
small = ["-q", "train", "data.name=moons", "model.sizes=8", "train.steps=20", "eval.samples=2", "eval.every=0st"]


def files(name):
    return {p: open(p, "rb").read() for p in glob.glob(f"{work}/runs/{name}/**", recursive=True) if os.path.isfile(p) and "log.txt" not in p and ".lock" not in p}


def metric(name, key):
    return json.load(open(f"{work}/runs/{name}/status.json"))["metrics"][key]


# A run is overwritten only once the new one can begin; it may begin from what it overwrites.
run(*small, "run.name=a")
before = files("a")
afresh = ["run.name=a", "run.resume=never", "run.overwrite=true"]
run(*small, *afresh, "model.init=nofile.h5", code=66)
run(*small, *afresh, "model.init=runs/a/final.h5", "model.sizes=9", code=65)
run(*small, "run.name=a", "run.resume=never", code=73)
assert files("a") == before
run(*small, *afresh, "model.init=runs/a/final.h5")
assert files("a") != before
run(*small, *afresh)

# One that has finished says that other settings had no part in it, and is left alone without its checkpoints too.
said = run(*small[1:], "run.name=a", "optim.lr=0.7", "run.overwrite=true")
assert "optim.lr" in said and "-> 0.7" in said and "no part" in said and "only with run.resume=never" in said, said
shutil.rmtree(f"{work}/runs/a/checkpoints")
before = files("a")
assert "finished before, at step 20" in run(*small[1:], "run.name=a")
assert "no checkpoint to go on from" in run(*small, "run.name=a", "train.steps=30", code=73)
os.remove(f"{work}/runs/a/DONE")
before = {p: b for p, b in before.items() if not p.endswith("DONE")}
run(*small, "run.name=a", code=73)
assert files("a") == before

# A damaged checkpoint takes no place of a good one that is written after it.
run(*small, "run.name=p", "checkpoint.every=5st", "train.stop_after=10", code=75)
newest = f"{work}/runs/p/checkpoints/step-0000000010.h5"
data = bytearray(open(newest, "rb").read())
data[3000] ^= 1
open(newest, "wb").write(data)
run(*small, "run.name=p", "checkpoint.keep=1", "train.stop_after=8", code=75)
assert os.path.exists(f"{work}/runs/p/checkpoints/step-0000000008.h5")
assert "continuing from" in run(*small[1:], "run.name=p") and os.path.exists(f"{work}/runs/p/final.h5")

# A state with numbers that are none is not written even where training goes on, and nothing good goes for it.
wild = ["data.name=linreg", "optim.name=sgd", "optim.lr=1e3", "optim.schedule=constant", "checkpoint.every=1st", "train.steps=60", "run.name=w"]
assert "was not written" in run("-q", "train", *wild, "train.stop_on_nonfinite=false")
kept = sorted(os.listdir(f"{work}/runs/w/checkpoints"))
assert kept and "step-0000000060.h5" not in kept and not os.path.exists(f"{work}/runs/w/final.h5")
for name in kept:
    run("posterior", "info", f"runs/w/checkpoints/{name}")

# Outputs that are not finite: no endless search for their order, and figures that say so.
run(*small, "model.sizes=8,8,8,8,8", "train.steps=1", "optim.name=adamw", "optim.lr=1e9", "run.name=n")
assert metric("n", "test/auroc") is None and metric("n", "test/nll") is None
run(*small, "data.val_size=50", "eval.every=1st", "train.steps=40", "optim.name=sgd", "optim.schedule=step", "optim.lr=300", "run.seed=4", "run.name=b")
assert "val/nll" in run(*small, "data.val_size=50", "eval.every=5st", "checkpoint.best=val/foo", "run.name=f", code=78)

# Files are not written over, least of all over what is read.
run(*small, "run.name=e")
before = files("e")
run("posterior", "export", "runs/e/final.h5", "--out=runs/e/final.h5", code=73)
run("posterior", "export", "runs/e/final.h5", "--out=runs/e/../e/final.h5", "--force", code=73)
run("posterior", "export", "runs/e/final.h5", "--out=e.safetensors")
run("posterior", "export", "runs/e/final.h5", "--out=e.safetensors", code=73)
run("posterior", "export", "runs/e/final.h5", "--out=e.safetensors", "--force")
run("verify", "backend", "data.name=moons", "--steps=2", "--record=runs/e/final.h5", code=73)
run("verify", "resume", "data.name=moons", "--force", code=64)
assert files("e") == before
open(f"{work}/t.bin", "w").write("some text to be encoded")
run("data", "convert", "t.bin", "t.bin", "--tokenizer=bytes", "--force", code=73)
assert open(f"{work}/t.bin").read() == "some text to be encoded"

# A step is done again with the settings that it was done with.
run(*small, "run.name=r", "train.stop_after=10", code=75)
run(*small, "run.name=r", "optim.lr=0.2")
assert "steps 11 to 20" in run("verify", "replay", "runs/r")
run(*small, "run.name=r", "train.steps=30")
assert "steps 21 to 30" in run("verify", "replay", "runs/r")

# What no config file can hold is refused; what looks like a comment and is none is kept.
os.makedirs(f"{work}/da#ta")
open(f"{work}/da#ta/t.txt", "w").write("a text of some words. " * 40)
text = ["-q", "train", "data.name=text", "data.length=8", "model.name=gpt2", "model.layers=1", "model.heads=2", "model.width=16", "data.global_batch=4", "train.steps=2"]
run(*text, "data.path=da#ta/t.txt", "run.name=h")
run("evaluate", "runs/h/final.h5")
run(*text, "data.path= t.txt", code=78)
run(*text, "data.path=da #ta/t.txt", code=78)
open(f"{work}/bom.ini", "w", encoding="utf-8-sig").write("[data]\nname = moons  # two of them\n")
assert "byte-order mark" in run("config", "show", "bom.ini", code=78)
assert "did you mean 'VARION_OPTIM_LR'" in run(*small, code=78, VARION_OPTIM_LRR="3")
run(*small, "run.walltime=-00:01:00", code=78)
run("submit", "--time=soon", "train", "data.name=moons", code=64)
run("info", "--json", code=64)
assert run("info").endswith("all good\n") and "MPI " in run("info") and "HDF5 " in run("info")
run(*small, "optim.beta1=1", code=78)
run("submit", "study", "run", "nofolder", code=66)
assert "wants images" in run(*small, "model.name=lenet", code=78)
assert "not enough memory" in run(*small, "model.sizes=10000000,10000000", code=69,
                                  ASAN_OPTIONS=os.environ.get("ASAN_OPTIONS", "") + ":allocator_may_return_null=1")
assert "is a folder" in run("verify", "optimizer", "--trace=runs", code=65)
open(f"{work}/e.json", "w").write('{"format": "varion-optimizer-trace-1"}')
run("verify", "optimizer", "--trace=e.json", code=65)
assert "all training examples" in run(*small, "data.train_size=25", "data.global_batch=26", "parallel.slots=2", code=78)
assert "more than" in run(*small, "data.train_size=25", "parallel.slots=32", code=78)

# A closed terminal ends a run as a request does, with a checkpoint; whoever read its log may leave.
p = subprocess.Popen([VARION, *small[1:], "run.name=hup", "train.steps=100000000"], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
p.stdout.readline()
deadline = time.time() + 60
while "running" not in open(f"{work}/runs/hup/status.json").read() and time.time() < deadline:
    time.sleep(0.05)
time.sleep(0.5)
p.stdout.close()
p.send_signal(signal.SIGHUP)
assert p.wait() == 75 and len(os.listdir(f"{work}/runs/hup/checkpoints")) == 1
if os.path.exists("/dev/full"):
    with open("/dev/full", "w") as full:
        assert subprocess.run([VARION, "config", "template"], stdout=full, stderr=subprocess.DEVNULL).returncode == 74
        assert subprocess.run([VARION, *small[1:], "run.name=full"], cwd=work, stdout=full, stderr=subprocess.DEVNULL).returncode == 0

# Reports: an arm without results has none, labels and numbers of any length and kind stand in their own cells.
os.makedirs(f"{work}/study")


def study(text):
    open(f"{work}/study/study.ini", "w").write(text)


head = "[study]\nquestion = what if\nbase = base.ini\nreport = test/nll, test/acc\n"
open(f"{work}/study/base.ini", "w").write("[data]\nname = moons\n[model]\nsizes = 8\n[train]\nsteps = 20\n[eval]\nsamples = 2\n")
long = "an arm, with a \"name\" that is longer than any cell of a table would be made to hold by anybody"
study(head + f"seeds = 1,2\n[cases]\n{long} = optim.name=ivon\nbad = optim.name=sgd optim.lr=100000000 model.sizes=32,32,32\nnone = optim.name=adamw optim.lr=1e9 model.sizes=8,8,8,8,8 train.steps=1\n")
run("study", "run", "study", code=10)
table = list(csv.reader(io.StringIO(run("study", "report", "study", "--format=csv"))))
assert [len(row) for row in table] == [6] * 5, table
assert table[1][0] == long and table[1][1] == "2" and float(table[1][2]) > 0 and table[2][0] == long + " at the mean"
assert table[3] == ["bad", "0", "", "", "", ""]
assert table[4][:2] == ["none", "2"] and math.isnan(float(table[4][2])), table
assert "2 missing or diverged" in run("study", "report", "study")
study(head.replace("test/acc", "test/accu") + f"seeds = 1,2\n[cases]\n{long} = optim.name=ivon\n")
assert "did you mean 'test/acc'" in run("study", "report", "study", code=78)
study(head + "seeds = 1\n[cases]\none = optim.name=sgd\n..  = optim.name=adamw\n")
run("study", "run", "study")
assert "+-" not in run("study", "report", "study").split("seeds")[1]
for wrong in ("seeds = 1,1\n[cases]\na = optim.name=sgd\n", "seeds = 1\n[vary]\nrun.seed = 1,2\n", "seeds = 1\n[vary]\nmodel.sizes = 8,8\n",
              "seeds = 1\n[cases]\na = optim.name=sgd\na = optim.name=ivon\n"):
    study(head + wrong)
    run("study", "plan", "study", code=78)
study(head + "seeds = 1\n[cases]\na = data.name=idx data.path=nowhere\n")
run("study", "run", "study", code=66)
