"""F3, F4: input or output fails on one rank alone, or one rank has been started with something else. All ranks end soon, with one
line and the right exit code, and the run can be taken up; none waits for another."""
import gzip, os, re, shutil, struct, subprocess, time

from whole_jobs import *

needs("mpirun", "strace")
work = workplace("rank-io-test")


def idx(folder, seed):
    os.makedirs(f"{work}/{folder}")
    for name, count_, images in (("train-images-idx3-ubyte", 40, True), ("train-labels-idx1-ubyte", 40, False),
                                 ("t10k-images-idx3-ubyte", 8, True), ("t10k-labels-idx1-ubyte", 8, False)):
        with open(f"{work}/{folder}/{name}", "wb") as f:
            f.write(struct.pack(">IIII", 0x803, count_, 4, 4) if images else struct.pack(">II", 0x801, count_))
            f.write(bytes((i * 7 + seed) % 10 for i in range(count_ * (16 if images else 1))))


idx("data", 1)
idx("other/data", 2)
shutil.copytree(f"{work}/data", f"{work}/one/data")  # ranks start in one and the same folder, or in two with other files
shutil.copytree(f"{work}/other/data", f"{work}/two/data")
job = ["-q", "train", "data.name=idx", "data.path=data", "model.sizes=8", "data.global_batch=8", "train.steps=12", "eval.samples=2", "eval.every=0st",
       "log.every=1st", "checkpoint.every=4st", "parallel.slots=4", "optim.ess=1000"]


def ranks(name, *programs, cwd=None):
    """One rank a program: words before it, the words of the run, environment."""
    words = ["mpirun"]
    for number, (before, more, env, where) in enumerate(programs):
        words += [":"] * (number > 0) + ["-n", "1"]
        for k, v in env.items():
            words += ["-x", f"{k}={v}"]
        program = [] if "varion-other" in " ".join(before) else [VARION]
        words += ["-wdir", where or f"{work}/one", *before, *program, *job, f"run.dir={work}/runs/{name}", *more]
    begin = time.time()
    try:
        p = subprocess.run(words, cwd=work, capture_output=True, text=True, env=environment, timeout=60)
        code, said = p.returncode, p.stdout + p.stderr
    except subprocess.TimeoutExpired as e:
        code, said = -1, f"still there after 60 s: {e.stderr}"
    taken = time.time() - begin
    for _ in range(60):
        if not processes(f"run.dir={work}/runs/{name}"):
            break
        time.sleep(0.05)
    return code, said, taken, processes(f"run.dir={work}/runs/{name}")


PLAIN = ([], [], {}, "")
code, said, _, _ = ranks("whole", PLAIN, PLAIN)
assert code == 0, said
expected = digest(f"{work}/runs/whole")


def failing(call, error, when, *paths):
    absolute = [f"data.path={os.path.dirname(p)}" for p in paths]  # strace knows calls on a path by its whole name
    on = [w for p in paths for w in ("-P", p)]
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"]
    return (["strace", "-f", "-o", "/dev/null", *on, *inject], absolute, {}, "")


images = os.path.realpath(f"{work}/one/data/train-images-idx3-ubyte")
# The first rank writes; every rank reads the data. fsync, rename and flock are calls that MPI's own start does not make.
first = [("fsync", "EIO", "3+"), ("fsync", "ENOSPC", "9+"), ("rename", "EIO", "5+"), ("rename", "EROFS", "2"), ("flock", "EIO", "1"),
         ("fsync", "EDQUOT", "14")]
others = [("openat", "EACCES", "1+", images), ("openat", "EMFILE", "1+", images), ("read", "EIO", "1+", images), ("read", "EIO", "2+", images)]
cases = [(0, c) for c in first] + [(rank, c) for rank in (0, 1) for c in others]
rows, tried, failed = [], 0, 0
for number, (rank, fault) in enumerate(cases if TIER != "C" else cases[1:2] + cases[12:13]):
    name = f"fault-{number}"
    programs = [PLAIN, PLAIN]
    programs[rank] = failing(*fault)
    programs[1 - rank] = ([], programs[rank][1], {}, "")
    code, said, taken, left = ranks(name, *programs)
    good = code in ((0, 64, 65, 66, 73, 74) if fault[0] == "flock" else (66, 73, 74)) and taken < 20 and not left
    good = good and (code == 0 or said.count("varion: ") == 1)
    again = ranks(name, PLAIN, PLAIN)
    good = good and again[0] == 0 and digest(f"{work}/runs/{name}") == expected
    tried += 1
    failed += not good
    if not good:
        print(rank, fault, code, f"{taken:.1f} s", left, said[-400:], again[:2])
rows.append(("input or output fails on one of two ranks (F3)", tried, failed))

# F4. Another program: the same one with another version inside.
other = f"{work}/varion-other"
program = open(VARION, "rb").read()
version = re.search(rb"varion \S+ (\S+)", subprocess.run([VARION, "--version"], capture_output=True).stdout)[1]
assert program.count(version + b"\0") > 0
with open(other, "wb") as f:
    f.write(program.replace(version + b"\0", b"x" * len(version) + b"\0"))
os.chmod(other, 0o755)
with open(f"{work}/two/data.ini", "w") as f:
    f.write("[optim]\nlr = 0.2\n")
with open(f"{work}/one/data.ini", "w") as f:
    f.write("[optim]\nlr = 0.1\n")
provider = {"VARION_PROVIDER": "portable"}
apart = [("program", PLAIN, ([other], [], {}, "")), ("provider", ([], [], {"VARION_PROVIDER": "host-blas"}, ""), ([], [], provider, "")),
         ("seed", PLAIN, ([], ["run.seed=2"], {}, "")), ("number of parameters", PLAIN, ([], ["model.sizes=9"], {}, "")),
         ("data", PLAIN, ([], [], {}, f"{work}/two")), ("configuration file", ([], ["data.ini"], {}, ""), ([], ["data.ini"], {}, f"{work}/two")),
         ("environment", PLAIN, ([], [], {"VARION_OPTIM_LR": "0.3"}, "")), ("slots", PLAIN, ([], ["parallel.slots=2"], {}, "")),
         ("optimizer", PLAIN, ([], ["optim.name=adamw"], {}, ""))]
tried = failed = 0
for what, one, two in apart if TIER != "C" else apart[:1] + apart[4:5]:
    code, said, taken, left = ranks("apart", one, two)
    good = code == 78 and taken < 20 and not left and said.count("varion: ") == 1 and "rank 1 has another" in said
    tried += 1
    failed += not good
    if not good:
        print(what, code, f"{taken:.1f} s", left, said[-600:])
rows.append(("one of two ranks started with something else (F4)", tried, failed))
table("one rank alone", rows)
