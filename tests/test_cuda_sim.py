"""The CUDA simulator of tests/cuda_sim: right kernels give no report, each planted mistake does.

The same kernels are built three ways with the system's g++: plain, with AddressSanitizer and
UndefinedBehaviorSanitizer, and with ThreadSanitizer. SEEN_BY says which build sees what.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

SOURCES = Path(__file__).parent / "cuda_sim"
CSRC = Path(__file__).parents[1] / "csrc"
BUILDS = {
    "plain": [],
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread"],
}
RUNTIMES = {"plain": [], "address": ["asan", "ubsan"], "thread": ["tsan"]}


@dataclass(frozen=True)
class Seen:
    """The findings that the runs of one mistake must give in each build, and no others."""

    plain: frozenset[str] = frozenset()
    address: frozenset[str] = frozenset()
    thread: frozenset[str] = frozenset()


def seen(plain: str = "", address: str = "", thread: str = "") -> Seen:
    return Seen(*(frozenset(words.split()) for words in (plain, address, thread)))


ERROR = seen("error", "error", "error")  # the simulator itself refuses, with thread and line
RESULTS_AND_RACE = seen("orders", "orders", "orders race")
RACE = seen(thread="race")
GARBAGE = seen("NaN", "NaN", "NaN")  # 0xff, which is there before a value is
ADDRESS = seen(address="address")
UNDEFINED = seen(address="undefined")

SEEN_BY = {
    "missing_block_sync": RESULTS_AND_RACE,
    "write_after_read": RESULTS_AND_RACE,
    "missing_warp_sync": RESULTS_AND_RACE,
    "half_warp_sync": RESULTS_AND_RACE,
    "shuffle_for_sync": RACE,
    "missing_cluster_sync": RESULTS_AND_RACE,
    "block_that_ended": ERROR,
    "wrong_rank": ERROR,
    "divergent_cluster_sync": ERROR,
    "impossible_cluster": ERROR,
    "early_read_of_copy": GARBAGE,
    "wait_for_too_few": GARBAGE,
    "copy_of_another": RESULTS_AND_RACE,
    "copy_without_wait": ERROR,
    "misaligned_copy": ERROR,
    "block_race": RACE,
    "block_race_behind_barriers": RACE,
    "plain_beside_atomic": RACE,
    "missing_publish_fence": RACE,
    "late_write": RACE,
    "missing_observe_fence": RACE,
    "divergent_block_sync": ERROR,
    "two_block_syncs": ERROR,
    "return_before_block_sync": ERROR,
    "return_before_shuffle": ERROR,
    "partial_warp": ERROR,
    "lane_not_in_mask": ERROR,
    "shuffle_from_outside_mask": ERROR,
    "two_warp_operations": ERROR,
    "unwritten_shared": GARBAGE,
    "global_overrun": ADDRESS,
    "pack_overrun": ADDRESS,
    "static_shared_overrun": UNDEFINED,  # the array's bound is known where it is indexed
    "dynamic_shared_overrun": ADDRESS,
    "pointer_shared_overrun": ADDRESS,
    "misaligned_pack": ERROR,
    "misaligned_double": UNDEFINED,
    "signed_overflow": UNDEFINED,
    "too_much_static_shared": ERROR,
    "too_much_dynamic_shared": ERROR,
    "too_much_shared_together": ERROR,
    "impossible_launch": ERROR,
}

FINDINGS = {
    "error": r"^error: ",
    "NaN": r"^NaN$",
    "orders": r"^orders differ$",
    "address": r"ERROR: AddressSanitizer: (?!SEGV)",
    "undefined": r"runtime error: ",
    "race": r"WARNING: ThreadSanitizer: data race",
    "anything else": r"^damage$|^wrong: |AddressSanitizer: SEGV|FATAL|ThreadSanitizer: (?!data race"
    r"|reported)|LeakSanitizer",
}


def findings(output: str) -> set[str]:
    return {name for name, text in FINDINGS.items() if re.search(text, output, re.MULTILINE)}


def mistake_lines(name: str) -> set[str]:
    """The places in planted.cuh marked as the mistake `name`, as reports write them."""
    lines = (SOURCES / "planted.cuh").read_text().splitlines()
    marked = [n for n, line in enumerate(lines, 1) if re.search(rf"// MISTAKE.* {name}\b", line)]
    return {f"planted.cuh:{n}" for n in marked}


def run(command: list[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.endswith("SAN_OPTIONS")}
    return subprocess.run(
        command,
        env=clean | {"ASAN_OPTIONS": "detect_leaks=0"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


def runtime_library(name: str) -> str | None:
    path = run(["g++", f"-print-file-name=lib{name}.so"]).stdout.strip()
    return path if Path(path).is_absolute() else None


class Toolbox:
    """Programs and libraries of the simulator, compiled once for this module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.missing = {
            build: [f"lib{name}" for name in names if runtime_library(name) is None]
            for build, names in RUNTIMES.items()
        }
        builds = [build for build in BUILDS if not self.missing[build]]
        # The scheduler is never instrumented: one object file serves all builds.
        jobs = [("cusim.cpp", "cusim.o", ["-O2"])]
        jobs += [("cusim.cpp", "ucontext.o", ["-O2", "-DCUSIM_UCONTEXT"])]
        jobs += [("planted_test.cpp", f"{b}.o", ["-O1", *BUILDS[b]]) for b in builds]
        jobs += [("right.cu", f"right_{b}.o", ["-O1", *BUILDS[b]]) for b in builds if b != "thread"]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda job: self.compile(*job), jobs))
        for build in builds:
            self.link(build, [f"{build}.o", "cusim.o"], BUILDS[build])
            if build != "thread":
                objects = [f"right_{build}.o", "cusim.o"]
                self.link(f"lib{build}.so", objects, ["-shared", *BUILDS[build]])
        self.link("ucontext", ["plain.o", "ucontext.o"], [])

    def compile(self, source: str, target: str, flags: list[str]) -> None:
        warnings = ["-Wall", "-Wextra", "-Werror"]
        self.gxx("-x", "c++", "-c", SOURCES / source, *warnings, *flags, target=target)

    def link(self, target: str, objects: list[str], flags: list[str]) -> None:
        self.gxx(*(self.folder / o for o in objects), *flags, "-pthread", target=target)

    def gxx(self, *arguments: str | Path, target: str) -> None:
        common: list[str | Path] = ["g++", "-std=c++17", "-g", "-fPIC", f"-I{CSRC}", f"-I{SOURCES}"]
        done = run([*common, *arguments, "-o", self.folder / target])
        assert done.returncode == 0, done.stdout

    def program(self, build: str) -> Path:
        if self.missing.get(build):
            pytest.skip(f"g++ has no {' and '.join(self.missing[build])}")
        program = self.folder / build
        # Older sanitizers refuse address spaces that are more random than they knew.
        if "FATAL" in (start := run([program]).stdout):
            pytest.skip(start.strip())
        return program


