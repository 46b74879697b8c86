"""scripts/gpu, `onepass bench --device cuda` and the CUDA build where there is no GPU: commands,
made-up clocks."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onepass.bench import _arrays, _cuda, _cuda_rows, _kernels, _run, _steps, _steps_alone, _table
from onepass.bench import _cuda_timing as timing
from onepass.bench._records import cases
from onepass.bench._row import GROUPS, Context, Row, Workload

ROOT = Path(__file__).parents[1]


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

    def copy(self):
        return self.call("copy", 2.0), 8.0

    def is_out_of_memory(self, error):
        return isinstance(error, Clock.FullError)


def measured(clock, functions, count=1.0, **more):
    row = Row("n", "optim", lambda context: Workload(functions, 1, count, **more))
    return _run.measured(row, Context("cuda"), _cuda.Meter(clock))


def test_rivals_take_turns_and_calls_are_cold():
    clock = Clock()
    warm = [9.0] * timing.WARM_UP
    functions = {
        "onepass": clock.call("a", *warm, 1.0, 3.0, 100.0, 2.0, 2.5),
        "torch": clock.call("b", *warm, 5.0),
    }
    device, host = timing.interleaved(clock, functions, rounds=5)
    assert clock.log == ["a"] * timing.WARM_UP + ["b"] * timing.WARM_UP + ["a", "b"] * 5
    assert device == {"onepass": [1.0, 3.0, 100.0, 2.0, 2.5], "torch": [5.0] * 5}
    assert host["torch"] == pytest.approx([0.5] * 5)
    assert clock.least_busy > 0.9  # longer than the slowest host


def test_long_calls_are_made_less_often():
    clock = Clock()
    timing.interleaved(clock, {"onepass": clock.call("a", timing.MOST_SECONDS)}, rounds=1000)
    assert len(clock.log) == timing.WARM_UP + 5


def test_a_graph_is_replayed():
    clock = Clock()
    result = measured(clock, {"onepass": clock.call("a", 1.0)}, graph=True)
    calls = [name for name in clock.log if name in "a capture"]
    assert calls.index("capture") == timing.WARM_UP
    assert result["seconds"]["onepass"] == 1 / timing.REPLAYS
    assert result["host"]["onepass"] == pytest.approx(0.1 / timing.REPLAYS)


def test_visits_of_a_row_are_short_and_joined():
    """With --repeat: so many samples a visit, and the host's time of all of them."""
    meter = _cuda.Meter(Clock())
    assert meter.rounds == timing.ROUNDS
    meter.rounds = 2
    found = None
    for seconds in (1.0, 3.0, 8.0):
        function = meter.on.call("a", seconds)
        row = Row("n", "optim", lambda context, f=function: Workload({"onepass": f}, 1, 1.0))
        found = _run.measured(row, Context("cuda"), meter, found)
    assert found["samples"]["onepass"] == [1.0, 1.0, 3.0, 3.0, 8.0, 8.0]
    assert found["visits"]["onepass"] == [2, 2, 2]
    assert found["host"] == pytest.approx({"onepass": 0.4})


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("calls", [1, timing.WARM_UP, timing.WARM_UP + 2, 2 * timing.WARM_UP + 1])
def test_what_fails_on_the_device_names_its_function(graph, calls):
    """A device says at the next wait for it what went wrong."""
    clock, count = Clock(), itertools.count(1)

    def launches():
        if next(count) == calls:
            clock.failed = True

    def synchronize():
        if clock.failed:
            raise RuntimeError("an illegal memory access")

    clock.failed = False
    clock.synchronize = synchronize
    clock.captured = lambda function: synchronize() or function
    functions = {"onepass": clock.call("a", 1.0), "torch": launches, "other": clock.call("b", 1.0)}
    result = measured(clock, functions, graph=graph)
    assert result["skipped"] == "'torch' raised RuntimeError: an illegal memory access"
    assert result["wrong"]


def test_a_row_has_its_limit():
    """The copy of the clock takes two seconds for eight bytes."""
    clock = Clock()
    functions = {"onepass": clock.call("a", 4.0), "torch": clock.call("b", 8.0)}
    result = measured(clock, functions | {"onepass plain": clock.call("c", 1.0)}, count=12.0)
    assert result["seconds"] == {
        "onepass": 4.0, "torch": 8.0, "onepass plain": 1.0, "limit": 3.0,
    }  # fmt: skip
    assert (result["ratios"], result["device"]) == ({"torch": 2.0}, "cuda")
    assert clock.log[-1] == "release"
    assert " 75%  unchecked  torch 2.00x" in _table.line(result)


def test_what_does_not_fit_is_skipped():
    clock = Clock()

    def fails(error):
        def make(context):
            raise error

        return _run.measured(Row("n", "g", make), Context("cuda"), _cuda.Meter(clock))

    assert fails(Clock.FullError())["skipped"] == "not enough memory"
    assert clock.log == ["release"]
    failed = fails(ValueError("no"))
    assert (failed["skipped"], failed["wrong"]) == ("ValueError: no", True)


