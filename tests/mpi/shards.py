"""parallel.shard_posterior: every rank keeps a part of the posterior. The bits of the run where it does not, also when one continues
the other; numbers that are not finite."""
import re

import whole_jobs

whole_jobs.needs("mpirun")
work = whole_jobs.workplace("shards-test")
run = whole_jobs.on_ranks(work)


def digest(name):
    return whole_jobs.digest(f"{work}/runs/{name}")


ivon = ["optim.name=ivon", "optim.ess=1e4", "parallel.noise=shared"]
optimizers = {"ivon": ivon, "ivon2": [*ivon, "optim.mc_samples=2"], "adamw": ["optim.name=adamw", "optim.lr=0.001", "optim.grad_clip=0.5"],
              "sgd": ["optim.name=sgd", "optim.lr=0.01"]}
base = ["data.name=glyphs", "model.sizes=160,120", "data.global_batch=32", "data.train_size=100", "data.test_size=40", "train.steps=12",
        "parallel.slots=4", "eval.samples=2", "eval.every=4st", "eval.batch=16", "log.every=1st", "log.hess_stats_every=4st",
        "checkpoint.every=0st", "data.val_size=20"]
if whole_jobs.SANITIZED:
    optimizers = {name: optimizers[name] for name in ("ivon", "adamw")}
shards = "parallel.shard_posterior=true"
for optimizer, choice in optimizers.items():
    run(0, "train", *base, *choice, f"run.name=whole-{optimizer}")
    for ranks in (2, 4):
        run(ranks, "train", *base, *choice, shards, f"run.name=shards-{optimizer}-{ranks}")
        assert digest(f"shards-{optimizer}-{ranks}") == digest(f"whole-{optimizer}"), (optimizer, ranks)
assert len({digest(f"whole-{optimizer}") for optimizer in optimizers}) == len(optimizers)

words = [*base, *ivon, "run.name=moved"]
run(4, "train", *words, shards, "train.stop_after=3", code=75)
run(1, "train", *words, "train.stop_after=6", code=75)
run(2, "train", *words, shards, "train.stop_after=9", code=75)
run(4, "train", *words)
assert digest("moved") == digest("whole-ivon")

run(3, "train", *base, *ivon, shards, "run.name=three", "parallel.mode=fast", "parallel.slots=3", "data.global_batch=33")
out = run(2, "train", *base, "optim.name=sgd", "optim.lr=1e9", shards, "run.name=diverged", code=10)
assert re.search(r"varion: step \d+: .*the first in mean of layers\.\d\.\w+\[\d+\]", out) and out.count("varion: ") == 1, out
assert "ok" in run(4, "verify", "ranks", "data.name=glyphs", "model.sizes=160,120", "data.global_batch=32", shards, "parallel.noise=shared")
print("shards: all as it should be,", len(optimizers), "optimizers on 0, 2 and 4 ranks")
