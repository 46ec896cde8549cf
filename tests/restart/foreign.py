"""D4, I9: files whose digest is right and whose content is wrong are refused, naming the field; so are HDF5's ways to say more."""
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
    (attribute("optim", "step", np.ones(1000)), "step is not one value"),
    (attribute("model", "config_ini", np.array(["[optim]"] * 1000, dtype=h5py.string_dtype())), "config_ini is not one value"),
    (attribute("model", "config_ini", h5py.Empty(h5py.string_dtype())), "config_ini is not one value"),
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

def made_again(f, **how):
    """The weight's dataset again, stored in another way."""
    attributes, values = dict(f[weight].attrs), f[weight][()]
    del f[weight]
    d = f.create_dataset(weight, data=values, **how) if "shape" not in how else f.create_dataset(weight, **how)
    for k in ("offset", "index"):
        d.attrs[k] = attributes[k]


def external_storage(f):
    with open(f"{work}/outside.bin", "wb") as out:
        out.write(full.tobytes())
    made_again(f, shape=(8, 2), dtype="f4", external=[(f"{work}/outside.bin", 0, h5py.h5f.UNLIMITED)])


def virtual(f):
    attributes = dict(f[weight].attrs)
    with h5py.File(f"{work}/source.h5", "w") as g:
        g["x"] = full
    layout = h5py.VirtualLayout(shape=(8, 2), dtype="f4")
    layout[:] = h5py.VirtualSource(f"{work}/source.h5", "x", shape=(8, 2))
    del f[weight]
    d = f.create_virtual_dataset(weight, layout)
    for k in ("offset", "index"):
        d.attrs[k] = attributes[k]


def soft_link(f):
    f["elsewhere"] = f[bias][()]
    del f[bias]
    f[bias] = h5py.SoftLink("/elsewhere")


def unknown_filter(f):
    """A filter that only a plugin has: 32004, LZ4. The chunk is written as if it had been applied."""
    attributes = dict(f[weight].attrs)
    del f[weight]
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((8, 2))
    properties.set_filter(32004, h5py.h5z.FLAG_OPTIONAL, ())
    d = h5py.h5d.create(f.id, weight.encode(), h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((8, 2)), properties)
    d.write_direct_chunk((0, 0), full.tobytes(), 0)
    for k in ("offset", "index"):
        h5py.Dataset(d).attrs[k] = attributes[k]


# I9: what HDF5 can do and a posterior file has no use for.
features = {"external link": outside, "soft link": soft_link, "external storage": external_storage, "virtual dataset": virtual,
            "object references": lambda f: made_again(f, shape=(8, 2), dtype=h5py.ref_dtype),
            "variable length": lambda f: made_again(f, shape=(8, 2), dtype=h5py.vlen_dtype(np.dtype("f4"))),
            "compound": lambda f: made_again(f, shape=(8, 2), dtype=np.dtype([("a", "f4"), ("b", "f4")])),
            "compressed": lambda f: made_again(f, compression="gzip"), "unknown filter": unknown_filter,
            "unwritten gigabytes": unwritten, "text": lambda f: made_again(f, shape=(8, 2), dtype="S4")}
os.environ["HDF5_PLUGIN_PATH"] = work  # no plugin is looked for
for name, change in features.items():
    p = changed(change)
    if p.returncode != 65 or len(p.stderr.strip().splitlines()) != 1 or "changed.h5" not in p.stderr:
        bad.append((name, p.returncode, p.stderr[-300:]))

# Resuming from a checkpoint whose place is wrong.
shutil.copytree(f"{work}/runs/good", f"{work}/runs/resumed")
os.remove(f"{work}/runs/resumed/DONE")
name = os.listdir(f"{work}/runs/resumed/checkpoints")[0]
counts = [(key, value) for key in ("step", "samples_seen", "record_bytes", "nonpositive") for value in ("-1", "x", "", "1e16", "nan", "0.5")]
for key, value in [(k, None) for k in ("step", "samples_seen", "record_bytes", "record_sha256", "best")] + counts:
    with open(f"{work}/changed.h5", "wb") as f:
        f.write(payload_of(open(f"{work}/runs/good/checkpoints/{name}", "rb").read()))
    with h5py.File(f"{work}/changed.h5", "r+") as f:
        del f["train"].attrs[key]
        if value is not None:
            f["train"].attrs[key] = value
    with open(f"{work}/runs/resumed/checkpoints/{name}", "wb") as f:
        f.write(sign(open(f"{work}/changed.h5", "rb").read()))
    p = run("train", "data.name=moons", "model.sizes=8", "train.steps=20", "eval.samples=1", "run.name=resumed", "optim.hess_init=0.3")
    if p.returncode != 65 or key not in p.stderr:
        bad.append((key, value, p.returncode, p.stderr[-300:]))
for b in bad:
    print(b)
total = len(cases) + len(features) + 5 + len(counts)
print(f"foreign files: {total - len(bad)} of {total} refused as they should")
sys.exit(1 if bad else 0)
