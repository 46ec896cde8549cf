"""E3 to E7: what must not show in a run's bits. Ranks, threads and Kokkos back ends with the portable provider; ranks at every
number of threads with the libraries; a stop on n ranks and another end on m; equal runs; a chain of 200 resumes; perturbed
memory, processors and priorities. A program of the serial preset beside this one (build/serial) takes part where it is built."""
import glob, itertools, os, random, subprocess

import whole_jobs
from whole_jobs import VARION, count, digest, table

whole_jobs.needs("mpirun", "taskset", "nice")
work = whole_jobs.workplace("grid-test")
SERIAL = os.path.join(os.path.dirname(os.path.dirname(VARION)), "serial", "varion")
base = ["data.name=glyphs", "data.train_size=80", "data.test_size=16", "data.global_batch=16", "train.steps=10", "eval.samples=2",
        "eval.every=4st", "eval.batch=16", "log.every=1st", "log.hess_stats_every=3st", "checkpoint.every=0st", "parallel.slots=8"]
models = {"mlp": ["model.sizes=24,16", "model.dropout=0.1"], "lenet": ["model.name=lenet"], "resnet20": ["model.name=resnet20", "train.steps=4"],
          "gpt2": ["model.name=gpt2", "model.layers=2", "model.heads=2", "model.width=24", "data.name=sentences", "data.length=20", "train.steps=6"],
          "encoder": ["model.name=encoder", "model.layers=2", "model.heads=2", "model.width=24", "data.name=sentences", "data.length=20", "train.steps=6"],
          "classify": ["model.name=encoder", "model.task=classify", "model.layers=2", "model.heads=2", "model.width=24", "data.name=slips",
                       "data.length=20", "train.steps=6"],
          "vit": ["model.name=vit", "model.width=24", "model.layers=2", "model.heads=3"]}
# Clipping brings the gradient's norm into the weights.
optimizers = {"ivon": ["optim.name=ivon", "optim.ess=1e4", "optim.grad_clip=0.5"],
              "von": ["optim.name=von", "optim.ess=1e4", "parallel.noise=shared"],
              "adamw": ["optim.name=adamw", "optim.lr=0.001", "optim.grad_clip=0.5"]}


def run(name, ranks, threads, *words, provider="", program=VARION, before=(), code=0, **more):
    env = dict(whole_jobs.environment, OMP_NUM_THREADS=str(threads), OMP_WAIT_POLICY="passive", **more)
    if provider:
        env["VARION_PROVIDER"] = provider
    launcher = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
    p = subprocess.run([*before, *launcher, program, "-q", "train", *base, *words, f"run.name={name}"], cwd=work, capture_output=True,
                       text=True, env=env, timeout=300)
    assert p.returncode == code, (name, p.returncode, p.stdout, p.stderr)
    return digest(f"{work}/runs/{name}") if code == 0 else ""


draw = random.Random(1)
rows, whole = [], {}  # whole: the digest that all runs of a model and an optimizer must have

# E3. At C some of the grid; the corners are always among it.
programs = [(VARION, "openmp")] + ([(SERIAL, "serial")] if os.path.exists(SERIAL) else [])
grid = [(r, t, p) for p, what in programs for r in (1, 2, 4, 8) for t in ((1, 2, 4) if what == "openmp" else (1,))]
pairs = list(itertools.product(models, optimizers))
for provider in ("portable", ""):
    tried = failed = 0
    for model, optimizer in pairs if whole_jobs.TIER != "C" else [("mlp", "ivon"), ("mlp", "adamw"), ("lenet", "ivon"), ("gpt2", "ivon"), ("encoder", "adamw"), ("classify", "ivon"),
                                                                 ("vit", "ivon"), ("vit", "adamw")]:
        points = grid if whole_jobs.TIER != "C" else [(1, 1, VARION), (1, 2, VARION)] + draw.sample([g for g in grid if g[0] in (2, 4)], 1)
        found = {}
        for number, (ranks, threads, program) in enumerate(points):
            # The libraries cut their sums by threads: there every number of threads has bits of its own.
            of = "all" if provider == "portable" else threads
            name = f"{provider}-{model}-{optimizer}-{number}"
            found.setdefault(of, []).append(run(name, ranks, threads, *models[model], *optimizers[optimizer], provider=provider, program=program))
            tried += 1
        for of, digests in found.items():
            failed += sum(d != digests[0] for d in digests)
        if provider == "portable":
            whole[model, optimizer] = found["all"][0]
    rows.append((f"ranks x threads, {provider or 'libraries'} (E3)", tried, failed))
