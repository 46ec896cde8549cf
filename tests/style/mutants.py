"""The mutants of scripts/mutants.py still fit the sources: a campaign that has lost them would say nothing."""
import os, subprocess, sys

p = subprocess.run([sys.executable, os.environ["VARION_SOURCE_DIR"] + "/scripts/mutants.py", "--check"])
sys.exit(p.returncode)
