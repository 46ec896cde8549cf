#!/usr/bin/env python3
"""The model of docs/scaling.md: time and memory a step on many GPUs. Prints the page's tables; with --write puts them into the
page, with --check says whether they are there. Change the constants to those of your machine."""
import math, os, re, sys

# --- a GPU: what one H200 took of Varion's steps in TF32 (docs/performance.md) ---------------------------------------------------
HBM = 32 * 1.24e8 / 1.038e-3  # bytes/s of IVON's step
PASS_124M = 16384 / 222e3 - 0.837e-3  # s: 16 384 tokens with AdamW, without its update
PASS_RESNET20 = 128 / 31600           # s: 128 images, with the update of 0.27 M parameters, some microseconds
RATE = 6 * 124e6 * 16384 / PASS_124M  # flops/s of a language model's pass, taken for the larger ones too

# --- what connects GPUs: others' figures, sources in docs/scaling.md; nobody has measured Varion on several GPUs yet --------------
NVLINK = 370e9           # bytes/s a GPU and direction, after protocol [3]
NETWORK = 46e9           # bytes/s of a 400 Gb/s adapter, one a GPU [4]
NVLINK_LATENCY, NETWORK_LATENCY = 3.4e-6, 9.6e-6  # s a message, NCCL's own tuning table (ring, simple) [5]
CALL = 8.4e-6            # s a collective, the same table
PCIE = 0.8 * 64e9        # bytes/s and direction, PCIe 5.0 x16 [1], four fifths of it: assumption
PER_NODE = 8
GPU_HOURS = 54 * 24 * 16384 / 419  # between failures of one GPU and its part of the rest: 419 stops of 16 384 GPUs in 54 days [2]
DISK = 1e9               # bytes/s that one rank writes to a shared file system: assumption

# --- the program: bytes a parameter, counted in its kernels -------------------------------------------------------------------
STEP_SHARED = 32         # Optimizer::finish
STEP_PER_SLOT = 12 + 20 + 32  # perturb, collect, update
STATE, PASS = 12, 8      # mean, Hessian, momentum; weights, gradient
CHECKPOINT = 12

# --- this machine, two ranks (docs/clusters.md): one number from the row of 1e7, the other rows are the check -------------------
HOST_SUM = 4 * 1e7 / 6.3e-3  # bytes/s
HOST_CASES = ((272474, "0.11 to 0.70"), (1863690, "0.83 to 2.3"), (124000000, "68"))

# --- networks: parameters, seconds of a GPU's forward and backward pass -------------------------------------------------------
NETWORKS = {"0.27 M (ResNet-20)": (272474, PASS_RESNET20), "124 M": (124e6, PASS_124M), "355 M": (355e6, 6 * 355e6 * 16384 / RATE),
            "773 M": (773e6, 6 * 773e6 * 16384 / RATE)}
GPUS = (8, 64, 512, 4096)


