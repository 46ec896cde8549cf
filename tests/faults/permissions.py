"""S5, S6, S7: folders and files that may not be read, written or listed, or are something else, before and during a run; a slow
disk is told of; few descriptors and processes. One line, the right exit code, and nothing that was there is lost."""
import os, shutil, signal, subprocess, sys, time

from whole_jobs import *

needs("setpriv", "prlimit")
if os.geteuid() != 0:
    print("[skipped] not root: cannot become somebody who may do less")
    sys.exit(77)
if "ALONE" not in os.environ and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0:
    os.execvp("unshare", ["unshare", "-m", "env", "ALONE=1", sys.executable, *sys.argv])  # what is mounted here goes with this process
work = "/tmp/varion-permissions-test" if not os.access("/tmp", os.X_OK) else f"/tmp/varion-permissions-{os.getpid()}"
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work)
os.chmod(work, 0o755)
program = shutil.copy(VARION, f"{work}/varion")  # where nobody can reach it
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
job = ["data.name=moons", "model.sizes=8", "eval.samples=2", "eval.every=0st", "log.every=1st"]


def command(folder, *words, before=()):
    return [*NOBODY, *before, program, "-q", "train", *job, f"run.dir={folder}", *words]


def train(folder, *words, before=()):
    return subprocess.run(command(folder, *words, before=before), cwd=work, capture_output=True, text=True, env=environment, timeout=60)


def given_away(path):
    os.chown(path, 65534, 65534)
    for folder, folders, files in os.walk(path):
        for n in folders + files:
            os.chown(os.path.join(folder, n), 65534, 65534, follow_symlinks=False)


os.makedirs(f"{work}/free")
given_away(f"{work}/free")
assert train(f"{work}/free/whole", "train.steps=9").returncode == 0
expected = digest(f"{work}/free/whole")
assert train(f"{work}/free/origin", "train.steps=9", "train.stop_after=4").returncode == 75
NEWEST = "checkpoints/step-0000000004.h5"


def mode(path, bits):
    return lambda f: os.chmod(f"{f}/{path}" if path else f, bits)


def instead(path, make):
    def change(f):
        p = f"{f}/{path}" if path else f
        subprocess.run(["rm", "-rf", p], check=True)
        make(p)
        if not os.path.islink(p):
            given_away(p)
    return change


def file(p): open(p, "w").write("x")
def dangling(p): os.symlink("/nowhere/at/all", p)
def to_file(p): os.symlink("/etc/hostname", p)


parent, folder = f"{work}/case", f"{work}/case/run"
MOUNT = f"{work}/disk"


def mounted():
    """A small file system in the parent's place that can turn read-only under a running program; False: not here."""
    made = subprocess.run(["sh", "-ec", f"truncate -s 8M {MOUNT}; mkfs.ext4 -qF {MOUNT}; mount -o loop {MOUNT} {parent}"], capture_output=True)
    return made.returncode == 0


def read_only(f):
    """As after an error of the disk: also where files are open."""
    subprocess.run(["mount", "-o", "remount,abort", parent], check=True)
    assert subprocess.run(["touch", f"{parent}/x"], capture_output=True).returncode != 0


def prepared(disk):
    subprocess.run(["umount", "-l", parent], capture_output=True)
    shutil.rmtree(parent, ignore_errors=True)
    for place in (parent, f"{work}/elsewhere"):
        subprocess.run(["rm", "-rf", place], check=True)
        os.makedirs(place)
        given_away(place)
    if disk and not mounted():
        return False
    given_away(parent)
    return True


