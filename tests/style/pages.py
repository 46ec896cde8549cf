"""Pages made by a script hold what the script makes."""
import os, subprocess, sys

script = os.path.join(os.environ["VARION_SOURCE_DIR"], "scripts", "scaling.py")
sys.exit(subprocess.run([sys.executable, script, "--check"]).returncode)
