"""S1, S2, S4: a run on a file system that is full, has no inodes left, or under a limit of a file's size. It ends with 73 or 74
and one line; what was there stays; with space again the same command ends with the bits of the unbroken run."""
import os, shutil, subprocess

from whole_jobs import *

if os.geteuid() != 0 and subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0:
    print("[skipped] no right to mount a file system of a given size")
    sys.exit(77)
work = workplace("space-test")
job = ["data.name=moons", "model.sizes=32", "train.steps=12", "eval.samples=2", "eval.every=0st", "log.every=1st", "checkpoint.every=4st"]
varion = " ".join([VARION, "-q", "train", *job])
p = subprocess.run([VARION, "-q", "train", *job, f"run.dir={work}/whole"], env=environment, capture_output=True, text=True)
assert p.returncode == 0, p.stderr
expected = digest(f"{work}/whole")
size = os.path.getsize(f"{work}/whole/final.h5")


def limited(mount, limit=""):
    """Runs in a fresh small file system; what it left is copied out."""
    shutil.rmtree(f"{work}/out", ignore_errors=True)
    script = (f"mount -t tmpfs -o {mount} none {work}/small && cd {work}/small && mkdir run 2>/dev/null; "
              f"{limit} {varion} run.dir={work}/small/run; code=$?; cp -r {work}/small/run {work}/out 2>/dev/null; exit $code")
    os.makedirs(f"{work}/small", exist_ok=True)
    return subprocess.run(["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", script], env=environment, capture_output=True, text=True, timeout=60)


rows = []


def sweep(title, settings):
    failed = ended = 0
    for mount, limit in settings:
        p = limited(mount, limit)
        problems = []
        if p.returncode not in (0, 73, 74):
            problems.append(f"ended with {p.returncode}: {p.stderr}")
        if p.returncode != 0 and p.stderr.count("varion: ") != 1:
            problems.append(f"said {p.stderr!r}")
        ended += p.returncode != 0
        # Space again: the same run on a large file system.
        if os.path.isdir(f"{work}/out"):
            shutil.rmtree(f"{work}/again", ignore_errors=True)
            shutil.copytree(f"{work}/out", f"{work}/again")
            for _, _, files in os.walk(f"{work}/again"):
                if [n for n in files if n.endswith(".tmp")]:
                    problems.append(f"left {files}")
            end = subprocess.run([VARION, "-q", "train", *job, f"run.dir={work}/again"], env=environment, capture_output=True, text=True)
            if end.returncode != 0:
                problems.append(f"does not go on: {end.stderr}")
            elif digest(f"{work}/again") != expected:
                problems.append("other bits at the end")
        failed += bool(problems)
        if problems:
            print(mount, limit, problems)
    assert ended > 0, f"{title}: no setting was too small"
    rows.append((title, len(settings), failed))


step = count(8, 1, 1) * 4096
sweep("bytes free (S1)", [(f"size={n}", "") for n in range(4096, 6 * size, step)])
sweep("inodes free (S2)", [(f"nr_inodes={n}", "") for n in range(2, 22, count(4, 1, 1))])
sweep("a file's size (S4)", [("size=100m", f"prlimit --fsize={n}") for n in range(0, 2 * size, max(size * count(8, 1, 1) // 16, 1))])
table("storage limits", rows)