def at_start(what, change, codes, stopped=True, disk=False):
    """What is wrong with how a run that was stopped (or none yet) takes a change of its folder; None: it cannot be tried here."""
    if not prepared(disk):
        return None
    if stopped:
        shutil.copytree(f"{work}/free/origin", folder)
        given_away(folder)
    change(folder)
    p = train(folder, "train.steps=9")
    problems = []
    if p.returncode not in codes or (p.returncode != 0 and (p.stderr.count("varion: ") != 1 or "case" not in p.stderr)):
        problems.append(f"ended with {p.returncode}: {p.stderr}")
    if p.returncode == 0 and digest(folder) != expected:
        problems.append("other bits at the end")
    kept = open(f"{work}/free/origin/{NEWEST}", "rb").read()
    if stopped and p.returncode != 0 and os.path.exists(f"{folder}/checkpoints/.."):
        problems += ["the checkpoint has changed"] * (not os.path.exists(f"{folder}/{NEWEST}") or open(f"{folder}/{NEWEST}", "rb").read() != kept)
    # Put right again: it goes on, unless what is missing was taken away.
    if "may not" in what and os.path.isdir(folder):
        for path, bits in (("", 0o755), ("checkpoints", 0o755), (NEWEST, 0o644), (".lock", 0o644), ("metrics.jsonl", 0o644), ("log.txt", 0o644)):
            if os.path.exists(f"{folder}/{path}"):
                os.chmod(f"{folder}/{path}", bits)
        end = train(folder, "train.steps=9")
        if end.returncode != 0 or digest(folder) != expected:
            problems.append(f"does not go on: {end.returncode} {end.stderr}")
    return problems


def newest_step():
    saved = f"{folder}/checkpoints"
    return max((int(n[5:15]) for n in (os.listdir(saved) if os.path.isdir(saved) else []) if n.startswith("step-")), default=0)


def while_running(what, change, codes, disk=False):
    if not prepared(disk):
        return None
    p = subprocess.Popen(command(folder, "train.steps=100000000", "checkpoint.every=50st"), cwd=work, stderr=subprocess.PIPE, text=True, env=environment)
    while p.poll() is None and newest_step() < 100:
        time.sleep(0.005)
    change(folder)
    if codes == (75,):  # it does not mind: it saves on, until it is asked to stop
        seen, deadline = newest_step(), time.time() + 20
        while p.poll() is None and newest_step() <= seen + 100 and time.time() < deadline:
            time.sleep(0.005)
        p.send_signal(signal.SIGUSR1)
    try:
        said = p.communicate(timeout=20)[1]
    except subprocess.TimeoutExpired:
        p.kill()
        said = "still running: " + p.communicate()[1]
    good = p.returncode in codes and (p.returncode == 75 or said.count("varion: ") == 1)
    return [] if good else [f"ended with {p.returncode}: {said}"]


def swapped(make):
    """Another thing in the folder's place, also under a run that goes on making files."""
    def change(f):
        if os.path.lexists(f):
            os.rename(f, f + ".gone")
        make(f)
    return change


def deleted(f):
    while os.path.exists(f):  # the run goes on making files in it
        subprocess.run(["rm", "-rf", f], stderr=subprocess.DEVNULL)


def to_elsewhere(p): os.symlink(f"{work}/elsewhere", p)


def records(f):
    """The records may be read only; of a run that has not begun, they are there already."""
    if not os.path.exists(f):
        os.makedirs(f)
        file(f"{f}/metrics.jsonl")
        given_away(f)
    os.chmod(f"{f}/metrics.jsonl", 0o444)


def folder_locked(f):
    os.makedirs(f, exist_ok=True)
    given_away(f)
    os.chmod(f, 0o555)


def parent_locked(f): os.chmod(parent, 0o555)


# The plan's cases: eight changes, before the first start, before it goes on, and while it runs; codes that may be.
GONE, DISK = (66, 73, 74), (73, 74)
plan = [("the folder may not be written", folder_locked, DISK, DISK, GONE), ("the records may not be written", records, (0,), DISK, GONE),
        ("the parent may not be written", parent_locked, (73,), (0,), (75,)), ("the folder is deleted", deleted, (0,), (0,), GONE),
        ("the folder is a file", swapped(file), (73,), (73,), GONE), ("the folder is a link to another", swapped(to_elsewhere), (0,), (0,), GONE),
        ("the folder is a link to nowhere", swapped(dangling), (73,), (73,), GONE), ("the disk turns read-only", read_only, DISK, DISK, GONE)]