@pytest.fixture(scope="module")
def toolbox(tmp_path_factory: pytest.TempPathFactory) -> Toolbox:
    if shutil.which("g++") is None:
        pytest.skip("the simulator's tests need g++")
    return Toolbox(tmp_path_factory.mktemp("cuda_sim"))


@pytest.mark.parametrize("build", [*BUILDS, "ucontext"])
def test_right_kernels_give_no_report(toolbox: Toolbox, build: str) -> None:
    done = run([toolbox.program(build), "right"])
    assert (done.returncode, done.stdout) == (0, "0 wrong\n")


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("mistake", SEEN_BY)
def test_mistake_is_seen(toolbox: Toolbox, mistake: str, build: str) -> None:
    output = run([toolbox.program(build), mistake]).stdout
    found = findings(output)
    assert found == getattr(SEEN_BY[mistake], build), output
    if found - {"NaN", "orders"}:
        for place in mistake_lines(mistake):
            assert place in output
        # A CUDA thread, unless the launch itself was refused or a race names fibers.
        assert re.search(r"thread \(\d+,\d+,\d+\) of block|^error: launch: ", output, re.MULTILINE)


def test_fibers_by_ucontext_see_the_same(toolbox: Toolbox) -> None:
    program = toolbox.program("ucontext")
    for mistake in ("missing_block_sync", "two_block_syncs", "return_before_shuffle"):
        assert findings(run([program, mistake]).stdout) == SEEN_BY[mistake].plain


