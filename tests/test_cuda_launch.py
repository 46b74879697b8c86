"""What the host's side asks of the CUDA runtime, and what it makes of the answers.

nvcc compiles csrc/cuda/launch.cuh, device.h and host.cu as it does for the library; in place of the
runtime and the driver there is tests/cuda_runtime/stand_in.cpp. No GPU is needed.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "cuda_runtime"


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """A library that has the functions of the runtime, by the driver's name."""
    if shutil.which("nvcc") is None:
        pytest.skip("needs nvcc")
    library = tmp_path_factory.mktemp("runtime") / "libcuda.so.1"
    flags = [
        "-std=c++17",
        "-cudart",
        "none",
        "-shared",
        "-Xcompiler",
        "-fPIC,-Wall,-Wextra,-Werror",
    ]
    source = FOLDER / "stand_in.cpp"
    done = run("nvcc", *flags, "-Xlinker", f"-soname={library.name}", source, "-o", library)
    assert done.returncode == 0, done.stderr
    return library


def test_questions_launches_and_errors(stand_in, tmp_path):
    flags = ["-std=c++17", "-arch=sm_90", "--expt-relaxed-constexpr", "-DONEPASS_ISA=cuda_launch"]
    flags += ["-cudart", "none", f"-I{ROOT / 'csrc'}", f"-I{FOLDER}"]
    flags += ["-Xlinker", stand_in, "-Xlinker", f"-rpath={stand_in.parent}"]
    sources = [FOLDER / "launch_test.cu", ROOT / "csrc/cuda/host.cu"]
    done = run("nvcc", *flags, *sources, "-o", tmp_path / "launch_test")
    assert done.returncode == 0, done.stderr
    done = run(tmp_path / "launch_test")
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stdout + done.stderr
