"""scripts/gpu, bench/gpu.py and the CUDA build where there is no GPU: commands, made-up clocks."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def load(name):
    spec = importlib.util.spec_from_file_location(f"bench_{name}", ROOT / "bench" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bench():
    return load("gpu")


@pytest.fixture(scope="module")
def timing(bench):
    return sys.modules["gpu_timing"]  # that bench/gpu.py has loaded


class Clock:
    """A device whose calls take as long as they say, and whose events are times. The host takes a
    tenth of that."""

    class FullError(Exception):
        pass

    def __init__(self):
        self.time, self.host, self.log, self.flushed = 0.0, 0.0, [], True
        self.least_busy = float("inf")

    def call(self, name, *durations):
        turns = iter(durations)

        def function():
            self.log.append(name)
            seconds = next(turns, durations[-1])
            self.time += seconds * (1 if self.flushed else 0.5)
            self.host += seconds / 10
            self.flushed = False

        return function

    def now(self):
        return self.host

    def event(self):
        return self.time

    def flush(self, busy):
        self.flushed = True
        self.least_busy = min(self.least_busy, busy)
        self.time += 1.0  # never timed

    def captured(self, function):
        self.log.append("capture")
        return function

    def seconds(self, start, end):
        return end - start

    def synchronize(self):
        pass

    def release(self):
        self.log.append("release")

    def is_out_of_memory(self, error):
        return isinstance(error, Clock.FullError)


def test_rivals_take_turns_and_medians_are_of_cold_calls(timing):
    clock = Clock()
    warm = [9.0] * timing.WARM_UP
    functions = {
        "onepass": clock.call("a", *warm, 1.0, 3.0, 100.0, 2.0, 2.5),
        "torch": clock.call("b", *warm, 5.0),
    }
    times = timing.interleaved(clock, functions, rounds=5)
    assert clock.log == ["a"] * timing.WARM_UP + ["b"] * timing.WARM_UP + ["a", "b"] * 5
    assert {name: t.device for name, t in times.items()} == {"onepass": 2.5, "torch": 5.0}
    assert times["torch"].host == pytest.approx(0.5)
    assert clock.least_busy > 0.9  # longer than the slowest host


def test_long_calls_are_made_less_often(timing):
    clock = Clock()
    timing.interleaved(clock, {"onepass": clock.call("a", timing.MOST_SECONDS)}, rounds=1000)
    assert len(clock.log) == timing.WARM_UP + 5


def test_a_graph_is_replayed(timing):
    clock = Clock()
    row = timing.Row("n", "g", lambda: ({"onepass": clock.call("a", 1.0)}, 1.0), graph=True)
    result = timing.measure(clock, row, 1.0)
    assert clock.log.index("capture") == timing.WARM_UP
    assert result["us"]["onepass"] == 1e6 / timing.REPLAYS


def test_no_row_is_started_after_the_deadline(bench):
    clock = Clock()
    make = lambda: ({"onepass": clock.call("a", 1.0)}, 1.0)  # noqa: E731
    todo = [bench.Row(name, "g", make) for name in ("first", "second")]
    known = {"copy_bytes_per_second": 1.0}
    result = bench.run(clock, todo, known, lambda content: None, deadline=0.05)
    assert [r["name"] for r in result["results"]] == ["first"]


def test_a_row_has_its_floor(bench):
    clock = Clock()
    functions = {"onepass": clock.call("a", 4e-3), "x": clock.call("b", 1e-2)}
    functions["y"] = clock.call("c", 8e-3)
    row = bench.Row("name", "group", lambda: (functions, 3e9))
    result = bench.measure(clock, row, 1e12)
    assert result["us"] == {"onepass": 4000.0, "x": 10000.0, "y": 8000.0}
    assert (result["floor_us"], result["share_of_copy"], result["ratio"]) == (3000.0, 0.75, 2.0)
    assert clock.log[-1] == "release"
    assert "75% of copy" in bench.show(result)


def test_what_does_not_fit_is_skipped_and_what_is_known_is_not_measured_again(bench, monkeypatch):
    clock = Clock()

    def full():
        raise Clock.FullError

    def broken():
        raise ValueError("no")

    monkeypatch.setattr(
        bench, "copy_row", lambda: bench.Row("", "", lambda: ({"copy": clock.call("-", 2.0)}, 8.0))
    )
    saved = []
    todo = [
        bench.Row("known", "g", broken),
        bench.Row("full", "g", full),
        bench.Row("new", "g", lambda: ({"onepass": clock.call("a", 1.0)}, 4.0)),
    ]
    known = {"results": [{"name": "known"}]}
    result = bench.run(clock, todo, known, lambda content: saved.append(len(content["results"])))
    assert result["copy_bytes_per_second"] == 4.0
    assert [r["name"] for r in result["results"]] == ["known", "full", "new"]
    assert result["results"][1]["skipped"] == "not enough memory"
    assert result["results"][2]["ratio"] is None
    assert saved == [2, 3]
    with pytest.raises(ValueError, match="no"):
        bench.run(clock, [bench.Row("other", "g", broken)], result, saved.append)


def test_rows_are_named_once_and_grouped(bench):
    rows = list(bench.rows())
    assert len({row.name for row in rows}) == len(rows)
    groups = {"optimizer", "elementwise", "norm", "loss", "rows", "windows"}
    assert {row.group for row in rows} == groups
    assert sum(s[0] * (s[1] if len(s) == 2 else 1) for s in bench.FEW) == pytest.approx(
        5e6, rel=0.1
    )
    about = {"gpu": "NVIDIA H200 (SXM)", "date": "2026-01-02"}
    assert bench.result_path(about).name == "nvidia-h200-sxm-2026-01-02.json"


@pytest.mark.parametrize(
    ("make", "arguments", "bytes_", "rivals"),
    [
        ("_step", ("adamw", [(5,), (3, 4)], False), 17 * 28, ["torch fused"]),
        ("_step", ("adamw", [(5,), (3, 4)], True), 17 * 36, ["torch fused"]),
        ("_step", ("adamw", [(5,), (3, 4)], False, "bfloat16"), 17 * 22, ["torch fused"]),
        (
            "_step",
            ("nadam", [(5,), (3, 4)], False, "float32", False, "foreach"),
            17 * 28,
            ["torch foreach"],
        ),
        ("_loss", ("mse_loss", 40, "float32"), 40 * 12, ["torch"]),
        ("_row_norm", ("layer_norm", (4, 6), "float32", False), 24 * 8, ["torch"]),
        ("_row_norm", ("rms_norm", (4, 6), "float32", True), 24 * 20, ["torch"]),
        ("_elementwise", ("relu", 40, "bfloat16"), 40 * 4, ["torch out="]),
        ("_norm", (40, "bfloat16"), 40 * 2, ["torch"]),
        ("_batch_norm", ((2, 3, 4, 5), "float32", False, False), 120 * 8, ["torch"]),
        ("_batch_norm", ((2, 3, 4, 5), "float32", True, True), 120 * 20, ["torch"]),
        ("_cross_entropy", (4, 5, "bfloat16"), 20 * 4, ["torch"]),
    ],
)
def test_what_a_row_times_runs_on_tensors(bench, monkeypatch, make, arguments, bytes_, rivals):
    """On the CPU's, which are tensors too."""
    pytest.importorskip("torch")
    monkeypatch.setattr(bench, "DEVICE", "cpu")
    functions, fewest = getattr(bench, make)(*arguments)
    assert list(functions) == ["onepass", *rivals]
    assert fewest == bytes_
    for function in functions.values():
        function()


