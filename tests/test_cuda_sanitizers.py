"""Every driver of the CUDA backend once under the sanitizers, in the simulator of tests/cuda_sim.

A few formulas of each family, because g++ needs minutes to compile all of them with checks;
--all-cases gives them all, and every dtype every shape with all options.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cuda_simulator import ROOT, UNITS, build_folder, compiled, scheduler
from helpers import Extent

BACKEND_TEST = sorted((ROOT / "tests" / "cuda_sim").glob("backend_test*.cpp"))
SANITIZERS = {  # unoptimised, which compiles in half the time; one counts lines too
    "address": ["-O0", "--coverage", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-O0", "-fsanitize=thread"],
}

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the simulator needs g++")


def has_runtime(sanitizer: str) -> bool:
    library = {"address": "libasan.so", "thread": "libtsan.so"}[sanitizer]
    command = ["g++", f"-print-file-name={library}"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return Path(found.stdout.strip()).is_absolute()


@pytest.fixture(scope="module")
def programs():
    """backend_test.cpp in every build that this g++ has the runtime for."""
    cusim = scheduler()

    def build(sanitizer: str) -> Path | None:
        if not has_runtime(sanitizer):
            return None
        few = [] if Extent.whole else ["-DONEPASS_SIM_FEW"]
        return compiled(
            f"backend_test_{sanitizer}{'_few' * len(few)}",
            *few,
            *SANITIZERS[sanitizer],
            *BACKEND_TEST,
            *("-x", "c++", *UNITS, "-x", "none"),
            cusim,
        )

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(SANITIZERS, pool.map(build, SANITIZERS), strict=True))


@pytest.fixture(scope="module")
def outcomes(programs, tmp_path_factory):
    """Runs a program once: (how it ended, the folder with its counts of lines)."""

    @functools.cache
    def run(sanitizer):
        if programs[sanitizer] is None:
            pytest.skip(f"g++ has no runtime for -fsanitize={sanitizer}")
        environment = {k: v for k, v in os.environ.items() if not k.endswith("SAN_OPTIONS")}
        folder = tmp_path_factory.mktemp(sanitizer)
        environment |= {"GCOV_PREFIX": str(folder), "GCOV_PREFIX_STRIP": "99"}
        environment["ASAN_OPTIONS"] = "detect_leaks=0"
        if sanitizer == "thread":
            environment["ONEPASS_TEST_BRIEF"] = "1"
        done = subprocess.run(
            [programs[sanitizer]],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,  # for one that hangs: the slowest takes three minutes of an idle core
            check=False,
        )
        return done, folder

    return run


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_every_entry_under_a_sanitizer(outcomes, sanitizer):
    done, _ = outcomes(sanitizer)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stdout[-4000:]


def test_every_line_of_the_kernels_runs(outcomes):
    """Of csrc/cuda, what backend_test.cpp alone goes through: at least 95 of 100 lines."""
    gcov = shutil.which("gcov")
    if gcov is None:
        pytest.skip("gcov is not installed")
    _, folder = outcomes("address")
    counts: dict[str, dict[int, int]] = {}
    for data in folder.glob("*.gcda"):
        shutil.copy(build_folder() / f"{data.stem}.gcno", folder)
        report = subprocess.run(
            [gcov, "--json-format", "--stdout", data.name],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        for file in json.loads(report.stdout)["files"]:
            if Path(file["file"]).parent == ROOT / "csrc" / "cuda":
                lines = counts.setdefault(Path(file["file"]).name, {})
                for line in file["lines"]:
                    number = line["line_number"]
                    lines[number] = lines.get(number, 0) + line["count"]
    missed = {
        name: [number for number, count in sorted(lines.items()) if count == 0]
        for name, lines in counts.items()
    }
    assert {u.name for u in UNITS if u.parent.name == "cuda"} <= set(counts)
    total = sum(map(len, counts.values()))
    share = 1 - sum(map(len, missed.values())) / total
    assert total > 1000
    assert share >= 0.95, f"{100 * share:.1f} %; not run: {missed}"
