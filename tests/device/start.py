"""The program starts and answers wherever it was built; what needs a device says in one line that there is none."""
import os, re, subprocess, sys, tempfile

program = os.environ["VARION_BIN"]
bad = []


def run(*words):
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run([program, *words], capture_output=True, text=True, cwd=folder, timeout=300)


def check(ok, what):
    if not ok:
        bad.append(what)


for words in (["help"], ["version"], ["info"], ["config", "template"], ["config", "show"], ["data", "info"], ["train", "--help"]):
    r = run(*words)
    check(r.returncode == 0 and r.stdout and not r.stderr, f"{words}: exit {r.returncode}, {r.stderr!r}")

info = run("info").stdout
device = re.search(r"^device     (.*)$", info, re.M)
check(device, "info names no device")
provider = re.findall(r"^provider   (\S+) \((.*)\), in use$", info, re.M)
check(len(provider) == 1, f"info says of {len(provider)} providers that they are in use")

if device and device.group(1).startswith("none: "):
    reason = device.group(1)[len("none: "):]
    check(reason.startswith("no CUDA device: ") or reason.startswith("no HIP device: "), f"reason: {reason}")
    for words in (["train"], ["evaluate", "x.h5"], ["bench"], ["verify", "gradients"], ["study", "run", "x"]):
        r = run(*words)
        check(r.returncode == 69 and r.stderr == f"varion: {reason}\n", f"{words}: exit {r.returncode}, {r.stderr!r}")
elif "precision  fp32\n" in info:
    for name in ("tf32", "bf16"):
        for words, said in ((["train", f"train.precision={name}"], f"train.precision = {name}"), (["bench", f"--precision={name}"], f"--precision = {name}")):
            r = run(*words)
            line = r.stderr.splitlines()
            check(r.returncode == 78 and len(line) == 1 and said in line[0], f"{words}: exit {r.returncode}, {line}")

print("\n".join(bad) or "device: " + (device.group(1) if device else "?"))
sys.exit(1 if bad else 0)