def test_rows_are_named_once_and_grouped():
    rows = list(_cuda.rows(Context("cuda")))
    assert len({row.name for row in rows}) == len(rows) > 150
    names = {row.name.split()[0] for row in rows}  # of the norms there are rows by other names too
    assert {case.name for case in cases.CASES} <= names
    assert {row.group for row in rows} == {*GROUPS} - {"end-to-end"}
    assert sum(s[0] * (s[1] if len(s) == 2 else 1) for s in _cuda_rows.FEW) == pytest.approx(
        5e6, rel=0.1
    )


def step(name, *, form="fused", **more):
    variant = cases.optimizers.BY_NAME[name]
    return _steps.step(variant, [(5,), (3, 4)], forms=(form,), **more)


def kernel(name, shape, *more):
    return _kernels.kernel(cases.BY_NAME[name], shape, *more)


LAST = {"training": True, "activation": "relu", "channels_last": True}


@pytest.mark.parametrize(
    ("make", "bytes_", "rivals"),
    [
        (step("adamw"), 17 * 28, ["torch fused"]),
        (step("adamw", clip=True), 17 * 36, ["torch fused"]),
        (step("adamw", dtype="bfloat16"), 17 * 22, ["torch fused"]),
        (step("nadam", form="foreach"), 17 * 28, ["torch foreach"]),
        (_steps_alone.with_options(40, 28.0, cautious=True), 40 * 28, ["onepass plain"]),
        (kernel("mse_loss", (40,)), 40 * 12, ["torch"]),
        (kernel("layer_norm", (4, 6)), 24 * 8, ["torch"]),
        (kernel("layer_norm", (4, 6), "bfloat16"), 24 * 4, ["torch"]),
        (_kernels.both("rms_norm", (4, 6)), 24 * 20, ["torch"]),
        (kernel("relu", (40,), "bfloat16"), 40 * 4, ["onepass out=", "torch out="]),
        (kernel("global_norm", (40,), "bfloat16"), 40 * 2, ["torch"]),
        (kernel("softmax", (4, 6)), 24 * 8, ["torch"]),
        (kernel("batch_norm", (2, 3, 4, 5)), 120 * 8, ["torch"]),
        (_kernels.both("batch_norm", (2, 3, 4, 5), "float32", LAST), 120 * 20, ["torch"]),
        (kernel("cross_entropy", (4, 5), "bfloat16"), 20 * 4, ["torch"]),
        (_cuda_rows._renorm((2, 3, 4, 5)), 120 * 4, ["onepass batch_norm"]),
    ],
)
def test_what_a_row_times_runs_on_tensors(monkeypatch, make, bytes_, rivals):
    """On the CPU's, which are tensors too; and its check holds there."""
    pytest.importorskip("torch")
    monkeypatch.setattr(_arrays, "DEVICE", "cpu")
    workload = make(Context("cuda"))
    assert list(workload.functions) == ["onepass", *rivals]
    assert "torch" not in workload.missing
    assert all(why.startswith("measured on the CPU") for why in workload.missing.values())
    assert workload.bytes == bytes_
    for function in workload.functions.values():
        function()
    assert workload.check is None or not workload.check().wrong


ROWS = 70  # of which the host draws two


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_inputs_are_repeated_on_the_device(monkeypatch, dtype):
    """Each has the shape that its record gives it, and the values of a few rows again and again."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(_arrays, "DEVICE", "cpu")
    monkeypatch.setattr(_arrays, "MOST", 1)
    drawn_as = "float16" if dtype == "bfloat16" else dtype

    def flat(inputs):
        return [a for value in inputs for a in (value if isinstance(value, list) else [value])]

    for case in cases.CASES:
        options = case.bench_options or case.options[0]
        shape = (ROWS, 4, 5, 6)[: max(1, *map(len, case.bench_shapes))]
        found = flat(_arrays.inputs(Context("cuda", dtype), case, shape, options))
        want = flat(case.inputs(shape, drawn_as, options))
        few = flat(case.inputs((2, *shape[1:]), drawn_as, options))
        for got, like, some in zip(found, want, few, strict=True):
            if not isinstance(like, np.ndarray):
                assert got == like or case.family == "mask", case.name
                continue
            assert tuple(got.shape) == like.shape, case.name
            (axis,) = [i for i in range(like.ndim) if like.shape[i] != some.shape[i]] or [None]
            stored = getattr(torch, dtype if like.dtype == drawn_as else str(like.dtype))
            assert got.dtype == (getattr(torch, dtype) if case.family == "row_norm" else stored)
            if axis is not None:
                some = np.concatenate([some] * (ROWS // 2), axis)
            np.testing.assert_allclose(got.to(torch.float64).numpy(), some, rtol=2**-8)


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