# ------------------------------------------------------------------------------------ scripts/gpu


def script(*arguments, **environment):
    return subprocess.run(
        [str(ROOT / "scripts" / "gpu"), *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_stages(tmp_path):
    stages = script("--list").stdout.split()
    assert stages[0] == "build"
    done = script("--dry-run", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line[3:] for line in lines if line.startswith("== ")] == stages
    for command in (line for line in lines if not line.startswith("== ")):
        for word in command.split():
            if word.endswith(".py"):
                assert (ROOT / word).exists(), word
    assert not list(tmp_path.glob("*.done"))
    one = script("--dry-run", "--out", str(tmp_path), "racecheck")
    assert "--tool racecheck" in one.stdout
    assert "pip" not in one.stdout


def test_wrong_use_and_a_machine_without_gpu(tmp_path):
    wrong = script("--out", str(tmp_path), "everything")
    assert wrong.returncode == 2
    assert "'everything' is not a stage" in wrong.stderr
    if shutil.which("nvidia-smi"):
        pytest.skip("there is an NVIDIA driver")
    missing = script("--out", str(tmp_path), PYTHON="no-such-python")
    assert missing.returncode == 1
    assert missing.stderr.count("\n") == 1
    assert "an NVIDIA driver (nvidia-smi)" in missing.stderr
    assert "no-such-python" in missing.stderr


def test_stages_that_passed_are_not_run_again(tmp_path):
    """With nvidia-smi, nvcc and Python replaced by programs that only say what they were given."""
    tools = tmp_path / "bin"
    tools.mkdir()
    programs = {
        "nvidia-smi": "printf '9.0\\n8.9\\n9.0\\n'",
        "nvcc": ":",
        "compute-sanitizer": "exit 1",
    }
    programs["python"] = 'case "$1" in -c) ;; *) echo "python $* [$CUDAARCHS]" ;; esac'
    for name, text in programs.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    path = {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHON": "python"}
    out = tmp_path / "out"
    first = script("--out", str(out), **path)
    assert first.returncode == 1
    assert "[89-real;90-real]" in first.stdout
    assert "failed: memcheck racecheck initcheck synccheck" in first.stderr
    again = script("--out", str(out), **path)
    assert "== build: passed before" in again.stdout
    assert "== memcheck\n" in again.stdout
    assert "tests/test_gpu.py" in script("--out", str(out), "test-cupy", **path).stdout


def test_shellcheck():
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    tool = shutil.which("shellcheck", path=path)
    if tool is None:
        pytest.skip("shellcheck is not installed")
    files = [p for p in (ROOT / "scripts").iterdir() if p.is_file()]
    scripts = [p for p in files if p.read_text().startswith("#!/usr/bin/env bash\n")]
    assert len(scripts) > 3
    done = subprocess.run([tool, *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# ------------------------------------------------------------------------------- building with CUDA


@pytest.mark.parametrize("mode", ["AUTO", "ON"])
def test_a_broken_nvcc(tmp_path, mode):
    """It does not prevent the build for the CPU, unless CUDA is demanded."""
    pybind11 = pytest.importorskip("pybind11")
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("cmake is not on PATH")
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    nvcc.chmod(0o755)
    clean = {k: v for k, v in os.environ.items() if k not in ("CUDACXX", "CUDAARCHS")}
    done = subprocess.run(
        [
            *(cmake, "-S", str(ROOT), "-B", str(tmp_path / "build"), f"-DONEPASS_CUDA={mode}"),
            *("-DSKBUILD=1", "-DSKBUILD_PROJECT_VERSION_FULL=0"),
            *(
                f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
                f"-DPython_EXECUTABLE={sys.executable}",
            ),
        ],
        env=clean | {"PATH": f"{nvcc.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = " ".join((done.stdout + done.stderr).split())
    reason = "no working CUDA compiler was found; put nvcc on PATH or set CUDACXX"
    assert said.count(reason) == 1, said
    assert (done.returncode == 0) == (mode == "AUTO"), said
    assert ("onepass: built without CUDA" in said) == (mode == "AUTO"), said


def test_sanitizers_see_every_record_in_few_calls():
    import gpu_kernels
    from cases import CASES

    calls = list(gpu_kernels.chosen())
    assert {case.name for case, *_ in calls} == {c.name for c in CASES if c.family != "mask"}
    assert len(calls) < 200
    for family in {case.family for case in CASES} - {"mask"}:
        of_family = {dtype for case, dtype, *_ in calls if case.family == family}
        assert len(of_family) >= min(4, sum(case.family == family for case in CASES)) - 1, family
