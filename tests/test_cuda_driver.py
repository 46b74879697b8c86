"""Where CUDA cannot start: one sentence that says why and what to do, and all else goes on.

A library of ours stands for the driver's, libcuda.so.1, in a process of its own: the runtime in
onepass._cuda finds it as it finds the real one. Needs a build with CUDA, and no GPU.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The runtime asks it for every function, and calls these: its version first.
DRIVER = """
#include <string.h>
static int init(unsigned flags) { return flags ? 1 : %(init)d; }
static int version(int* out) { *out = %(version)d; return 0; }
static int devices(int* out) { *out = 0; return 0; }
int cuGetExportTable(const void** table, const void* id) { *table = 0; return id ? 500 : 1; }
static int any(void) { return 801; } /* not supported */
int cuGetProcAddress_v2(const char* name, void** out, int since, unsigned long long flags,
                        int* how) {
  (void)since, (void)flags;
  if (how) *how = 0;
  *out = !strcmp(name, "cuInit")               ? (void*)init
         : !strcmp(name, "cuDriverGetVersion") ? (void*)version
         : !strcmp(name, "cuDeviceGetCount")   ? (void*)devices
         : !strcmp(name, "cuGetExportTable")   ? (void*)cuGetExportTable
         : !strncmp(name, "cuGetProcAddress", 16) ? (void*)cuGetProcAddress_v2
                                                  : (void*)any;
  return 0;
}
int cuGetProcAddress(const char* name, void** out, int since, unsigned long long flags) {
  return cuGetProcAddress_v2(name, out, since, flags, 0);
}
"""
MISSING = "there is no NVIDIA driver on this machine; install one for CUDA {} or newer."
CASES = {  # by the driver's answer to cuInit, and the newest CUDA that it knows
    "no driver": (None, MISSING),
    "an old driver": (
        {"init": 0, "version": 11040},
        "the NVIDIA driver is of CUDA 11.4, older than CUDA {} needs; install a newer driver.",
    ),
    "no device": (
        {"init": 100, "version": 99000},
        "no CUDA device is visible; look at nvidia-smi and at CUDA_VISIBLE_DEVICES.",
    ),
    "a driver that does not fit its kernel module": (
        {"init": 803, "version": 99000},
        "CUDA does not start (system has unsupported display driver / cuda driver combination); "
        "see whether nvidia-smi works.",
    ),
}
PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import fake_cupy, numpy as np, onepass
from onepass import config, nn, ops, optim
sys.modules["cupy"] = fake_cupy.cupy
x = fake_cupy.cupy.asarray(np.float32([-1, 2]))
calls = [
    lambda: ops.relu(x),
    lambda: optim.AdamW([x]),
    lambda: ops.global_norm([x]),
    lambda: nn.Linear(2, 2).to("cuda"),
]
said = set()
for call in calls * 2:
    try:
        call()
    except Exception as error:
        said.add((type(error).__name__, str(error)))
    assert ops.relu(np.float32([-1, 2])).tolist() == [0, 2]
assert not config.cuda_available()
print(config.cuda_why_not())
for kind, text in said:
    assert kind == "RuntimeError", (kind, text)
    assert config.cuda_why_not().rstrip(".") in text, text
assert onepass._C.cuda_built()
"""


@pytest.fixture
def started(tmp_path):
    """A function that runs PROGRAM with a driver of ours: returns what it prints."""
    if importlib.util.find_spec("onepass._cuda") is None:
        pytest.skip("onepass is built without CUDA")
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")

    def run(answers):
        library = tmp_path / "libcuda.so.1"
        library.write_bytes(b"")  # which the loader refuses, and looks no further
        if answers:
            source = tmp_path / "driver.c"
            source.write_text(DRIVER % answers)
            flags = ["-shared", "-fPIC", "-Wall", "-Werror"]
            subprocess.run(["gcc", *flags, source, "-o", library], check=True)
        paths = [str(tmp_path), os.environ.get("LD_LIBRARY_PATH", "")]
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(tests=str(Path(__file__).parent))],
            env=os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths))},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.mark.parametrize("case", CASES)
def test_cuda_that_cannot_start(started, case):
    answers, sentence = CASES[case]
    said = started(answers)
    assert re.fullmatch(re.escape(sentence).replace(r"\{\}", r"1[2-9]\.\d"), said), said


def test_no_device_is_made_the_current_one_by_the_runtime():
    """cudaSetDevice makes a context on the device that it is given, also where that is the one
    before, which the process may not use: contexts.h goes back without it."""
    sources = [p for p in (ROOT / "csrc").rglob("*") if p.suffix in (".cu", ".cuh", ".h", ".cpp")]
    assert len(sources) > 100
    for path in sources:
        assert not re.search(r"\bcuda(SetDevice|InitDevice)\(", path.read_text()), path