further = [  # of a stopped run's folder
    ("the folder may not be listed", mode("", 0o300), DISK),
    ("the folder may not be entered", mode("", 0o600), DISK),
    ("checkpoints may not be written", mode("checkpoints", 0o555), DISK),
    ("checkpoints may not be listed", mode("checkpoints", 0o300), DISK),
    ("the checkpoint may not be read", mode(NEWEST, 0), (65, 66, 74)),
    ("the lock may not be opened", mode(".lock", 0), (73,)),
    ("records may not be read", mode("metrics.jsonl", 0o200), (66, 73, 74)),
    ("the log may not be written", mode("log.txt", 0o444), DISK),
    ("read-only files that are replaced whole", mode("config.ini", 0o444), (0,)),
    ("the folder is a link to a file", instead("", to_file), (73,)),
    ("checkpoints is a file", instead("checkpoints", file), DISK),
    ("checkpoints is a link to nowhere", instead("checkpoints", dangling), DISK),
    ("the configuration's place is a folder", instead("config.ini", os.makedirs), DISK),
    ("the status' place is a folder", instead("status.json", os.makedirs), DISK),
    ("the posterior's place is a folder", lambda f: os.makedirs(f"{f}/final.h5"), DISK),
    ("the records' place is a folder", instead("metrics.jsonl", os.makedirs), (65, 73, 74)),
]
during = [("renamed", lambda f: os.rename(f, f + ".gone")), ("may not be entered", mode("", 0)), ("checkpoints may not be written", mode("checkpoints", 0o555))]
rows = []


def row(title, results):
    """results: what was changed and when, and its problems."""
    tried = [(what, problems) for what, problems in results if problems is not None]
    for what, problems in results:
        if problems is None or problems:
            print(what, problems or "[skipped] no file system can be made and mounted here")
    rows.append((title, len(tried), sum(bool(problems) for _, problems in tried)))


cells = []
for what, change, fresh, stopped, running in plan:
    disk = change is read_only
    cells.append((f"{what}, before the first start", at_start(what, change, fresh, False, disk)))
    cells.append((f"{what}, before it goes on", at_start(what, change, stopped, True, disk)))
    if TIER != "C" or change in (deleted, parent_locked, read_only):
        cells.append((f"{what}, while it runs", while_running(what, change, running, disk)))
row("8 changes at 3 times (S5)", cells)
row("further rights and kinds at the start (S5)", [(what, at_start(what, change, codes)) for what, change, codes in further])
row("further changes during the run (S5)", [(what, while_running(what, change, GONE)) for what, change in (during if TIER != "C" else during[:1])])
subprocess.run(["umount", "-l", parent], capture_output=True)

# S6: the small file written before the first step takes no time; where it does, the log tells.
folder = f"{work}/free/probe"
begin = time.time()
good = train(folder, "train.steps=1", "run.walltime=off").returncode == 0 and time.time() - begin < 5
good = good and "took" not in open(f"{folder}/log.txt").read()
if shutil.which("strace"):
    # Syncs of a fresh run: records and their folder, log and its folder, then the probe.
    p = subprocess.run(["strace", "-f", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:delay_enter=1200000:when=5", program, "-q", "train",
                        *job, f"run.dir={work}/slow", "train.steps=1"], cwd=work, capture_output=True, text=True, env=environment)
    good = good and p.returncode == 0 and "to write, sync and read back a few bytes" in open(f"{work}/slow/log.txt").read()
rows.append(("the probe of the disk (S6)", 1, int(not good)))

# S7: a run, or one line.
tried = failed = 0
limits = [["--nofile=%d" % n] for n in range(3, 33, count(8, 1, 1))] + [["--nproc=%d" % n] for n in range(1, 5, count(2, 1, 1))]
for number, limit in enumerate(limits):
    p = train(f"{work}/free/limit-{number}", "train.steps=3", before=["prlimit", *limit])
    good = p.returncode == 0 or (p.returncode in (65, 66, 69, 70, 73, 74) and p.stderr.count("varion: ") == 1)
    good = good or "error while loading shared libraries" in p.stderr or "prlimit: " in p.stderr  # not the program's
    tried += 1
    failed += not good
    if not good:
        print(limit, p.returncode, p.stderr[-300:])
rows.append(("limits of descriptors and processes (S7)", tried, failed))
shutil.rmtree(work)
table("rights and limits", rows)
