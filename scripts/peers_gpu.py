#!/usr/bin/env python3
"""Measures PyTorch (and ivon-opt, where installed) on a GPU on the cases of `varion bench`, beside Varion on the same card.

For every precision Varion runs before and after PyTorch, which measures all its forms in one process: eager with fused
optimizers, by torch.compile, and by that with CUDA graphs (mode reduce-overhead). Precisions: fp32, tf32 (products of
float32 in TF32), bf16 (PyTorch: autocast to bfloat16, master weights float32; Varion: train.precision=bf16). With --warm
only PyTorch's compiled code is made, for a later run.
Exit 69: no PyTorch with a GPU.
"""
import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time

import peers

CASES = ["optimizer/adamw/124000000", "optimizer/ivon/124000000", "noise/stored", "step/mlp-1024-1024/128/adamw",
         "step/mlp-1024-1024/128/ivon", "step/resnet20/128/adamw", "step/resnet20/128/ivon", "step/gpt2-10m/64/adamw",
         "step/gpt2-10m/64/ivon", "step/gpt2-124m-1024/16/adamw", "step/gpt2-124m-1024/16/ivon"]


def codes_of(name):
    words = name.split("/")
    fused = "" if words[-1] == "ivon" or words[1] == "ivon" else "fused"
    if words[0] == "noise":
        return ["plain"]
    if words[0] == "optimizer":
        return [fused or "plain"]
    folded = "folded last " if words[1] == "resnet20" else ""
    return [(word + folded + fused).strip() or "plain" for word in ("", "compile ", "compile graphs ")]


def body_of(torch, name, code, precision):
    """peers.make_body with all its tensors on the device."""
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    torch.backends.cudnn.benchmark = True
    with torch.device("cuda"):
        body = peers.make_body(torch, name, code.split())
    if precision != "bf16" or not name.startswith("step/"):
        return body

    def rounded():
        with torch.autocast("cuda", dtype=torch.bfloat16):
            body()
    return rounded


def measure(torch, name, code, precision, repeats, least):
    torch.manual_seed(1)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    body = body_of(torch, name, code, precision)

    def seconds(calls):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            body()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / calls
    seconds(3)
    calls = int(min(max(least / max(seconds(1), 1e-9), 1), 1e4))
    times = sorted(seconds(calls) for _ in range(repeats))
    amount, flops, items, item = peers.work_of(name)
    return {"name": name, "code": code, "precision": precision, "bytes": amount, "flops": flops, "items": items, "item": item,
            "median_s": times[len(times) // 2], "min_s": times[0], "max_s": times[-1],
            "device_peak_bytes": torch.cuda.max_memory_allocated()}


def measure_all(names, precision, repeats, least, eager):
    import torch
    rows = []
    for name in names:
        for code in codes_of(name)[: 1 if eager else None]:
            with contextlib.suppress(torch.OutOfMemoryError):
                try:
                    rows.append(measure(torch, name, code, precision, repeats, least))
                    print(json.dumps(rows[-1]), flush=True)
                except (RuntimeError, ImportError) as error:
                    print(f"failed: {name}, {code}, {precision}: {str(error).splitlines()[0]}", file=sys.stderr)
            torch._dynamo.reset()


def varion_rows(program, names, precision, repeats, least):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bench.json")
        done = subprocess.run([program, "bench", *names, f"--json={path}", f"--repeats={repeats}", f"--seconds={least}",
                               f"--precision={precision}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            print(f"failed: varion, {precision}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}", file=sys.stderr)
            return {}, {}
        with open(path) as f:
            measured = json.load(f)
    return {r["name"]: r for r in measured["results"]}, measured["machine"]


def rate(row, seconds):
    return row["items"] / seconds if row["item"] in ("image", "token") else 1e9 * seconds / row["items"]


def main():
    if sys.argv[1:2] == ["--measure"]:
        measure_all(sys.argv[6:], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5] == "eager")
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="parts of case names; none: all")
    parser.add_argument("--against", metavar="VARION", help="the program to measure beside")
    parser.add_argument("--precision", default="fp32,tf32,bf16")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="least time of one repeat")
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    parser.add_argument("--warm", action="store_true", help="compile only")
    parser.add_argument("--json", help="file for all that was measured")
    args = parser.parse_args()
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.abspath("build/peers/inductor-gpu"))
    names = [n for n in CASES if not args.parts or any(p in n for p in args.parts)]
    try:
        import torch
        assert torch.cuda.is_available()
    except (ImportError, AssertionError):
        print("this Python has no PyTorch with a GPU", file=sys.stderr)
        return 69
    every, rows = [], []
    for precision in args.precision.split(","):
        repeats, least = ("1", "0") if args.warm else (str(args.repeats), str(args.seconds))
        ours = [varion_rows(args.against, names, precision, repeats, least)] if args.against and not args.warm else []
        done = subprocess.run([sys.executable, os.path.abspath(__file__), "--measure", precision, repeats, least,
                               "eager" if args.eager else "all", *names],
                              stdout=subprocess.PIPE, text=True)
        peer = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        ours += [varion_rows(args.against, names, precision, repeats, least)] if ours else []
        every.append({"precision": precision, "varion": [o[0] for o in ours], "peer": peer, "machine": ours[-1][1] if ours else {}})
        for name in names:
            forms = {next((w for w in ("graphs", "compile") if w in r["code"]), "eager"): r for r in peer if r["name"] == name}
            mine = [o[0][name] for o in ours if name in o[0]]
            if not forms:
                continue
            any_row = next(iter(forms.values()))
            cells = [f"{rate(any_row, m['median_s']):.4g}" for m in mine] + [""] * (2 - len(mine))
            best = min((m["median_s"] for m in mine), default=None)
            for form in ("eager", "compile", "graphs"):
                r = forms.get(form)
                cells.append("" if r is None else f"{rate(r, r['median_s']):.4g}" + (f" ({r['median_s'] / best:.2f})" if best else ""))
            memory = [f"{m['device_peak_bytes'] / 1e6:.0f}" for m in mine[:1]]
            memory += [f"{r['device_peak_bytes'] / 1e6:.0f}" for r in forms.values()]
            rows.append(f"| {precision} | {name} | {' | '.join(cells)} | {', '.join(memory)} |")
    if args.json:
        peers.write_json(args.json, every)
    print("| precision | case | Varion before | after | PyTorch eager (ratio) | compiled (ratio) | with graphs (ratio) | peak MB |\n|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
