"""The portable provider gives the same bits for every number of threads."""
import os, re, subprocess, sys

program = os.path.join(os.path.dirname(os.environ["VARION_BIN"]), "test_kernels")
bits = {}
for threads in (1, 2, 3):
    run = subprocess.run([program, "[bits]"], env=dict(os.environ, OMP_NUM_THREADS=str(threads)), capture_output=True, text=True)
    found = re.search(r"^bits ([0-9a-f]{16})$", run.stdout, re.M)
    bits[threads] = found.group(1) if found and run.returncode == 0 else f"failed: {run.stdout}{run.stderr}"
print(bits)
sys.exit(0 if len(set(bits.values())) == 1 and not any("failed" in b for b in bits.values()) else 1)
