"""S1, S2, S4: a run on a file system that is full, has no inodes left, or under a limit of a file's size. It ends with 73 or 74
and one line; what was there stays, and nothing temporary; with space again the run goes on from the newest checkpoint and ends with
the bits of the unbroken one."""
import os, shutil, subprocess

from whole_jobs import *

if os.geteuid() != 0 and subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0:
    print("[skipped] no right to mount a file system of a given size")
    sys.exit(77)
work = workplace("space-test")
job = ["data.name=moons", "model.sizes=32", "train.steps=12", "eval.samples=2", "eval.every=0st", "log.every=1st", "checkpoint.every=4st"]


def train(folder, *words):
    return subprocess.run([VARION, "-q", "train", *job, f"run.dir={folder}", *words], env=environment, capture_output=True, text=True)


p = train(f"{work}/whole")
assert p.returncode == 0, p.stderr
expected = digest(f"{work}/whole")
size = os.path.getsize(f"{work}/whole/final.h5")
origin = f"{work}/origin"
assert train(origin, "train.stop_after=4").returncode == 75 and newest_checkpoint(origin) == 4


def limited(mount, limit, begin):
    """Runs in a fresh small file system, from what lies in `begin` if anything; what it left is copied out."""
    shutil.rmtree(f"{work}/out", ignore_errors=True)
    put = f"{{ cp -r {begin} run || exit 99; }}" if begin else "mkdir run 2>/dev/null"
    script = (f"mount -t tmpfs -o {mount} none {work}/small && cd {work}/small && {put}; "
              f"{limit} {' '.join([VARION, '-q', 'train', *job])} run.dir={work}/small/run; code=$?; "
              f"cp -r {work}/small/run {work}/out 2>/dev/null; exit $code")
    os.makedirs(f"{work}/small", exist_ok=True)
    return subprocess.run(["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", script], env=environment, capture_output=True, text=True, timeout=60)


rows = []


def sweep(title, settings, begin):
    failed = ended = 0
    for mount, limit in settings:
        p = limited(mount, limit, begin)
        problems = []
        if p.returncode not in (0, 73, 74):
            problems.append(f"ended with {p.returncode}: {p.stderr}")
        if p.returncode != 0 and p.stderr.count("varion: ") != 1:
            problems.append(f"said {p.stderr!r}")
        ended += p.returncode != 0
        out, again = f"{work}/out", f"{work}/again"
        if begin and not os.path.isdir(out):
            problems.append("what was there is gone")
        # Space again: the same run on a large file system.
        if os.path.isdir(out):
            if leftovers(out):
                problems.append(f"an error left {leftovers(out)}")
            shutil.rmtree(again, ignore_errors=True)
            shutil.copytree(out, again)
            newest = max(newest_checkpoint(begin) if begin else 0, newest_checkpoint(out))
            wrong = went_on(again, newest, lambda *words: train(again, *words))
            problems += wrong
            if not wrong and digest(again) != expected:
                problems.append("other bits at the end")
            if leftovers(again):
                problems.append(f"left {leftovers(again)}")
        failed += bool(problems)
        if problems:
            print(title, mount, limit, problems)
    assert ended > 0, f"{title}: no setting was too small"
    rows.append((title, len(settings), failed))


step = count(8, 1, 1) * 4096
for begin, when in (("", "from the start"), (origin, "beside a checkpoint")):
    # What is there takes room of its own.
    names = [path for path, _, _ in os.walk(begin)] + [f"{path}/{n}" for path, _, files in os.walk(begin) for n in files]
    pages = sum(-(-os.path.getsize(n) // 4096) for n in names if os.path.isfile(n))
    sweep(f"bytes free (S1), {when}", [(f"size={4096 * pages + n}", "") for n in range(4096, 6 * size, step)], begin)
    sweep(f"inodes free (S2), {when}", [(f"nr_inodes={len(names) + n}", "") for n in range(2, 22, count(4, 1, 1))], begin)
    sweep(f"a file's size (S4), {when}", [("size=100m", f"prlimit --fsize={n}") for n in range(0, 2 * size, max(size * count(8, 1, 1) // 16, 1))], begin)
table("storage limits", rows)
