#!/usr/bin/env python3
"""Measures PyTorch and ivon-opt on the cases of `varion bench`; with --against, in turns with Varion.

Every measurement has a process of its own. Which settings are the fastest is found first: each form of the code
(fused, compiled, channels last ...), then the best of them under each environment (the allocator's, the threads').
The files are in the form of `varion bench --json`, so `varion bench compare` reads them.
Exit 69: PyTorch or ivon-opt is missing.
"""
import argparse
import inspect
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec


def kernels_for_avx512():
    """Debian's PyTorch 1.13 takes its own kernels for AVX2, and its OpenBLAS 0.3.21 takes unknown processors for ones without AVX."""
    with open("/proc/cpuinfo") as f:
        return {"OPENBLAS_CORETYPE": "SkylakeX", "ATEN_CPU_CAPABILITY": "avx512"} if " avx512f " in f.read() else {}


# Most of a PyTorch step on a CPU can be page faults: by default the C library maps and unmaps every large block.
# "heap" keeps them (and has the right kernels: "tuned"), "huge" asks for pages of 2 MB, "bound" pins the threads.
TUNED = kernels_for_avx512()
KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "64000000000", **TUNED}
HUGE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
BOUND = {"OMP_PROC_BIND": "close", "OMP_PLACES": "cores"}
ENVIRONMENTS = {"default": {}, **({"tuned": TUNED} if TUNED else {}), "heap": KEEP, "heap+huge": {**KEEP, **HUGE}, "heap+bound": {**KEEP, **BOUND}}
PEERS = {"best": "PyTorch, best", "eager": "best without torch.compile", "shipped": "as shipped"}  # sides of the table
STATES = {"sgd": 2, "adamw": 3, "ivon": 3}  # full-length arrays kept from step to step, the weights included
MLP = (784, 1024, 1024, 10)
# Layers, heads, width, vocabulary, positions; length of a window.
GPT2 = {"gpt2-124m-64": (12, 12, 768, 50304, 1024, 64), "gpt2-124m-1024": (12, 12, 768, 50304, 1024, 1024),
        "gpt2-10m": (6, 6, 384, 65, 256, 256)}
NOISE = 124000000


def case_names():
    for n in (10000000, 124000000):
        for optimizer in STATES:
            yield f"optimizer/{optimizer}/{n}"
    yield "noise/stored"
    for model in ("mlp-1024-1024/128", "resnet20/50", "resnet20/128", "gpt2-124m-64/4", "gpt2-124m-1024/1", "gpt2-10m/16"):
        for optimizer in STATES:
            yield f"step/{model}/{optimizer}"


def codes_of(name):
    """The forms of the code worth trying; the first asks for nothing."""
    words = name.split("/")
    if words[0] == "noise":
        return ["plain"]
    if words[0] == "optimizer":
        return {"sgd": ["plain", "foreach", "fused"], "adamw": ["plain", "foreach", "fused"],
                "ivon": ["plain", "compiled-step"]}[words[1]]
    update = {"sgd": " fused", "adamw": " fused", "ivon": ""}[words[3]]
    nets = (["folded", "compile", "compile folded", "compile folded last"] if words[1] == "resnet20" else
            ["", "compile"] if words[1] in GPT2 else ["", "compile", "compile autotune"])
    codes = ["plain"] + [(net + update).strip() for net in nets]
    if words[3] == "ivon":
        codes.append(nets[min(2, len(nets) - 1)] + " compiled-step")
    return [c for c in codes if c]


def work_of(name):
    """Bytes, flops, items and an item's name, counted as Varion counts them."""
    words = name.split("/")
    if words[0] == "noise":
        return 4 * NOISE, 0, NOISE, "draw"
    if words[0] == "optimizer":
        n = int(words[2])
        return 4 * n * (2 * STATES[words[1]] + 1 + (words[1] == "ivon")), 0, n, "parameter"
    batch = int(words[2])
    if words[1] in GPT2:
        layers, _, width, vocabulary, _, length = GPT2[words[1]]
        tokens = batch * length
        attention = 4 * tokens * length * width * 0.5 * layers  # of what a position may see
        return 0, 3 * (2 * tokens * width * (12 * layers * width + vocabulary) + attention), tokens, "token"
    if words[1] == "mlp-1024-1024":
        each = [2 * a * b for a, b in zip(MLP, MLP[1:])]
    else:
        layers = [(32, 3, 16, 3)]  # the output's side, channels in and out, the kernel's side
        inputs, side = 16, 32
        for stack in range(3):
            width = 16 << stack
            for block in range(3):
                down = stack > 0 and block == 0
                side //= 2 if down else 1
                layers += [(side, inputs, width, 3), (side, width, width, 3)]
                layers += [(side, inputs, width, 1)] if down else []
                inputs = width
        each = [2 * s * s * i * o * k * k for s, i, o, k in layers] + [2 * 64 * 10]
    return 0, batch * (3 * sum(each) - each[0]), batch, "image"  # nothing asks for the input's gradient


