"""What tests of whole jobs share: the program, its environment, digests of finished runs, tables of results."""
import concurrent.futures, hashlib, json, os, shutil, subprocess, sys

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


def table(title, rows):
    """name, tried, failed."""
    print(title)
    for name, tried, failed in rows:
        print(f"  {name:44} {tried:7} tried  {failed:5} failed")
    sys.exit(1 if any(failed for _, _, failed in rows) else 0)
