"""Settings mean what they say: rates, intervals, clipping, what is kept as the best, where a run starts, what a text begins with."""
import gzip, json, os, struct

from command import in_folder

work, run = in_folder("settings-test")
small = ["-q", "train", "data.name=moons", "model.sizes=8", "data.train_size=100", "data.global_batch=10", "eval.samples=2"]


def rows(name, key):
    return [row for row in map(json.loads, open(f"{work}/runs/{name}/metrics.jsonl")) if key in row]


def final(name):
    return json.load(open(f"{work}/runs/{name}/status.json"))["metrics"]


# The paper's schedule has one rate an epoch: a warm-up of less than one is none.
for name, warmup in (("none", "0st"), ("short", "1st"), ("whole", "2ep")):
    run(*small, "train.epochs=3", "log.every=1st", "eval.every=0st", "optim.schedule=paper", "optim.lr=0.1", f"optim.warmup={warmup}", f"run.name=paper-{name}")
rates = {name: [row["lr"] for row in rows(f"paper-{name}", "lr")] for name in ("none", "short", "whole")}
assert rates["none"] == rates["short"] and max(rates["none"]) == 0.1, rates
assert rates["whole"][0] == 0.05 and abs(rates["whole"][10] - 0.075) < 1e-9, rates["whole"]

# What is above zero is at least a step.
run(*small, "data.val_size=20", "train.epochs=1", "log.every=0.01ep", "eval.every=0.4st", "checkpoint.every=0.01ep", "checkpoint.keep=20", "run.name=often")
assert len(rows("often", "train_loss")) == 8 and len(rows("often", "val_at_mean/nll")) == 9, rows("often", "step")
assert len(os.listdir(f"{work}/runs/often/checkpoints")) >= 8
run(*small, "train.epochs=0.01", "eval.every=0st", "run.name=least")
assert json.load(open(f"{work}/runs/least/status.json"))["step"] == 1

# The last state competes for best.h5 too, and figures at the mean and averaged ones have names of their own.
run(*small, "data.val_size=40", "train.epochs=1", "run.name=best")
assert os.path.exists(f"{work}/runs/best/best.h5")
m = final("best")
assert m["val_at_mean/nll"] != m["val/nll"] and m["val_at_mean/nll"] == rows("best", "val_at_mean/nll")[-2]["val_at_mean/nll"], m
run("posterior", "info", "runs/best/best.h5")
# Going on, a worse state does not take its place.
before = open(f"{work}/runs/best/best.h5", "rb").read()
run(*small, "data.val_size=40", "train.epochs=2", "eval.every=1ep", "optim.lr=50", "run.name=best")
later = [row["val_at_mean/nll"] for row in rows("best", "val_at_mean/nll")]
assert (open(f"{work}/runs/best/best.h5", "rb").read() == before) == (min(later) == m["val_at_mean/nll"]), later
for metric in ("val/accuracy", "test/foo", "nll"):
    assert "is no metric of the validation set" in run(*small, f"checkpoint.best={metric}", "run.name=named", code=78)
assert not os.path.exists(f"{work}/runs/named/checkpoints") or not os.listdir(f"{work}/runs/named/checkpoints")
os.makedirs(f"{work}/study")
with open(f"{work}/study/study.ini", "w") as f:
    f.write("[study]\nquestion = q\nreport = test/nll, val/nll\nseeds = 1\n[cases]\nivon = optim.name=ivon data.name=moons model.sizes=8 data.val_size=40 "
            "train.steps=20 eval.samples=2\n")
said = run("study", "run", "study") + run("study", "report", "study")
averaged, at_mean = ([line.split() for line in said.splitlines() if line.startswith(start)][-1] for start in ("ivon  ", "ivon at the mean"))
assert averaged[-1] != at_mean[-1] and averaged[-2] != at_mean[-2], said
with open(f"{work}/study/study.ini", "w") as f:
    f.write("[study]\nquestion = q\nreport = test/nll\nseeds = 1\n[vary]\noptim.lr = 0.1,0.2\noptim.lr = 0.3\n")
