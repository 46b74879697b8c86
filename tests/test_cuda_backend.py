"""The CUDA backend in the simulator of tests/cuda_sim: the kernels that the library ships, run by g++.

Every row of cases.py against its float64 reference, elementwise kernels bit for bit against the CPU
backend, everything in three thread orders, and all kernels once under the sanitizers. Shapes are
those of the rows up to a size that a simulator gets through.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import math
import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

import numpy as np
import pytest
from cases import CASES, DTYPES, computing
from helpers import DTYPE_IDS, assert_all_close, assert_all_same, sweep
from onepass import _C, ops

ROOT = Path(__file__).parents[1]
SOURCES = [
    *sorted((ROOT / "csrc" / "core").glob("*")),
    *sorted((ROOT / "csrc" / "kernels").glob("*")),
    *sorted((ROOT / "csrc" / "cuda").glob("*")),
    *sorted((ROOT / "tests" / "cuda_sim").glob("*")),
]
FLAGS = ["-std=c++17", "-g", "-fPIC", "-fno-strict-aliasing", "-ffp-contract=off"]
FLAGS += [f"-I{ROOT}/csrc", f"-I{ROOT}/tests/cuda_sim", "-DONEPASS_ISA=cuda"]
SANITIZERS = {
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread"],
}
ORDERS = [("forward", 0, 4), ("reverse", 0, 1), ("random", 1, 3)]

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the simulator needs g++")
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)

RUNNABLE = [c for c in CASES if c.name != "dropout_mask"]  # the mask is the border's own
ELEMENTWISE = [
    c for c in RUNNABLE if c.name.endswith("_") or c.alias or c.name.startswith(("adam", "sgd"))
]
ELEMENTWISE = [c for c in ELEMENTWISE if not c.name.startswith(("bias_act", "batch_norm"))]


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
    """The output of one call of g++, made when it is not there yet."""
    target = build_folder() / name
    if not target.exists():
        partial = target.with_name(f"{os.getpid()}-{name}")
        command = ["g++", *FLAGS, *map(str, arguments), "-o", str(partial)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        partial.rename(target)
    return target


def scheduler() -> Path:
    return compiled("cusim.o", "-O2", "-c", ROOT / "tests/cuda_sim/cusim.cpp")


@pytest.fixture(scope="module")
def simulator():
    backend = compiled("backend.o", "-O1", "-c", "-x", "c++", ROOT / "csrc/cuda/backend.cu")
    path = compiled(
        "onepass_cuda_sim.so",
        "-O1",
        "-shared",
        f"-I{sysconfig.get_paths()['include']}",
        ROOT / "tests/cuda_sim/backend_module.cpp",
        backend,
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


def simulable(shape) -> bool:
    """At most 20,000 elements, and 40 channels, each of which may be a block."""
    return math.prod(shape) <= 20_000 and not (len(shape) > 1 and shape[1] > 67)


def small_sweep(case):
    shapes = [s for s in case.shapes if simulable(s)]
    assert shapes
    return sweep(case, shapes=shapes)


each_case = pytest.mark.parametrize("case", RUNNABLE, ids=[c.name for c in RUNNABLE])
each_elementwise = pytest.mark.parametrize("case", ELEMENTWISE, ids=[c.name for c in ELEMENTWISE])


@each_dtype
@each_case
def test_against_reference(simulator, case, dtype):
    for label, shape, options in small_sweep(case):
        inputs = case.inputs(shape, dtype, options)
        want = case.expect(inputs, options)
        with on(simulator):
            got = case.run(inputs, options)
        assert_all_close(got, want, case.tolerance, dtype, label)


@each_dtype
@each_elementwise
def test_elementwise_kernels_give_the_bits_of_the_cpu(simulator, case, dtype):
    for label, shape, options in small_sweep(case):
        want = case.run(case.inputs(shape, dtype, options), options)
        inputs = case.inputs(shape, dtype, options)
        with on(simulator):
            got = case.run(inputs, options)
        assert_all_same(got, want, label)


@each_case
def test_the_order_of_threads_does_not_matter(simulator, case):
    shapes = [s for s in case.shapes if simulable(s) and math.prod(s) > 0]
    for shape in sorted(shapes, key=math.prod)[-2:]:
        for options in case.options:
            results = []
            for order in ORDERS:
                inputs = case.inputs(shape, "float32", options)
                with on(simulator, order):
                    results.append(case.run(inputs, options))
            for result in results[1:]:
                assert_all_same(result, results[0], f"{case.name}{shape} {options}")
