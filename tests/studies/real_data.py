"""Real data sets of the folder VARION_TEST_DATA (mnist, cifar10, uci): they load, and networks learn on them."""
import json, lzma, os, re, shutil, subprocess, sys

data = os.environ.get("VARION_TEST_DATA")
if not data:
    print("[skipped] set VARION_TEST_DATA to a folder with mnist, cifar10 and uci")
    sys.exit(77)
work = os.path.abspath("real-data-test")
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work + "/cifar10")


def run(*words):
    p = subprocess.run([os.environ["VARION_BIN"], *words], cwd=work, capture_output=True, text=True)
    assert p.returncode == 0, (words, p.returncode, p.stdout, p.stderr)
    return p.stdout


def final(name):
    return json.load(open(f"{work}/runs/{name}/status.json"))["metrics"]


mnist = ["data.name=idx", f"data.path={data}/mnist"]
said = run("data", "info", *mnist, f"data.ood_path={data}/emnist-letters/emnist-letters-test-images-idx3-ubyte.gz")
assert "60000 training, 10000 test, 20800 shifted examples of [28, 28, 1], 10 classes" in said, said
run("train", "model.preset=mnist-lenet-adamw", *mnist, "data.train_size=4000", "data.test_size=1000", "train.epochs=2",
    "eval.samples=4", "run.name=mnist")
assert final("mnist")["test/acc"] > 0.85 and final("mnist")["test/nll"] < 0.5, final("mnist")

for name in os.listdir(f"{data}/cifar10"):
    if name.endswith(".bin.xz"):
        with lzma.open(f"{data}/cifar10/{name}") as packed, open(f"{work}/cifar10/{name[:-3]}", "wb") as plain:
            shutil.copyfileobj(packed, plain)
cifar = ["data.name=cifar10", "data.path=cifar10"]
said = run("data", "info", *cifar)
assert "50000 training, 10000 test" in said and "[32, 32, 3], 10 classes" in said, said
said = run("train", "model.name=resnet20", *cifar, "data.global_batch=16", "train.steps=60",
           "optim.name=adamw", "optim.lr=0.002", "data.test_size=100", "eval.samples=1", "log.every=1st", "run.name=cifar")
assert "resnet20: 274042 parameters" in said, said
losses = [json.loads(line).get("train_loss") for line in open(f"{work}/runs/cifar/metrics.jsonl")]
losses = [v for v in losses if v is not None]
assert len(losses) == 60 and abs(losses[0] - 2.4) < 0.5, losses[0]  # about ln 10
assert sum(losses[-15:]) < sum(losses[:15]) - 2.25, losses  # 0.15 a step

for name, rows in (("concrete", 1030), ("energy", 768), ("power-plant", 9568), ("wine-quality-red", 1599), ("yacht", 308)):
    for split in range(20):
        said = run("data", "info", "data.name=uci", f"data.path={data}/uci/{name}", f"data.split={split}")
        train, test = map(int, re.search(r": (\d+) training, (\d+) test", said).groups())
        assert train + test == rows and abs(test / rows - 0.1) < 0.01, (name, split, said)
run("train", "data.name=uci", f"data.path={data}/uci/yacht", "model.sizes=50", "optim.name=adamw", "optim.lr=0.01",
    "train.epochs=60", "data.global_batch=32", "run.name=yacht")
run("train", "data.name=uci", f"data.path={data}/uci/yacht", "train.epochs=2", "run.name=wild")  # predicted variances far out
assert abs(final("wild")["test/nll"]) < 1000, final("wild")
assert final("yacht")["test/rmse"] < 4, final("yacht")  # the target's standard deviation is 15
print("real data: all checks passed")