assert "is an axis already" in run("study", "plan", "study", code=78)

# A point estimate's gradient is clipped once, however many slots it is the mean of.
clipped = [*small, "train.steps=4", "log.every=1st", "eval.every=0st", "data.global_batch=20", "optim.name=adamw", "optim.lr=0.05"]
for slots in (1, 4):
    run(*clipped, "optim.grad_clip=0.1", f"parallel.slots={slots}", f"run.name=clip-{slots}")
for a, b in zip(rows("clip-1", "grad_norm"), rows("clip-4", "grad_norm")):
    assert all(abs(a[key] - b[key]) < 1e-4 * abs(a[key]) for key in ("grad_norm", "train_loss")), (a, b)
run(*clipped, "run.name=clip-none")
assert rows("clip-none", "train_loss")[-1]["train_loss"] != rows("clip-1", "train_loss")[-1]["train_loss"]
assert "or -1" in run(*small, "optim.weight_decay_1d=-0.5", "run.name=decay", code=78)

# The Hessian of a language model is taken up under the names that its file has.
text = ["-q", "train", "model.name=gpt2", "model.layers=1", "model.heads=2", "model.width=8", "data.name=sentences", "data.length=8", "data.train_size=40",
        "data.test_size=10", "train.steps=3", "eval.every=0st", "eval.samples=1", "optim.name=ivon", "optim.ess=1e4"]
run(*text, "run.name=first")
run(*text, "model.init=runs/first/final.h5", "model.init_hess=true", "run.name=second")
run("posterior", "export", "runs/first/final.h5", "--out=first.safetensors", "--states=hess")
run(*text, "model.init=first.safetensors", "model.init_hess=true", "run.name=third")
assert final("second")["mean/nll"] == final("third")["mean/nll"] != final("first")["mean/nll"]
said = run(*text[1:], "model.positions=64", "run.name=long")
assert "trains that many of the 64 positions" in said, said
assert len(run("sample", "runs/long/final.h5", "--tokens=30", "--prompt=the ")) > 30

# A text without a prompt begins though its alphabet has no new line; an empty prompt is none.
with open(f"{work}/abc.txt", "w") as f:
    f.write("abcabc" * 200)
run(*[w for w in text if "data.name" not in w], "data.name=text", "data.path=abc.txt", "run.name=abc")
assert set(run("sample", "runs/abc/final.h5", "--tokens=20").strip()) <= set("abc")
assert "--prompt is empty" in run("sample", "runs/abc/final.h5", "--prompt", "", code=64)
assert "alphabet" in run("sample", "runs/abc/final.h5", "--prompt=\n", code=65)
assert "no effect" in run("evaluate", "runs/best/final.h5", "model.width=3")

# The path of unknown images is one as others are: below data.root, plain or gzipped.
os.makedirs(f"{work}/root/digits")
for name, count in (("train", 6), ("t10k", 4), ("other", 4)):
    with open(f"{work}/root/digits/{name}-images-idx3-ubyte", "wb") as f:
        f.write(struct.pack(">iiii", 2051, count, 3, 3) + bytes(range(9 * count)))
    with open(f"{work}/root/digits/{name}-labels-idx1-ubyte", "wb") as f:
        f.write(struct.pack(">ii", 2049, count) + bytes(k % 2 for k in range(count)))
plain = f"{work}/root/digits/other-images-idx3-ubyte"
with open(plain, "rb") as f, gzip.open(plain + ".gz", "wb") as packed:
    packed.write(f.read())
os.remove(plain)
run("-q", "train", "data.name=idx", "data.root=root", "data.path=digits", "data.ood_path=digits/other-images-idx3-ubyte", "model.name=mlp", "model.sizes=4",
    "data.global_batch=2", "train.steps=2", "run.name=ood")
assert "test/ood_auroc" in final("ood")

assert "are frozen together" in run("-q", "train", "data.name=glyphs", "model.name=resnet20", "model.freeze=stem.norm.gamma", "run.name=frn", code=78)
print("settings: all as they say")
