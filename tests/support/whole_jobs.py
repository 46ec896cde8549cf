"""What tests of whole jobs share: the program, its environment, digests of finished runs, tables of results."""
import concurrent.futures, hashlib, json, os, re, shutil, subprocess, sys

try:
    import h5py
except ImportError:
    print("[skipped] python3-h5py is not installed")
    sys.exit(77)

VARION = os.environ["VARION_BIN"]
INJECT = os.environ.get("VARION_INJECT_BIN", "")  # the same with --inject (tests/inject)
TIER = os.environ.get("VARION_TIER", "C")  # C with every change, N nightly, R for a release
SANITIZED = "VARION_SANITIZED" in os.environ  # five times slower, and each path of the program once is what it needs
environment = dict(os.environ, OMP_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                   OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_hwloc_base_binding_policy="none", OMPI_MCA_mpi_yield_when_idle="1")


def count(change, nightly, release):
    return {"C": change, "N": nightly, "R": release}[TIER]


def workplace(name):
    work = os.path.abspath(name)
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    return work


def on_ranks(work):
    """A function that runs the program on so many ranks in this folder (0: without mpirun), holds its exit code to `code` and gives
    back what it printed."""

    def run(ranks, *words, code=0):
        launcher = ["mpirun", "-n", str(ranks)] if ranks else []
        p = subprocess.run([*launcher, VARION, *words], cwd=work, capture_output=True, text=True, env=environment, timeout=120)
        assert p.returncode == code, (ranks, words, p.returncode, p.stdout, p.stderr)
        return p.stdout + p.stderr

    return run


def side_by_side(task, items):
    """The results in order, three at a time: such jobs mostly wait, for mpirun to end ranks or for a signal's time."""
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        return list(pool.map(task, items))


def needs(*programs):
    for program in programs:
        if not shutil.which(program):
            print(f"[skipped] no {program}")
            sys.exit(77)


def digest(folder):
    """Of every vector of final.h5 and every record without the time it took."""
    h = hashlib.sha256()
    with h5py.File(f"{folder}/final.h5", "r") as f:
        names = []
        f.visititems(lambda n, d: names.append(n) if isinstance(d, h5py.Dataset) and n.split("/")[0] in ("params", "optim") else None)
        assert names
        for n in sorted(names):
            h.update(n.encode() + f[n][()].tobytes())
    for line in open(f"{folder}/metrics.jsonl"):
        row = json.loads(line)
        row.pop("seconds_per_step", None)
        h.update(json.dumps(row, sort_keys=True).encode())
    return h.hexdigest()


def newest_checkpoint(folder):
    """The step of the newest checkpoint that a run has there; 0: none. What has the name of one is whole."""
    names = os.listdir(f"{folder}/checkpoints") if os.path.isdir(f"{folder}/checkpoints") else []
    return max((int(m[1]) for m in (re.fullmatch(r"step-(\d+)\.h5", n) for n in names) if m), default=0)


def taken_up(folder):
    """The steps from which starts of a run went on, as it says in its log."""
    log = open(f"{folder}/log.txt").read() if os.path.exists(f"{folder}/log.txt") else ""
    return [int(step) for step in re.findall(r"(?:continuing from .* at|finished before, at) step (\d+)", log)]


def went_on(folder, newest, start):
    """What is wrong with a start to the end, after the newest checkpoint has been that of step `newest` (0: there was none). It must
    go on from there: from nothing it would come to the same bits, and nobody would see that the checkpoint is lost."""
    before = len(taken_up(folder))
    p = start(*(["run.resume=must"] if newest else []))
    steps = taken_up(folder)[before:]
    if p.returncode != 0:
        return [f"does not go on: {p.returncode} {p.stderr}"]
    return [f"went on from {steps}, not from {newest}"] if newest and (not steps or steps[-1] < newest) else []


def leftovers(folder):
    """Temporary files in it."""
    return [name for _, _, files in os.walk(folder) for name in files if name.endswith(".tmp")]


def processes(word, program=VARION):
    """Running varion processes whose command line holds this word."""
    out = []
    for d in os.listdir("/proc"):
        try:
            line = open(f"/proc/{d}/cmdline", "rb").read().split(b"\0") if d.isdigit() else []
            state = open(f"/proc/{d}/stat").read().rsplit(")", 1)[1].split()[0] if line else "Z"
        except OSError:
            continue
        if line and line[0] == program.encode() and word.encode() in line and state != "Z":
            out.append(int(d))
    return sorted(out)


def table(title, rows, launcher=()):
    """name, tried, failed. Of the launcher: what it did wrong by itself, as Open MPI 4.1.4's mpirun, which can die or stay when all
    ranks have gone. That is counted; it fails where it is no longer the exception, for then the exit codes have not been seen."""
    print(title)
    for name, tried, failed in rows:
        print(f"  {name:44} {tried:7} tried  {failed:5} failed")
    for name, tried, times in launcher:
        print(f"  {name:44} {tried:7} tried  {times:5} times, no rank left")
    sys.exit(1 if any(failed for _, _, failed in rows) or any(2 * times > tried for _, tried, times in launcher) else 0)