# What a measuring process does.

def make_resnet20(torch, folded):
    """The network of models/resnet20.cpp."""
    nn, functional = torch.nn, torch.nn.functional

    class Frn(nn.Module):
        """max(gamma x / sqrt(mean(x^2) + 1e-6) + beta, tau), the mean over an image's pixels."""

        def __init__(self, width):
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(1, width, 1, 1))
            self.beta = nn.Parameter(torch.zeros(1, width, 1, 1))
            self.tau = nn.Parameter(torch.zeros(1, width, 1, 1))

        def forward(self, x):
            scale = torch.rsqrt((x * x).mean((2, 3), keepdim=True) + 1e-6)
            if not folded:
                return torch.maximum(self.gamma * (x * scale) + self.beta, self.tau)
            # The same function in fewer passes over x, and a cheaper backward than maximum's.
            return functional.relu(x * (self.gamma * scale) + (self.beta - self.tau)) + self.tau

    class ConvFrn(nn.Module):
        def __init__(self, inputs, width, kernel, stride):
            super().__init__()
            self.pad = kernel == 3 and stride == 2  # one row and one column, after the image
            self.conv = nn.Conv2d(inputs, width, kernel, stride, kernel // 2 if stride == 1 else 0)
            self.norm = Frn(width)

        def forward(self, x):
            return self.norm(self.conv(functional.pad(x, (0, 1, 0, 1)) if self.pad else x))

    class Block(nn.Module):
        def __init__(self, inputs, width, down):
            super().__init__()
            self.one = ConvFrn(inputs, width, 3, 2 if down else 1)
            self.two = ConvFrn(width, width, 3, 1)
            self.shortcut = ConvFrn(inputs, width, 1, 2) if down else nn.Identity()

        def forward(self, x):
            return self.shortcut(x) + self.two(self.one(x))

    blocks = [Block(16 << max(s - (b == 0), 0), 16 << s, s > 0 and b == 0) for s in range(3) for b in range(3)]
    net = nn.Sequential(ConvFrn(3, 16, 3, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    assert sum(p.numel() for p in net.parameters()) == 274042
    return net


def make_gpt2(torch, size):
    """The network of models/gpt2.cpp; tokens and targets [batch, length] to the mean loss."""
    nn, functional = torch.nn, torch.nn.functional
    layers, heads, width, vocabulary, positions, length = size
    fused = hasattr(functional, "scaled_dot_product_attention")  # PyTorch 2
    unseen = None if fused else torch.full((length, length), float("-inf")).triu(1)

    class Norm(nn.Module):  # PyTorch 1's has a bias
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(width))

        def forward(self, x):
            return functional.layer_norm(x, (width,), self.weight)

    def attend(q, k, v):
        if fused:
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return torch.softmax(q @ k.transpose(2, 3) * (width // heads) ** -0.5 + unseen, dim=3) @ v

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm_one, self.norm_two = Norm(), Norm()
            self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
            self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

        def forward(self, x):
            batch, length, _ = x.shape
            q, k, v = (part.view(batch, length, heads, width // heads).transpose(1, 2)
                       for part in self.qkv(self.norm_one(x)).split(width, dim=2))
            seen = attend(q, k, v)
            x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
            return x + self.down(functional.gelu(self.up(self.norm_two(x))))

    class Gpt2(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
            self.blocks = nn.ModuleList(Block() for _ in range(layers))
            self.norm = Norm()
            for p in self.parameters():
                if p.dim() == 2:
                    nn.init.normal_(p, std=0.02)

        def forward(self, tokens, targets):
            x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
            for block in self.blocks:
                x = block(x)
            logits = functional.linear(self.norm(x), self.tokens.weight)
            return functional.cross_entropy(logits.view(-1, vocabulary), targets.view(-1))

    net = Gpt2()
    if layers == 12:
        assert sum(p.numel() for p in net.parameters()) == 124373760
    return net


def make_mlp(torch):
    layers = []
    for a, b in zip(MLP, MLP[1:]):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def make_optimizer(torch, name, parameters, code):
    fuses = "fused" in inspect.signature(torch.optim.SGD).parameters  # not in PyTorch 1: the next best
    form = {word if fuses else "foreach": True for word in ("foreach", "fused") if word in code}
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, **form)
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=1e-3, **form)
    import ivon
    return ivon.IVON(parameters, lr=1e-3, ess=50000)


def make_body(torch, name, code):
    """What is timed. Batches are ready in memory as floats: nothing is gathered, mirrored or shifted, as it is in
    Varion's steps."""
    words = name.split("/")
    if words[0] == "noise":
        out = torch.empty(NOISE)
        return lambda: torch.randn(NOISE, out=out)
    if words[0] == "optimizer":
        n = int(words[2])
        weight = torch.nn.Parameter(torch.empty(n).uniform_(-0.05, 0.05))
        gradient = torch.empty(n).uniform_(-0.01, 0.01)
        optimizer = make_optimizer(torch, words[1], [weight], code)

        def gradients():
            weight.grad = gradient
    else:
        batch, images, text = int(words[2]), words[1] == "resnet20", GPT2.get(words[1])
        net = make_gpt2(torch, text) if text else make_resnet20(torch, "folded" in code) if images else make_mlp(torch)
        shape = (3, 32, 32) if images else (784,)
        if text:
            batches = [tuple(torch.randint(text[3], (batch, text[5])) for _ in "xy") for _ in range(4)]
        else:
            batches = [(torch.randn(batch, *shape), torch.arange(batch) % 10) for _ in range(4)]
        if "last" in code:
            net = net.to(memory_format=torch.channels_last)
            batches = [(x.contiguous(memory_format=torch.channels_last), y) for x, y in batches]
        optimizer = make_optimizer(torch, words[3], net.parameters(), code)

        def loss(x, y):
            return net(x, y) if text else torch.nn.functional.cross_entropy(net(x), y)
        if "compile" in code:
            loss = torch.compile(loss, mode="max-autotune-no-cudagraphs" if "autotune" in code else
                                 "reduce-overhead" if "graphs" in code else None)
        count = 0

        def gradients():
            nonlocal count
            count += 1
            optimizer.zero_grad(set_to_none=True)
            loss(*batches[count % 4]).backward()
    update = torch.compile(optimizer.step) if "compiled-step" in code else optimizer.step

    def step():
        gradients()
        update()

    def sampled_step():
        with optimizer.sampled_params(train=True):
            gradients()
        update()
    return sampled_step if "ivon" in words else step


def facts(threads):
    import torch
    with open("/proc/cpuinfo") as f:
        model = next((entry.split(":")[1].strip() for entry in f if entry.startswith("model name")), "unknown")
    libraries = [entry.strip(" -\n") for entry in torch.__config__.show().splitlines()]
    return {"program": f"PyTorch {torch.__version__}, ivon-opt {version('ivon-opt')}", "device": model,
            "precision": "fp32", "threads": str(threads),
            "compiler": next((entry for entry in libraries if entry.startswith("GCC")), ""),
            "provider": ", ".join(entry.split(" (Git")[0].split(" for ")[0] for entry in libraries
                                  if "Math Kernel" in entry or "MKL-DNN" in entry or "BLAS" in entry[:8])}


def measure_here(name, code, repeats, least):
    import torch
    import ivon  # noqa: F401  (before the base is read)
    threads = int(os.environ["OMP_NUM_THREADS"])
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # noqa: E731
    base = peak()
    body = make_body(torch, name, code.split())

    def seconds(calls):
        start = time.perf_counter()
        for _ in range(calls):
            body()
        return (time.perf_counter() - start) / calls
    seconds(4 if "compile" in code else 1)
    calls = int(min(max(least / max(seconds(1), 1e-9), 1), 1e5))
    times = sorted(seconds(calls) for _ in range(repeats))
    amount, flops, items, item = work_of(name)
    return {"name": name, "bytes": amount, "flops": flops, "items": items, "item": item, "calls": calls,
            "repeats": repeats, "median_s": times[len(times) // 2], "min_s": times[0], "max_s": times[-1],
            "limit_s": 0, "device_peak_bytes": 0, "process_peak_bytes": peak(), "process_base_bytes": base,
            "machine": facts(threads)}


# An idle machine.

def working_seconds():
    """CPU seconds that the whole machine has worked so far, those its host took away included."""
    with open("/proc/stat") as f:
        t = [int(v) for v in f.readline().split()[1:9]]
    return (sum(t) - t[3] - t[4]) / os.sysconf("SC_CLK_TCK")


def run_when_idle(limit, patience, command):
    """Waits until others use less than `limit` of the machine, runs the command, and tells what they used meanwhile."""
    start = time.monotonic()
    while True:
        before = working_seconds()
        time.sleep(1)
        share = (working_seconds() - before) / os.cpu_count()
        if share < limit or time.monotonic() - start > patience:
            break
    began, before = time.monotonic(), working_seconds()
    status = subprocess.run(command).returncode
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    foreign = working_seconds() - before - own.ru_utime - own.ru_stime
    print(json.dumps({"waited_s": round(began - start, 1), "foreign_before": round(share, 3),
                      "foreign_cpu": round(max(0, foreign) / (time.monotonic() - began) / os.cpu_count(), 3)}))
    return status


# The process in charge.

class Runner:
    def __init__(self, args):
        self.args = args
        self.machines = {}  # by side
        self.rows = []

    def run(self, command, environment=()):
        """The command's own output and what run_when_idle tells, or None after telling why there is none."""
        wrapped = self.args.prefix + [sys.executable, os.path.abspath(__file__), "--when-idle",
                                        str(self.args.idle), str(self.args.patience)] + command
        env = dict(os.environ, OMP_NUM_THREADS=str(self.args.threads), TORCHINDUCTOR_COMPILE_THREADS="1", **dict(environment))
        done = subprocess.run(wrapped, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            print(f"failed: {shlex.join(command[2:])}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}",
                  file=sys.stderr)
            return None
        out = done.stdout.splitlines()
        return out[:-1], json.loads(out[-1])

    def peer(self, name, setting):
        code, environment = setting.split(", ")
        done = self.run([sys.executable, os.path.abspath(__file__), "--measure", name, code, str(self.args.repeats),
                         str(self.args.seconds)], ENVIRONMENTS[environment])
        if done is None:
            return None
        row = json.loads(done[0][-1])
        self.machines["peer"] = row.pop("machine")
        return self.keep({**row, **done[1], "side": "peer", "setting": setting})

    def varion(self, name):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "bench.json")
            done = self.run([self.args.against, "bench", name, f"--json={path}", f"--repeats={self.args.repeats}",
                             f"--seconds={self.args.seconds}"])
            if done is None:
                return None
            with open(path) as f:
                measured = json.load(f)
        self.machines["varion"] = measured["machine"]
        row = next(r for r in measured["results"] if r["name"] == name)
        return self.keep({**row, **done[1], "side": "varion", "setting": "as built"})

    def undisturbed(self, measure):
        """Measures again, at most twice, where others took more than their share; keeps what they disturbed least."""
        rows = []
        while len(rows) < 3 and (not rows or rows[-1]["foreign_cpu"] > self.args.idle):
            row = measure()
            if row is None:
                return None
            rows.append(row)
        return min(rows, key=lambda r: r["foreign_cpu"])

    def keep(self, row):
        self.rows.append(row)
        print(f"{row['name']:28} {row['setting']:36} {rate_text(row, row['median_s']):>18} "
              f"{1e3 * row['median_s']:9.2f} ms ({1e3 * row['min_s']:.2f}-{1e3 * row['max_s']:.2f}) "
              f"{row['process_peak_bytes'] / 1e6:7.0f} MB  others {row['foreign_cpu']:.2f}", file=sys.stderr, flush=True)
        return row

    def search(self, name):
        """The default's setting, the fastest one's without torch.compile, and the fastest one's."""
        def one(code, environment):
            return self.undisturbed(lambda: self.peer(name, f"{code}, {environment}"))
        codes = codes_of(name)
        default = one(codes[0], "default")
        rows = [default] + [one(code, "heap") for code in codes]
        kinds = {"eager": lambda row: row and "compile" not in row["setting"], "best": lambda row: True}
        for code in {fastest(filter(kind, rows[1:]))["setting"].split(", ")[0] for kind in kinds.values()}:
            rows += [one(code, environment) for environment in ENVIRONMENTS if environment != "heap"]
        return {"shipped": default["setting"], **{side: fastest(filter(kind, rows))["setting"] for side, kind in kinds.items()}}


def fastest(rows):
    """Of the rows that there are."""
    return min((r for r in rows if r), key=lambda r: r["median_s"])


def rate_text(row, seconds):
    if row["item"] in ("image", "token"):
        return f"{row['items'] / seconds:.0f} {row['item']}/s"
    return f"{1e9 * seconds / row['items']:.3f} ns/{row['item'][:5]}"


def spread(values):
    values = sorted(values)
    return statistics.median(values), values[0], values[-1]


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def write_bench(path, machine, rows):
    write_json(path, {"schema": "varion-bench-1", "machine": machine, "quick": False, "results": rows})


def median_row(rows):
    """One row of several rounds: the median of their medians, the range of all repeats."""
    return {**rows[0], "median_s": statistics.median(r["median_s"] for r in rows), "min_s": min(r["min_s"] for r in rows),
            "max_s": max(r["max_s"] for r in rows), "repeats": sum(r["repeats"] for r in rows),
            "process_peak_bytes": max(r["process_peak_bytes"] for r in rows),
            "foreign_cpu": max(r["foreign_cpu"] for r in rows)}


def choose_settings(runner, names):
    """By case and side: settings found now or in an earlier run on the same machine."""
    path = os.path.join(runner.args.out, "settings.json")
    known = {}
    key = facts(runner.args.threads)
    if os.path.exists(path):
        with open(path) as f:
            known = json.load(f)
        if known.get("machine") != key:
            known = {}
    known.setdefault("machine", key)
    for name in names:
        if name not in known:
            known[name] = runner.search(name)
            write_json(path, known)
    return known


def in_turns(runner, names, settings):
    """{case: {side: rows, one a round}}; the sides change places from round to round."""
    rounds = {name: {side: [] for side in ("varion", *PEERS)} for name in names}
    for turn in range(runner.args.rounds):
        for name in names:
            measured = {}  # by setting: what serves two sides is measured once
            sides = ("varion", *PEERS)
            for side in sides if turn % 2 == 0 else sides[::-1]:
                setting = settings[name].get(side)
                if setting not in measured:
                    measured[setting] = runner.undisturbed(
                        lambda: runner.varion(name) if side == "varion" else runner.peer(name, setting))
                if measured[setting] is None:
                    sys.exit(1)
                rounds[name][side].append(measured[setting])
    return rounds


def number(v):
    return f"{v:,.0f}".replace(",", " ") if v >= 100 else f"{v:.3g}"


def table(runner, rounds, settings):
    """Markdown."""
    peer, ours = runner.machines["peer"], runner.machines["varion"]
    args = runner.args
    out = [f"{ours['device']}, {args.threads} threads, {time.strftime('%Y-%m-%d')}. {ours['program']} ({ours['compiler']} "
           f"{ours['flags']}; {ours['provider']}) and {peer['program']} ({peer['provider']}), fp32, in turns: {args.rounds} "
           f"rounds of {args.repeats} repeats, a process each. Median of the rounds [range of all repeats]; ratios: median "
           "of the rounds' [range of the rounds'], above 1 where Varion is better.", ""]
    out += ["| | Varion | " + "".join(f"{title} | ratio | " for title in PEERS.values()) + "settings |", "|---" * 9 + "|"]

    def cell(values):
        return "{} [{} {}]".format(*map(number, values))

    def ratio(a, b):
        return "{:.2f} [{:.2f} {:.2f}]".format(*spread(x / y for x, y in zip(a, b)))
    for name, sides in rounds.items():
        one = median_row(sides["varion"])
        unit = f"{one['item']}s/s" if one["item"] in ("image", "token") else f"ns/{one['item']}"
        cells = {}
        for side, rows in sides.items():
            r = median_row(rows)
            if r["item"] in ("image", "token"):
                cells[side] = cell((r["items"] / r["median_s"], r["items"] / r["max_s"], r["items"] / r["min_s"]))
            else:
                cells[side] = cell([1e9 * r[k] / r["items"] for k in ("median_s", "min_s", "max_s")])
        times = {side: [r["median_s"] for r in rows] for side, rows in sides.items()}
        out.append(f"| {name}, {unit} | {cells['varion']} | " +
                   "".join(f"{cells[side]} | {ratio(times[side], times['varion'])} | " for side in PEERS) +
                   f"{settings[name]['best']}; {settings[name]['eager']} |")
    for name in rounds:
        other = name.replace("/ivon", "/adamw")
        if name == other or other not in rounds or not name.startswith("step/"):
            continue
        cost = {side: [a["median_s"] / b["median_s"] for a, b in zip(rounds[name][side], rounds[other][side])]
                for side in rounds[name]}
        out.append(f"| {name.replace('/ivon', '')}, IVON / AdamW | {cell(spread(cost['varion']))} | " +
                   "".join(f"{cell(spread(cost[side]))} | {ratio(cost[side], cost['varion'])} | " for side in PEERS) + "|")
    out += ["", "Peak resident memory of the process, MB; in brackets without what PyTorch holds once imported.", "",
            "| | Varion | " + " | ".join(f"{title} | ratio" for title in PEERS.values()) + " |", "|---" * 8 + "|"]
    for name, sides in rounds.items():
        mega = {side: max(r["process_peak_bytes"] for r in rows) / 1e6 for side, rows in sides.items()}
        base = {side: max(r.get("process_base_bytes", 0) for r in rows) / 1e6 for side, rows in sides.items()}
        out.append(f"| {name} | {mega['varion']:.0f} | " + " | ".join(
            f"{mega[s]:.0f} ({mega[s] - base[s]:.0f}) | {mega[s] / mega['varion']:.2f} ({(mega[s] - base[s]) / mega['varion']:.2f})"
            for s in PEERS) + " |")
    shares = [r["foreign_cpu"] for sides in rounds.values() for rows in sides.values() for r in rows]
    out += ["", f"Others used {statistics.median(shares):.3f} of the machine meanwhile (median of the processes; at most "
            f"{max(shares):.3f}). PyTorch's images are ready in memory as floats; Varion's are gathered from bytes, mirrored "
            "and shifted within its step."]
    return "\n".join(out)


TARGETS = ["optimizer/adamw/124000000", "optimizer/ivon/124000000", "noise/stored", "step/mlp-1024-1024/128/adamw",
           "step/mlp-1024-1024/128/ivon", "step/resnet20/128/sgd", "step/resnet20/128/adamw", "step/resnet20/128/ivon"]


def main():
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure_here(sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))))
        return 0
    if sys.argv[1:2] == ["--when-idle"]:
        return run_when_idle(float(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="parts of case names; none: all, with --against those of the table")
    parser.add_argument("--against", metavar="VARION", help="the program to measure in turns with")
    parser.add_argument("--out", default="build/peers", help="folder of the files (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.1, help="least time of one repeat")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--idle", type=float, default=0.06, help="share of the machine that others may use")
    parser.add_argument("--patience", type=float, default=300, help="seconds to wait for an idle machine")
    parser.add_argument("--prefix", type=shlex.split, default=[], help="put before each measurement, e.g. 'taskset -c 0,1'")
    args = parser.parse_args()
    missing = [package for package, module in (("torch", "torch"), ("ivon-opt", "ivon")) if not find_spec(module)]
    if missing:
        print(f"this Python has no {' and no '.join(missing)}: pip install torch ivon-opt, or scripts/bench-peers.sh",
              file=sys.stderr)
        return 69
    names = [n for n in case_names() if any(p in n for p in args.parts) or
             (not args.parts and (not args.against or n in TARGETS))]
    if not names:
        parser.error("no case has such a name: " + ", ".join(case_names()))
    os.makedirs(args.out, exist_ok=True)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.abspath(os.path.join(args.out, "inductor")))
    runner = Runner(args)
    settings = choose_settings(runner, names)
    if not args.against:
        best = [runner.peer(name, settings[name]["best"]) for name in names]
        others = [{**row, "name": f"{row['name']} [{row['setting']}]"} for row in runner.rows]
        write_bench(os.path.join(args.out, "peers.json"), runner.machines["peer"], best + others)
        return 0
    rounds = in_turns(runner, names, settings)
    chosen = "; ".join(f"{name}: {settings[name]['best']}" for name in names)
    write_bench(os.path.join(args.out, "peers.json"), {**runner.machines["peer"], "settings": chosen},
                [median_row(sides["best"]) for sides in rounds.values()])
    write_bench(os.path.join(args.out, "varion.json"), runner.machines["varion"],
                [median_row(sides["varion"]) for sides in rounds.values()])
    write_json(os.path.join(args.out, "rounds.json"), rounds)
    text = table(runner, rounds, settings)
    with open(os.path.join(args.out, "table.md"), "w") as f:
        f.write(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
