#!/usr/bin/env python3
"""Draws learning curves of runs into an SVG: mean over the runs of each group, and their standard error as a band.

  scripts/curves.py OUT.svg KEY LABEL=RUN_DIRECTORY[,RUN_DIRECTORY ...] ...

KEY is a metric of metrics.jsonl, such as test_at_mean/nll. Exit 64: wrong use; 66: a run without that metric.
"""
import json
import math
import sys

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 420, 64, 48, 16, 16
COLOURS = ["#0b5fa5", "#c0392b", "#2e7d32", "#8e44ad", "#b9770e", "#34495e"]


def curve(run, key):
    with open(f"{run}/metrics.jsonl") as f:
        records = [json.loads(line) for line in f]
    points = {r["step"]: r[key] for r in records if key in r}
    last = key.replace("test_at_mean/", "mean/")  # the name of the same at the end of a run
    points.update({r["step"]: r[last] for r in records if last in r})
    if not points:
        print(f"curves: {run} has no {key}", file=sys.stderr)
        sys.exit(66)
    return points


def group(runs, key):
    """(step, mean, standard error) for the steps that all runs have."""
    curves = [curve(run, key) for run in runs]
    out = []
    for step in sorted(set.intersection(*(set(c) for c in curves))):
        values = [c[step] for c in curves]
        mean = sum(values) / len(values)
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1) / len(values))
        out.append((step, mean, spread))
    return out


def ticks(low, high, count=6):
    raw = (high - low) / count
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(step * k, 10) for k in range(first, int(high / step + 1e-9) + 1)]


def draw(groups, key):
    every = [p for points in groups.values() for p in points]
    x1 = max(p[0] for p in every)
    low, high = min(p[1] - p[2] for p in every), max(p[1] + p[2] for p in every)
    high = min(high, low + 1.0)  # what happens in the first steps would press the rest together
    low -= 0.03 * (high - low)

    def x(step):
        return LEFT + (WIDTH - LEFT - RIGHT) * step / x1

    def y(value):
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - min(max(value, low), high)) / (high - low)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for t in ticks(low, high):
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(t):.1f}" y2="{y(t):.1f}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 6}" y="{y(t) + 4:.1f}" text-anchor="end">{t:g}</text>')
    for t in ticks(0, x1):
        out.append(f'<text x="{x(t):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{t:g}</text>')
    out.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}" text-anchor="middle">step</text>'
               f'<text x="14" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 14 {HEIGHT / 2})">{key}</text>')
    for k, (label, points) in enumerate(groups.items()):
        colour = COLOURS[k % len(COLOURS)]
        band = [f"{x(s):.1f},{y(m + e):.1f}" for s, m, e in points] + [f"{x(s):.1f},{y(m - e):.1f}" for s, m, e in reversed(points)]
        line = " ".join(f"{x(s):.1f},{y(m):.1f}" for s, m, _ in points)
        out.append(f'<polygon points="{" ".join(band)}" fill="{colour}" opacity="0.2"/>'
                   f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
                   f'<line x1="{WIDTH - 230}" x2="{WIDTH - 205}" y1="{TOP + 16 + 18 * k}" y2="{TOP + 16 + 18 * k}" stroke="{colour}" stroke-width="1.8"/>'
                   f'<text x="{WIDTH - 198}" y="{TOP + 20 + 18 * k}">{label}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


def main():
    if len(sys.argv) < 4 or any("=" not in word for word in sys.argv[3:]):
        print(__doc__, file=sys.stderr)
        return 64
    groups = {}
    for word in sys.argv[3:]:
        label, runs = word.split("=", 1)
        groups[label] = group(runs.split(","), sys.argv[2])
    with open(sys.argv[1], "w") as f:
        f.write(draw(groups, sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
