"""D7 to D9: which of a folder's checkpoints is taken, when copies are still valid, and that other programs read the files."""
import hashlib, json, os, re, shutil, subprocess

import whole_jobs
from whole_jobs import VARION, digest, environment, h5py, table

whole_jobs.needs("h5dump", "h5ls", "tar")
work = whole_jobs.workplace("files-test")
job = ["data.name=moons", "model.sizes=8", "train.steps=12", "eval.samples=2", "eval.every=0st", "log.every=1st", "checkpoint.every=4st", "checkpoint.keep=3"]


def train(folder, *words):
    return subprocess.run([VARION, "-q", "train", *job, f"run.dir={folder}", *words], cwd=work, capture_output=True, text=True, env=environment)


assert train(f"{work}/whole").returncode == 0
expected = digest(f"{work}/whole")
assert train(f"{work}/origin", "train.stop_after=10").returncode == 75
names = sorted(os.listdir(f"{work}/origin/checkpoints"))
assert [n[11:15] for n in names] == ["0004", "0008", "0010"], names
rows = []


def fresh():
    shutil.rmtree(f"{work}/case", ignore_errors=True)
    shutil.copytree(f"{work}/origin", f"{work}/case")
    return f"{work}/case"


def bytes_of(name):
    return open(f"{work}/origin/checkpoints/{name}", "rb").read()


def put(name, data):
    def change(folder):
        with open(f"{folder}/checkpoints/{name}", "wb") as f:
            f.write(data)
    return change


def damaged(name, at=1000):
    data = bytearray(bytes_of(name))
    data[at] ^= 4
    return put(name, bytes(data))


def all_of(*changes):
    def change(folder):
        for c in changes:
            c(folder)
    return change


def remove(*which):
    return lambda folder: [os.remove(f"{folder}/checkpoints/{n}") for n in which]


def old_clock(folder):
    os.utime(f"{folder}/checkpoints/{names[2]}", (0, 0))
    os.utime(f"{folder}/checkpoints/{names[0]}")


def major(folder):
    """Another format version, its digest right."""
    path = f"{folder}/checkpoints/{names[2]}"
    with open(path, "wb") as f:
        f.write(bytes_of(names[2])[:int(re.search(rb"\nbytes (\d+)\n", bytes_of(names[2])[-192:])[1])])
    with h5py.File(path, "r+") as f:
        f.attrs["format_version"] = "2.0.0"
    data = open(path, "rb").read()
    text = b"varion-posterior 1\nbytes %d\nsha256 %s\n" % (len(data), hashlib.sha256(data).hexdigest().encode())
    with open(path, "ab") as f:
        f.write(text.ljust(192, b"\0"))


cases = [  # what, change, step that it goes on from (or exit code), what log or message holds
    ("all well", lambda f: None, 10, ""),
    ("newest truncated", put(names[2], bytes_of(names[2])[:5000]), 8, "skipped: "),
    ("newest with one bit changed", damaged(names[2]), 8, "damaged"),
    ("newest empty", put(names[2], b""), 8, "skipped: "),
    ("newest has another version", major, 8, "needs a newer Varion"),
    ("two newest damaged", all_of(damaged(names[2]), damaged(names[1])), 4, "damaged"),
    ("all damaged", all_of(*map(damaged, names)), -65, names[0]),
    ("all damaged, must", all_of(*map(damaged, names)), -65, names[2]),
    ("none there", remove(*names), -66, "has no checkpoint"),
    ("only temporary files", all_of(remove(*names), put(".step-0000000010.h5.99999999.tmp", bytes_of(names[2]))), -66, "has no checkpoint"),
    ("names lie: the step is inside", all_of(put("step-0000000099.h5", bytes_of(names[0])), remove(names[0])), 10, ""),
    ("clocks lie", old_clock, 10, ""),
    ("a link to nowhere", lambda f: os.symlink("nowhere.h5", f"{f}/checkpoints/step-0000000099.h5"), 10, ""),
    ("a folder of such a name", lambda f: os.mkdir(f"{f}/checkpoints/step-0000000099.h5"), 10, ""),
]
failed = 0
for what, change, outcome, said in cases:
    folder = fresh()
    change(folder)
    p = train(folder, "run.resume=auto" if what == "all damaged" else "run.resume=must")
    log = open(f"{folder}/log.txt").read()
    if outcome > 0:
        good = p.returncode == 0 and f"step {outcome}\n" in re.findall(r"continuing from .*\n", log + "\n")[-1] and said in log and digest(folder) == expected
    else:
        good = p.returncode == -outcome and p.stderr.count("varion: ") == 1 and said in p.stderr
    good = good and not [n for n in os.listdir(f"{folder}/checkpoints") if n.endswith(".tmp")]
    failed += not good
    if not good:
        print(what, p.returncode, p.stderr, log[-300:])
rows.append(("folders of checkpoints (D7)", len(cases), failed))

# D8: validity lies in the file.
ways = {"cp -r": "cp -r origin copy", "cp -a": "cp -a origin copy", "tar": "tar cf x.tar origin && mkdir y && tar xf x.tar -C y && mv y/origin copy",
        "gzip": "cp -r origin copy && gzip -r copy/checkpoints && gunzip -r copy/checkpoints", "renamed": "cp -r origin other && mv other copy",
        "cat, file by file": "mkdir -p copy/checkpoints && (cd origin && find . -type f | while read f; do cat \"$f\" > ../copy/\"$f\"; done)",
        "rsync": "rsync -a origin/ copy/" if shutil.which("rsync") else ""}
tried = failed = 0
for what, command in ways.items():
    if not command:
        continue
    for name in ("copy", "x.tar", "y", "other"):
        subprocess.run(["rm", "-rf", f"{work}/{name}"])
    subprocess.run(["sh", "-ec", command], cwd=work, check=True)
    p = train(f"{work}/copy", "run.resume=must")
    tried += 1
    failed += p.returncode != 0 or digest(f"{work}/copy") != expected
rows.append(("copies of a run's folder (D8)", tried, failed))

# D9: HDF5's own programs and sha256sum.
tried = failed = 0
for path in (f"{work}/whole/final.h5", f"{work}/origin/checkpoints/{names[2]}"):
    for command in (["h5dump", path], ["h5dump", "-H", path], ["h5ls", "-r", path]):
        p = subprocess.run(command, capture_output=True, text=True)
        tried += 1
        failed += p.returncode != 0 or "layers.0.weight" not in p.stdout or p.stderr != ""
with h5py.File(f"{work}/whole/final.h5") as f:
    history = {name: d[()].tolist() for name, d in f["history"].items()}
records = [json.loads(line) for line in open(f"{work}/whole/metrics.jsonl")]
wanted = [r for r in records if "train_loss" in r and "grad_norm" in r]
tried += 1
failed += len(wanted) != 12 or any(history.get(k) != [r[k] for r in wanted] for k in ("step", "train_loss", "lr", "grad_norm"))
rows.append(("read by others: h5dump, h5ls, history (D9)", tried, failed))
table("checkpoints as files", rows)