def tree(size, gpus):
    """Seconds of a sum of `size` bytes by halving and doubling, node-local partners first."""
    local, nodes = min(gpus, PER_NODE), max(gpus // PER_NODE, 1)
    t = CALL + 2 * (math.log2(local) * NVLINK_LATENCY + math.log2(nodes) * NETWORK_LATENCY)
    return t + 2 * size * (1 - 1 / local) / NVLINK + 2 * size / local * (1 - 1 / nodes) / NETWORK


def ring(size, gpus):
    """The same over one ring through all adapters of a node."""
    nodes = max(gpus // PER_NODE, 1)
    rate = NVLINK if nodes == 1 else min(NVLINK, NETWORK * PER_NODE)
    latency = 2 * (gpus - nodes) * NVLINK_LATENCY + (2 * nodes * NETWORK_LATENCY if nodes > 1 else 0)
    return CALL + latency + 2 * size * (1 - 1 / gpus) / rate


def staged(size, gpus):
    """The tree as the program does it today: GPU to host, sums there, back; in the node at the rate measured for two ranks."""
    local, nodes = min(gpus, PER_NODE), max(gpus // PER_NODE, 1)
    t = tree(0, gpus) + 2 * size / PCIE
    return t + 2 * size * (1 - 1 / local) / HOST_SUM + 2 * size / local * (1 - 1 / nodes) / NETWORK


def compute(name): return NETWORKS[name][1]


def step(name, gpus, vectors, sharded=False, sum_of=tree):
    """Seconds: pass, sum of `vectors` vectors (1: shared noise, gradient; 2: a sample a slot, gradient and curvature), optimizer.
    Sharded, the halves of the sum are a call each, and a rank updates its part."""
    parameters = NETWORKS[name][0]
    passes = STEP_SHARED if vectors == 1 else STEP_PER_SLOT
    update = passes * parameters / HBM / (gpus if sharded else 1)
    return compute(name) + sum_of(4 * parameters * vectors, gpus) + update + (CALL if sharded else 0)


def three(x): return f"{x:.3g}" if x < 999.5 else f"{x:.0f}"
def ms(t): return three(t * 1e3)
def table(head, rows): return "\n".join(["| " + " | ".join(r) + " |" for r in (head, ["---"] * len(head), *rows)]) + "\n"


def sums():
    rows = [[three(size / 1e6) + " MB", *[f"{ms(tree(size, g))} / {ms(ring(size, g))} / {ms(staged(size, g))}" for g in GPUS]]
            for size in (int(4 * p) for p, _ in NETWORKS.values())]
    return table(["a vector of", *[f"{g} GPUs" for g in GPUS]], rows)


def steps():
    rows = [[n, ms(compute(n)), *[f"{ms(step(n, g, 2))} / {ms(step(n, g, 1))}" for g in GPUS]] for n in NETWORKS]
    return table(["parameters", "pass alone", *[f"{g} GPUs" for g in GPUS]], rows)


def efficiency():
    rows = [[n, *[f"{compute(n) / step(n, g, 2):.2f} / {compute(n) / step(n, g, 1):.2f} / {compute(n) / step(n, g, 2, sum_of=staged):.2f}"
                  for g in GPUS]] for n in NETWORKS]
    return table(["parameters", *[f"{g} GPUs" for g in GPUS]], rows)


def sharding():
    rows = []
    for n, (p, _) in NETWORKS.items():
        cells = [f"{100 * (step(n, g, 1, True) / step(n, g, 1) - 1):+.1f} %, {three((PASS + STATE / g) * p / 1e6)} MB" for g in GPUS]
        rows.append([n, three((PASS + STATE) * p / 1e6) + " MB", *cells])
    return table(["parameters", "whole", *[f"{g} GPUs" for g in GPUS]], rows)


def checkpoints():
    rows = []
    for n, (p, _) in NETWORKS.items():
        stall, write = CHECKPOINT * p / PCIE, CHECKPOINT * p / DISK
        cells = []
        for g in GPUS:
            between = GPU_HOURS * 3600 / g
            interval = max(math.sqrt(2 * stall * between), write)
            lost = lambda t: 100 * (stall / t + t / 2 / between)
            cells.append(f"{interval / 60:.2g} min, {lost(interval):.2g} % ({lost(600):.2g} %)")
        rows.append([n, three(CHECKPOINT * p / 1e6) + " MB", ms(stall) + " ms", f"{write:.2g} s", *cells])
    return table(["parameters", "file", "held up", "written in", *[f"{g} GPUs" for g in GPUS]], rows)


def check():
    rows = []
    for n, measured in HOST_CASES:
        rows.append([f"{n:,}".replace(",", " "), ms(4 * n / HOST_SUM), measured])
    return table(["numbers", "model, ms", "measured, ms"], rows)


def crossovers():
    """Where the two choices begin to pay, by bisection over the number of parameters at 16 384 tokens a GPU."""
    rows = []
    for g in GPUS:
        low, high = 1e3, 1e10
        for _ in range(80):  # smallest network whose sharded step is faster
            middle = math.sqrt(low * high)
            gain = STEP_SHARED * middle / HBM * (1 - 1 / g) - CALL
            low, high = (low, middle) if gain > 0 else (middle, high)
        tokens = []
        for share in (0.05, 0.2):  # tokens a GPU below which shared noise saves this share of the step: passes and sums both go with P
            p = 355e6
            saved = tree(8 * p, g) - tree(4 * p, g) + (STEP_PER_SLOT - STEP_SHARED) * p / HBM
            rest = tree(8 * p, g) + STEP_PER_SLOT * p / HBM
            tokens.append(f"{(saved / share - rest) * RATE / (6 * p):,.0f}".replace(",", " "))
        rows.append([str(g), f"{high / 1e6:.2f} M", *tokens])
    return table(["GPUs", "sharding is faster above, parameters", "shared noise saves 5 % of a step below, tokens a GPU", "20 % below"], rows)


TABLES = {f.__name__: f for f in (check, sums, steps, efficiency, sharding, crossovers, checkpoints)}

if __name__ == "__main__":
    page = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs", "scaling.md")
    if sys.argv[1:] in (["--write"], ["--check"]):
        old = open(page).read()
        new = re.sub(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", lambda m: m[1] + TABLES[m[2]]() + m[3], old, flags=re.S)
        if sys.argv[1] == "--write":
            open(page, "w").write(new)
        elif new != old or old.count("<!-- table") != len(TABLES):
            sys.exit("docs/scaling.md does not hold this model's tables: run scripts/scaling.py --write")
    elif len(sys.argv) > 1:
        sys.exit("use: scripts/scaling.py [--write|--check]")
    else:
        for name, make in TABLES.items():
            print(name + "\n" + make())
