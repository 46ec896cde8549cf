"""D4: files whose digest is right and whose content is wrong are refused, naming the field."""
import hashlib, os, re, shutil, subprocess, sys

try:
    import h5py
    import numpy as np
except ImportError:
    print("[skipped] python3-h5py is not installed")
    sys.exit(77)

VARION = os.environ["VARION_BIN"]
work = os.path.abspath("foreign-test")
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work)


def run(*words):
    return subprocess.run([VARION, *words], cwd=work, capture_output=True, text=True)


p = run("train", "data.name=moons", "model.sizes=8", "train.steps=10", "eval.samples=1", "run.name=good", "optim.hess_init=0.3")
assert p.returncode == 0, p.stderr
good = open(f"{work}/runs/good/final.h5", "rb").read()


def sign(payload):
    text = b"varion-posterior 1\nbytes %d\nsha256 %s\n" % (len(payload), hashlib.sha256(payload).hexdigest().encode())
    return payload + text.ljust(192, b"\0")


# Signed as version 1.0 does, which needs nothing but SHA-256. What is in the file is refused by the same code.
released = open(f"{os.environ['VARION_SOURCE_DIR']}/tests/restart/posterior-1.0.h5", "rb").read()
assert sign(released[:-192]) == released


def payload_of(file):
    return file[:int(re.search(rb"\nbytes (\d+)\n", file[-192:])[1])]


good = payload_of(good)


def changed(change):
    path = f"{work}/changed.h5"
    with open(path, "wb") as f:
        f.write(good)
    with h5py.File(path, "r+") as f:
        change(f)
    payload = open(path, "rb").read()
    with open(path, "wb") as f:
        f.write(sign(payload))
    return run("evaluate", "changed.h5", "--samples=1")


def nothing(f):
    pass


def replace(name, data):
    def change(f):
        attributes = dict(f[name].attrs)
        del f[name]
        f[name] = data(f) if callable(data) else data
        for k in ("offset", "index"):
            if k in attributes:
                f[name].attrs[k] = attributes[k]
    return change


def attribute(where, name, value):
    def change(f):
        f[where].attrs[name] = value
    return change


def drop(name):
    def change(f):
        del f[name]
    return change


def drop_attribute(where, name):
    def change(f):
        del f[where].attrs[name]
    return change


weight, bias = "params/layers.0.weight", "params/layers.0.bias"
full = np.full((8, 2), 1, "f4")
nan = full.copy()
nan[3, 1] = np.nan
cases = [  # change, what the message must hold
    (attribute("/", "format", "other"), "format is 'other'"),
    (attribute("/", "format_version", "2.0.0"), "version 2.0.0 needs a newer Varion"),
    (drop("params"), "params"),
    (drop("optim"), "optim"),
    (drop("optim/hess"), "no optim/hess"),
    (drop("optim/momentum"), "no optim/momentum"),
    (drop("model"), "model"),
    (drop("data"), "data"),
    (drop("history"), "history"),
    (drop(bias), "tensors cover 34 of 42"),
    (drop("optim/hess/layers.0.bias"), "layers.0.bias"),
    (replace(weight, np.ones((8, 3), "f4")), "tensors"),
    (replace(weight, np.ones((4, 4), "f4")), "layers.0.weight"),
    (replace(weight, np.ones((8, 2), "i4")), "layers.0.weight"),
    (replace(weight, nan), "layers.0.weight is not finite at index 7"),
    (replace("optim/hess/layers.0.weight", np.full((8, 2), -1, "f4")), "not positive"),
    (replace("optim/hess/layers.0.weight", np.full((2, 8), 1, "f4")), "layers.0.weight"),
    (replace("optim/momentum/layers.0.weight", nan), "not finite"),
    (attribute(bias, "offset", 0), "tensors"),
    (attribute(bias, "offset", -5), "offset"),
    (attribute(bias, "offset", 1 << 39), "offset"),
    (attribute("optim", "step", -1), "step"),
    (attribute("optim", "step", "many"), "step"),
    (attribute("optim", "name", "nothing"), "nothing"),
    (attribute("optim", "name", "adamw"), "written by optimizer adamw"),
    (attribute("data", "digest", "1"), "digest"),
    (attribute("model", "config_ini", "[optim]\nlr = fast\n"), "config_ini:2"),
    (drop_attribute("model", "config_ini"), "config_ini"),
    (drop_attribute("optim", "step"), "step"),
    (drop_attribute(bias, "offset"), "offset"),
    (drop_attribute("/", "format"), "format"),
]
assert changed(nothing).returncode == 0, changed(nothing).stderr
bad = []
for number, (change, expected) in enumerate(cases):
    p = changed(change)
    lines = p.stderr.strip().splitlines()
    if p.returncode not in (65, 78) or len(lines) != 1 or "changed.h5" not in lines[0] or expected not in lines[0]:
        bad.append((number, expected, p.returncode, p.stderr[-300:]))

# A run that finds such a checkpoint of its own refuses it as well.
assert changed(drop_attribute("model", "config_ini")).returncode == 65
os.makedirs(f"{work}/runs/found/checkpoints")
shutil.copy(f"{work}/changed.h5", f"{work}/runs/found/checkpoints/step-0000000010.h5")
p = run("train", "data.name=moons", "model.sizes=8", "run.name=found")
assert p.returncode == 65 and "no model/config_ini" in p.stderr, (p.returncode, p.stderr)

# A dataset stored elsewhere, or never written, is no posterior either.
def outside(f):
    del f[bias]
    f[bias] = h5py.ExternalLink("other.h5", "/x")

def unwritten(f):
    attributes = dict(f[weight].attrs)
    del f[weight]
    d = f.create_dataset(weight, (1 << 20, 1 << 10), "f4", chunks=(1024, 1024))
    for k in ("offset", "index"):
        d.attrs[k] = attributes[k]

for name, change in (("external link", outside), ("unwritten gigabytes", unwritten)):
    p = changed(change)
    if p.returncode != 65 or len(p.stderr.strip().splitlines()) != 1:
        bad.append((name, p.returncode, p.stderr[-300:]))

# Resuming from a checkpoint whose place is wrong.
shutil.copytree(f"{work}/runs/good", f"{work}/runs/resumed")
os.remove(f"{work}/runs/resumed/DONE")
name = os.listdir(f"{work}/runs/resumed/checkpoints")[0]
for key in ("step", "samples_seen", "record_bytes", "record_sha256", "best"):
    with open(f"{work}/changed.h5", "wb") as f:
        f.write(payload_of(open(f"{work}/runs/good/checkpoints/{name}", "rb").read()))
    with h5py.File(f"{work}/changed.h5", "r+") as f:
        del f["train"].attrs[key]
    with open(f"{work}/runs/resumed/checkpoints/{name}", "wb") as f:
        f.write(sign(open(f"{work}/changed.h5", "rb").read()))
    p = run("train", "data.name=moons", "model.sizes=8", "train.steps=20", "eval.samples=1", "run.name=resumed", "optim.hess_init=0.3")
    if p.returncode != 65 or key not in p.stderr:
        bad.append((key, p.returncode, p.stderr[-300:]))
for b in bad:
    print(b)
print(f"foreign files: {len(cases) + 7 - len(bad)} of {len(cases) + 7} refused as they should")
sys.exit(1 if bad else 0)