rows.append(("cases with a digest of their own", len(whole), len(whole) - len(set(whole.values()))))

# E4: stopped on n ranks and threads, continued on others.
numbers = [(n, m, o) for n in (1, 2, 4, 8) for m in (1, 2, 4, 8) for o in optimizers]
tried = failed = 0
for n, m, optimizer in numbers if whole_jobs.TIER != "C" else [(4, 1, "ivon"), (1, 2, "adamw")]:
    name, words = f"moved-{n}-{m}-{optimizer}", [*models["mlp"], *optimizers[optimizer]]
    run(name, n, draw.choice((1, 2, 4)), *words, f"train.stop_after={draw.randrange(1, 10)}", provider="portable", code=75)
    tried += 1
    failed += run(name, m, draw.choice((1, 2, 4)), *words, provider="portable") != whole["mlp", optimizer]
rows.append(("stopped on n ranks, ended on m, other threads (E4)", tried, failed))

# E5, E7: the same again, left alone and disturbed.
expected = run("equal", 1, 2, *models["mlp"], *optimizers["ivon"])
tried = failed = 0
for number in range(count(2, 100, 1000)):
    tried += 1
    failed += run(f"equal-{number}", 4, 2, *models["mlp"], *optimizers["ivon"]) != expected
rows.append(("equal runs on 4 ranks, 2 threads (E5)", tried, failed))
tried = failed = 0
for number in range(count(2, 20, 100)):
    cpus = draw.choice(("0", "0-1")) if os.cpu_count() > 1 else "0"
    before = draw.choice(([], ["taskset", "-c", cpus], ["nice", "-n", "19"], ["taskset", "-c", cpus, "nice", "-n", "15"]))
    tried += 1
    failed += run(f"perturbed-{number}", draw.choice((1, 2, 4)), 2, *models["mlp"], *optimizers["ivon"], before=before,
                  MALLOC_PERTURB_=str(draw.randrange(1, 256)), MALLOC_ARENA_MAX=str(draw.randrange(1, 5))) != expected
rows.append(("memory, processors, priority perturbed (E7)", tried, failed))

# E6: a resume after every step. Files and their size are those of a run stopped once.
steps = count(8, 200, 200)
words = [*models["mlp"], *optimizers["von"], f"train.steps={steps + 2}", "log.every=100st", "log.hess_stats_every=0st", "eval.every=0st"]
expected = run("unbroken", 1, 1, *words)
run("once", 1, 1, *words, f"train.stop_after={steps}", code=75)
grown = 0
for step in range(1, steps + 1):
    run("chain", 1, 1, *words, f"train.stop_after={step}", code=75)
    files = [os.path.relpath(f, f"{work}/runs/chain") for f in glob.glob(f"{work}/runs/chain/**", recursive=True) if os.path.isfile(f)]
    grown += len(files) > len([f for f in glob.glob(f"{work}/runs/once/**", recursive=True) if os.path.isfile(f)]) + 1  # keep = 2
size = {name: os.path.getsize(f"{work}/runs/{name}/checkpoints/step-{steps:010}.h5") for name in ("once", "chain")}
rows.append(("resumes in a row: files (E6)", steps, grown))
rows.append((f"the last checkpoint's size, {size['chain']} and {size['once']} bytes", 1, int(abs(size["chain"] - size["once"]) > 256)))
rows.append(("the chain's end has the unbroken run's bits", 1, int(run("chain", 1, 1, *words) != expected)))
table("ranks, threads, repeats (E3 to E7)" + ("" if os.path.exists(SERIAL) else "; no serial program"), rows)
