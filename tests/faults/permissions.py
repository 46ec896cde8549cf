"""S5, S6, S7: folders and files that may not be read, written or listed, or are something else, before and during a run; a slow
disk is told of; few descriptors and processes. One line, the right exit code, and nothing that was there is lost."""
import os, shutil, signal, stat, subprocess, time

from whole_jobs import *

needs("setpriv", "prlimit")
if os.geteuid() != 0:
    print("[skipped] not root: cannot become somebody who may do less")
    sys.exit(77)
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


before = [  # what, change of a stopped run's folder, exit codes that may be
    ("the folder's parent may not be written", lambda f: (shutil.rmtree(f), os.chmod(os.path.dirname(f), 0o555)), (73,)),
    ("the folder may not be written", mode("", 0o555), (73, 74)),
    ("the folder may not be listed", mode("", 0o300), (73, 74)),
    ("the folder may not be entered", mode("", 0o600), (73, 74)),
    ("checkpoints may not be written", mode("checkpoints", 0o555), (73, 74)),
    ("checkpoints may not be listed", mode("checkpoints", 0o300), (73, 74)),
    ("the checkpoint may not be read", mode(NEWEST, 0), (65, 66, 74)),
    ("the lock may not be opened", mode(".lock", 0), (73,)),
    ("records may not be read", mode("metrics.jsonl", 0o200), (66, 73, 74)),
    ("records may not be written", mode("metrics.jsonl", 0o444), (73, 74)),
    ("the log may not be written", mode("log.txt", 0o444), (73, 74)),
    ("read-only files that are replaced whole", mode("config.ini", 0o444), (0,)),
    ("the folder is a file", instead("", file), (73,)),
    ("the folder is a link to nowhere", instead("", dangling), (73,)),
    ("the folder is a link to a file", instead("", to_file), (73,)),
    ("checkpoints is a file", instead("checkpoints", file), (73, 74)),
    ("checkpoints is a link to nowhere", instead("checkpoints", dangling), (73, 74)),
    ("the configuration's place is a folder", instead("config.ini", os.makedirs), (73, 74)),
    ("the status' place is a folder", instead("status.json", os.makedirs), (73, 74)),
    ("the posterior's place is a folder", lambda f: os.makedirs(f"{f}/final.h5"), (73, 74)),
    ("the records' place is a folder", instead("metrics.jsonl", os.makedirs), (65, 73, 74)),
]
rows, failed = [], 0
for what, change, codes in before:
    parent, folder = f"{work}/case", f"{work}/case/run"
    shutil.rmtree(parent, ignore_errors=True)
    os.makedirs(parent)
    shutil.copytree(f"{work}/free/origin", folder)
    given_away(parent)
    change(folder)
    p = train(folder, "train.steps=9")
    problems = []
    if p.returncode not in codes or (p.returncode != 0 and (p.stderr.count("varion: ") != 1 or "case" not in p.stderr)):
        problems.append(f"ended with {p.returncode}: {p.stderr}")
    kept = open(f"{work}/free/origin/{NEWEST}", "rb").read()
    if p.returncode != 0 and os.path.exists(f"{folder}/checkpoints/.."):
        problems += ["the checkpoint has changed"] * (not os.path.exists(f"{folder}/{NEWEST}") or open(f"{folder}/{NEWEST}", "rb").read() != kept)
    # Put right again: it goes on, unless what is missing was taken away.
    if "may not" in what and os.path.isdir(folder):
        for path, bits in (("", 0o755), ("checkpoints", 0o755), (NEWEST, 0o644), (".lock", 0o644), ("metrics.jsonl", 0o644), ("log.txt", 0o644)):
            os.chmod(f"{folder}/{path}", bits)
        end = train(folder, "train.steps=9")
        if end.returncode != 0 or digest(folder) != expected:
            problems.append(f"does not go on: {end.returncode} {end.stderr}")
    failed += bool(problems)
    if problems:
        print(what, problems)
rows.append(("rights and kinds at the start (S5)", len(before), failed))


def swapped(make):
    def change(f):
        os.rename(f, f + ".gone")
        make(f)
    return change


def deleted(f):
    while os.path.exists(f):  # the run goes on making files in it
        subprocess.run(["rm", "-rf", f], stderr=subprocess.DEVNULL)


during = [("deleted", deleted), ("renamed", lambda f: os.rename(f, f + ".gone")), ("now a file", swapped(file)),
          ("now a link to nowhere", swapped(dangling)), ("now a link to another folder", swapped(lambda p: os.symlink(f"{work}/elsewhere", p))),
          ("may not be written", mode("", 0o555)), ("may not be entered", mode("", 0)), ("checkpoints may not be written", mode("checkpoints", 0o555))]
failed = 0
for what, change in during if TIER != "C" else during[::3]:
    folder = f"{work}/free/during"
    for leaving in (folder, folder + ".gone", f"{work}/elsewhere"):
        subprocess.run(["rm", "-rf", leaving])
    os.makedirs(f"{work}/elsewhere")
    given_away(f"{work}/elsewhere")
    p = subprocess.Popen(command(folder, "train.steps=100000000", "checkpoint.every=50st"), cwd=work, stderr=subprocess.PIPE, text=True, env=environment)
    saved = f"{folder}/checkpoints"
    while p.poll() is None and not (os.path.isdir(saved) and [n for n in os.listdir(saved) if n.startswith("step-") and int(n[5:15]) >= 100]):
        time.sleep(0.005)
    change(folder)
    try:
        said = p.communicate(timeout=20)[1]
    except subprocess.TimeoutExpired:
        p.kill()
        said = "still running: " + p.communicate()[1]
    good = p.returncode in (66, 73, 74) and said.count("varion: ") == 1
    failed += not good
    if not good:
        print(what, p.returncode, said)
rows.append(("the folder changes during the run (S5)", len(during) if TIER != "C" else len(during[::3]), failed))

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
