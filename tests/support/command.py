"""The program as a command in a folder of its own, made afresh."""
import os, shutil, subprocess

VARION = os.environ["VARION_BIN"]


def in_folder(name):
    """The folder, and a function that runs the program there, holds its exit code to `code` and gives back what it printed."""
    work = os.path.abspath(name)
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)

    def run(*words, code=0, **environment):
        p = subprocess.run([VARION, *words], cwd=work, capture_output=True, text=True, env=dict(os.environ, **environment))
        assert p.returncode == code, (words, p.returncode, p.stdout, p.stderr)
        if code not in (0, 75):
            assert len(p.stderr.strip().splitlines()) >= 1, (words, p.stderr)
        return p.stdout + p.stderr

    return work, run
