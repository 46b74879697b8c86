"""Runs `python -m onepass` in a process of its own.

Importing NumPy and Matplotlib is most of what a small command takes. `onepass` forks a process that
has imported them; tests of the start itself, of signals and of consoles start Python.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# One thread for NumPy's matrix products: with two, tests that run side by side wait for each other.
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

# Reads a line for each command and answers with its exit status.
FORKING = r"""
import atexit, importlib, json, os, runpy, sys, traceback

for name in ("onepass.cli", "onepass.runs._recipe", "onepass.runs._evaluation",
             "matplotlib.figure", "matplotlib.backends.backend_agg"):
    try:
        importlib.import_module(name)
    except ImportError:
        pass

def run(arguments, folder, streams):
    os.chdir(folder)
    for place, path in enumerate([os.devnull, *streams]):
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(file, place)
        os.close(file)
    sys.argv = ["onepass", *arguments]
    try:
        runpy.run_module("onepass", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        status = run(*json.loads(line))
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def started(*arguments, cwd=None) -> subprocess.CompletedProcess[str]:
    """What `python -m onepass` with these arguments prints, and its exit status."""
    command = [sys.executable, "-m", "onepass", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)


@functools.cache
def _forking() -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", FORKING]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdin=pipe, stdout=pipe, text=True)
    atexit.register(process.communicate)  # the end of its input ends it
    return process


def onepass(*arguments, cwd=None) -> subprocess.CompletedProcess[str]:
    """`started`, at less cost."""
    words = list(map(str, arguments))
    with tempfile.TemporaryDirectory() as folder:
        streams = [str(Path(folder) / name) for name in ("out", "err")]
        process = _forking()
        process.stdin.write(json.dumps([words, str(cwd or Path.cwd()), streams]) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, "the process that runs commands has ended"
        printed = [Path(stream).read_text() for stream in streams]
    return subprocess.CompletedProcess(["onepass", *words], int(answer), *printed)