def test_every_mistake_has_its_row(toolbox: Toolbox) -> None:
    assert set(run([toolbox.program("plain")]).stdout.split()) == set(SEEN_BY)
    marked = re.findall(r"// MISTAKE (.*)", (SOURCES / "planted.cuh").read_text())
    assert {name for names in marked for name in names.split()} <= set(SEEN_BY)
    for mistake in set(SEEN_BY) - {m for m, by in SEEN_BY.items() if by is GARBAGE}:
        launches = mistake in (
            "too_much_dynamic_shared", "impossible_launch", "impossible_cluster",
        )  # fmt: skip
        assert bool(mistake_lines(mistake)) != launches


def test_simulator_in_python(toolbox: Toolbox) -> None:
    library = ctypes.CDLL(str(toolbox.program("plain").with_name("libplain.so")))
    library.right_error_string.restype = ctypes.c_char_p
    pointer = np.ctypeslib.ndpointer(np.float32)
    library.right_axpy.argtypes = [
        ctypes.c_float, pointer, pointer, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 5004)).astype(np.float32)
    y = y.copy()
    expected = np.float32(1.5) * x[:5003] + y[:5003]
    assert library.right_axpy(1.5, x, y, 5003, None) == 0
    np.testing.assert_array_equal(y[:5003], expected)

    error = library.right_axpy(1.5, x[1:], y, 5000, None)
    message = library.right_error_string(error).decode()
    place = r"thread \(\d+,0,0\) of block \(\d+,0,0\) at .*right.cuh:"
    assert re.search(f"16 or 8 bytes: {place}", message)


def test_numpy_overrun_is_seen_in_python(toolbox: Toolbox) -> None:
    library = toolbox.program("address").with_name("libaddress.so")
    script = f"""
import ctypes, numpy
library = ctypes.CDLL({str(library)!r})
row = numpy.ones(5000, dtype=numpy.float32)
data = ctypes.c_void_p(row.ctypes.data)
assert library.right_reverse(data, 5000, None) == 0
library.right_reverse(data, 5001, None)
"""
    preload = " ".join(filter(None, map(runtime_library, RUNTIMES["address"])))
    done = run([sys.executable, "-c", script], LD_PRELOAD=preload)
    assert "heap-buffer-overflow" in done.stdout, done.stdout
    assert re.search(r"right::reverse_in_place.*right\.cuh:\d+", done.stdout)
    assert "cusim: in thread" in done.stdout


nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
NVCC = [
    "nvcc",
    f"-I{CSRC}",
    "-std=c++17",
    "--fmad=false",
    "-Werror",
    "all-warnings",
    "-Xptxas",
    "-v",
]


@nvcc
def test_nvcc_compiles_right_kernels(tmp_path: Path) -> None:
    targets = [f"-gencode=arch=compute_{cc},code=sm_{cc}" for cc in (75, 90)]
    host = ["-Xcompiler", "-Wall,-Wextra,-Werror"]
    done = run([*NVCC, *targets, *host, "-c", SOURCES / "right.cu", "-o", tmp_path / "right.o"])
    assert done.returncode == 0, done.stdout
    frames = re.findall(r"(\d+) bytes stack frame", done.stdout)
    assert set(frames) == {"0"}, "packs must stay in registers"


@nvcc
def test_packs_are_128_bit_accesses_with_cache_hints(tmp_path: Path) -> None:
    ptx = tmp_path / "right.ptx"
    done = run([*NVCC, "-arch=sm_90", "-ptx", SOURCES / "right.cu", "-o", ptx])
    assert done.returncode == 0, done.stdout
    text = ptx.read_text()  # a load without a hint is cached in both levels
    for instruction in ("ld.global.v4.u32", "st.global.wb.v4", "st.global.cs.v4"):
        assert instruction in text
