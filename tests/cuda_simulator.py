"""The simulator of tests/cuda_sim: the CUDA backend compiled by g++, and calls that run in it.

The fixtures `simulator` and `cupy` of conftest.py use it. What is compiled is kept in the temporary
folder for as long as its sources stay as they are.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import math
import os
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import pytest
from cases import CASES
from onepass import _C

ROOT = Path(__file__).parents[1]
SOURCES = [
    *sorted((ROOT / "csrc" / "core").glob("*")),
    *sorted((ROOT / "csrc" / "kernels").glob("*")),
    *sorted((ROOT / "csrc" / "cuda").glob("*")),
    *sorted((ROOT / "tests" / "cuda_sim").glob("*")),
]
UNITS = [
    *sorted((ROOT / "csrc" / "cuda").glob("*.cu")),
    *(ROOT / "tests" / "cuda_sim" / f"{family}.cu" for family in ("activations", "updates")),
]
FLAGS = ["-std=c++17", "-g1", "-fPIC", "-fno-strict-aliasing", "-ffp-contract=off"]
FLAGS += [f"-I{ROOT}/csrc", f"-I{ROOT}/tests/cuda_sim", "-include", "cusim.h"]
ORDERS = [("forward", 0, 4), ("reverse", 0, 1), ("random", 1, 3)]

RUNNABLE = [c for c in CASES if c.family != "mask"]  # test_cuda_backend.py has tests of those
ELEMENTWISE = [c for c in RUNNABLE if c.elementwise]


def build_folder() -> Path:
    """Where what these sources compile to is kept: in the temporary folder, by their content."""
    digest = hashlib.sha256(" ".join([*FLAGS, sysconfig.get_platform()]).encode())
    for path in SOURCES:
        digest.update(path.name.encode() + path.read_bytes())
    name = f"onepass-cuda-sim-{os.getuid()}-{digest.hexdigest()[:16]}"
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        pytest.fail(f"{folder} belongs to somebody else")
    return folder


def compiled(name: str, *arguments: object) -> Path:
    """The output of one call of g++, made when it is not there yet: by one process at a time."""
    target = build_folder() / name
    with open(target.with_name(f"{name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            partial = target.with_name(f"{os.getpid()}-{name}")
            command = ["g++", *FLAGS, *map(str, arguments), "-o", str(partial)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            partial.rename(target)
    return target


def scheduler() -> Path:
    return compiled("cusim.o", "-O2", "-c", ROOT / "tests/cuda_sim/cusim.cpp")


@functools.cache
def load() -> Any:
    """The shipped backend as a Python module (tests/cuda_sim/backend_module.cpp)."""

    def unit(source):
        return compiled(f"{source.stem}.o", "-O1", "-c", "-x", "c++", source)

    # Where two processes need it at once they share the work, from both ends.
    first = os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0"
    for source in UNITS if first else reversed(UNITS):
        unit(source)
    units = [unit(source) for source in UNITS]
    path = compiled(
        "onepass_cuda_sim.so",
        "-O1",
        "-shared",
        f"-I{sysconfig.get_paths()['include']}",
        ROOT / "tests/cuda_sim/backend_module.cpp",
        *units,
        scheduler(),
    )
    spec = importlib.util.spec_from_file_location("onepass_cuda_sim", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def on(simulator, order=ORDERS[0]):
    """Every call on NumPy arrays runs in the simulator."""
    simulator.set_order(*order)
    _C.set_test_backend(simulator.backend())
    try:
        yield
    finally:
        _C.set_test_backend(None)


def simulable(shape, family="") -> bool:
    """At most 20,000 elements, and 67 channels, each of which may be a block but for windows."""
    many = len(shape) > 1 and shape[1] > 67 and family != "windows"
    return math.prod(shape) <= 20_000 and not many
