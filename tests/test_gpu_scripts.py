"""scripts/gpu, `onepass bench --device cuda` and the CUDA build where there is no GPU: commands,
made-up clocks."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import fake_cupy
import numpy as np
import pytest
from onepass.bench import (
    _arrays,
    _check,
    _cuda,
    _cuda_rows,
    _kernels,
    _peers,
    _run,
    _steps,
    _steps_alone,
    _table,
)
from onepass.bench import _cuda_timing as timing
from onepass.bench._peers import _cupy
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


def test_a_rival_with_streams_of_its_own_is_timed_by_the_host():
    """It waits for them itself; no event of ours is between its calls. Nor is it captured."""
    clock = Clock()
    functions = {"onepass": clock.call("a", 2.0), "optax jit": clock.call("b", 5.0)}
    result = measured(clock, functions, graph=True)
    assert result["seconds"]["optax jit"] == pytest.approx(0.5)
    assert result["seconds"]["onepass"] == 2.0 / timing.REPLAYS
    assert clock.log.count("capture") == 1
    assert clock.least_busy == 0.0  # the device is not kept busy beside it


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


def test_the_cache_is_emptied_by_reading():
    """The scratch memory is written, then read: lines that were only written would be written back
    during the timed call. Then the device is busy for so long."""
    log = []

    class Scratch:
        def add_(self, number):
            log.append("write")

        def sum(self):
            log.append("read")

    device = object.__new__(timing.Device)
    device.scratch, device.cycles = Scratch(), 2e9
    device.torch = types.SimpleNamespace(cuda=types.SimpleNamespace(_sleep=log.append))
    device.flush(0.25)
    assert log == ["write", "read", 500_000_000]


def test_the_scratch_memory_is_larger_than_caches(monkeypatch):
    torch = pytest.importorskip("torch")
    made = torch.ones
    monkeypatch.setattr(torch, "ones", lambda count, device: made(count, device="meta"))
    scratch = timing.Device().scratch
    assert scratch.numel() * scratch.element_size() == timing.FLUSH_BYTES
    assert timing.FLUSH_BYTES > 2 * 126e6  # the second level of a B200


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


# What a visit to a card measures first, in this order.
SHAPES = ("256x64x112x112", "256x256x56x56", "256x128x28x28", "256x512x7x7")
FIRST = [
    "adamw 1 tensor of 1 G",
    "clip+adamw+zero 1 tensor of 1 G",
    "adamw 1000 tensors of 68 M",
    "clip+adamw+zero 1000 tensors of 68 M",
    "adamw 120 tensors of 5 M",
    "clip+adamw+zero 120 tensors of 5 M",
    "adamw 120 tensors of 5 M graph",
    "adamw 120 tensors of 0.5 M graph",
    "global_norm 1 G float32",
    "global_norm 1 G bfloat16",
    "dropout 1 G bfloat16",
    *(
        f"bn+relu {what} {shape} {order} {dtype}"
        for shape in SHAPES
        for dtype in ("bfloat16", "float32")
        for order in ("NCHW", "NHWC")
        for what in ("fwd+bwd", "fwd")
    ),
    "cross_entropy 8192x50257 bfloat16",
    "bn+relu+dropout fwd 4096x1024 bfloat16 graph",
    "bn+relu+dropout fwd 4096x1024 float32 graph",
]


def test_the_rows_that_decide_are_measured_first(monkeypatch, capsys):
    """By one stage of scripts/gpu, before those of groups, which find them in the file."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import gpu

    command = gpu.STAGES["bench-first"].command(100.0)
    only = re.compile(command[command.index("--only") + 1])
    rows = list(_cuda.rows(Context("cuda")))
    assert [row.name for row in rows if only.search(row.name)] == FIRST
    for group in GROUPS:  # and of each group they come first
        of_group = [row.name for row in rows if row.group == group]
        wanted = [name for name in FIRST if name in of_group]
        places = [of_group.index(name) for name in wanted]
        assert places == sorted(places)
    wanted = {"RMSprop", "Adadelta", "Adamax", "NAdam", "RAdam", "clip+adamw+zero 1 G ema"}
    names = {row.name for row in rows}
    for name in wanted:
        assert name in names or f"{name.lower()} 1 tensor of 1 G" in names, name
    for shape in SHAPES:
        assert f"bn+add+relu fwd+bwd {shape} NHWC bfloat16" in names


def step(name, *, form="fused", **more):
    variant = cases.optimizers.BY_NAME[name]
    return _steps.step(variant, [(5,), (3, 4)], forms=(form,), **more)


def kernel(name, shape, *more):
    return _kernels.kernel(cases.BY_NAME[name], shape, *more)


LAST = {"training": True, "activation": "relu", "channels_last": True}
ADDED = LAST | {"with_residual": True}


@pytest.mark.parametrize(
    ("make", "bytes_", "rivals"),
    [
        (step("adamw"), 17 * 28, ["torch fused"]),
        (step("adamw", clip=True), 17 * 36, ["torch fused"]),
        (step("adamw", dtype="bfloat16"), 17 * 22, ["torch fused"]),
        (step("nadam", form="foreach"), 17 * 28, ["torch foreach"]),
        (_steps_alone.with_options(40, 28.0, cautious=True), 40 * 28, ["onepass plain"]),
        (_steps_alone.with_options(40, 44.0, True, ema_decay=0.9), 40 * 44, ["onepass plain"]),
        (kernel("mse_loss", (40,)), 40 * 12, ["torch"]),
        (kernel("layer_norm", (4, 6)), 24 * 8, ["torch"]),
        (kernel("layer_norm", (4, 6), "bfloat16"), 24 * 4, ["torch"]),
        (_kernels.both("rms_norm", (4, 6)), 24 * 20, ["torch"]),
        (kernel("relu", (40,), "bfloat16"), 40 * 4, ["onepass out=", "torch out="]),
        (kernel("global_norm", (40,), "bfloat16"), 40 * 2, ["torch"]),
        (kernel("softmax", (4, 6)), 24 * 8, ["torch"]),
        (kernel("batch_norm", (2, 3, 4, 5)), 120 * 8, ["torch"]),
        (_kernels.both("batch_norm", (2, 3, 4, 5), "float32", LAST), 120 * 20, ["torch"]),
        (_kernels.both("batch_norm", (2, 3, 4, 5), "float32", ADDED), 120 * 28, ["torch"]),
        (kernel("cross_entropy", (4, 5), "bfloat16"), 20 * 4, ["torch"]),
        (_cuda_rows._renorm((2, 3, 4, 5)), 120 * 4, ["onepass batch_norm"]),
    ],
)
def test_what_a_row_times_runs_on_tensors(monkeypatch, make, bytes_, rivals):
    """On the CPU's, which are tensors too; and its check holds there."""
    pytest.importorskip("torch")
    monkeypatch.setattr(_arrays, "DEVICE", "cpu")
    workload = make(Context("cuda"))
    # JAX's are there where it is, as it takes tensors of the device.
    ours = [name for name in workload.functions if not name.endswith("jit")]
    assert ours == ["onepass", *rivals]
    assert "torch" not in workload.missing
    why_not = ("measured on the CPU alone", "not installed", "not in ", "compiles for seconds")
    for name, why in workload.missing.items():
        assert why.startswith(why_not) or name in ("jax", "optax"), (name, why)
    assert workload.bytes == bytes_
    for function in workload.functions.values():
        function()
    assert workload.check is None or not workload.check().wrong


@pytest.fixture
def cupy(monkeypatch):
    """The rival CuPy on fake_cupy's arrays, which share the memory of PyTorch's tensors."""
    pytest.importorskip("torch")
    fake_cupy.install(monkeypatch)

    def shared(tensor):
        host = tensor.detach().numpy()
        found = fake_cupy.ndarray.__new__(fake_cupy.ndarray)
        found._set(host, fake_cupy.MemoryPointer(host, 0), None)
        return found

    erf = np.vectorize(math.erf, otypes=[np.float32])
    special = types.SimpleNamespace(erf=lambda x: fake_cupy.cupy.asarray(erf(x.get())))
    for name, value in {"cupy": fake_cupy.cupy, "special": special, "shared": shared,
                        "on_stream": contextlib.nullcontext}.items():  # fmt: skip
        monkeypatch.setattr(_cupy, name, value)
    monkeypatch.setitem(
        _peers.LIBRARIES, "cupy", dataclasses.replace(_cupy.LIBRARY, module="json", needs=())
    )
    monkeypatch.setattr(_arrays, "DEVICE", "cpu")
    return Context("cuda", against=frozenset({"cupy"}))


@pytest.mark.parametrize("name", _cupy.LIBRARY.kernels)
def test_cupy_computes_what_a_row_does(cupy, name):
    case = cases.BY_NAME[name]
    options = case.bench_options or case.options[0]
    inputs = case.inputs((40,) if case.family != "rows" else (6, 4), "float32", options)
    keywords = cases.keywords_of(options)
    tensors = tuple(_arrays.records.tensor_of(a) for a in inputs)
    found = _peers.kernel(cupy, case, tensors, keywords)
    assert not found.missing
    got = found.functions["cupy"]().get()
    if name == "dropout":
        assert {*np.unique(got != 0)} == {False, True}
        kept = got != 0
        np.testing.assert_allclose(got[kept], inputs[0][kept] / (1 - keywords["p"]), rtol=1e-6)
        return
    (want, *_) = case.expect(inputs, options)
    np.testing.assert_allclose(got, np.asarray(want, float).reshape(got.shape), 2e-6, 2e-6)


def test_cupy_takes_the_step_of_a_row(cupy):
    adamw = cases.optimizers.BY_NAME["adamw"]
    params, grads = _arrays.drawn(Context(), [(5,), (3, 4)])
    run = adamw.trajectory([p.copy() for p in params], lr=1e-2)
    tensors = [[_arrays.records.tensor_of(a) for a in given] for given in (params, grads)]
    ((_, step),) = _cupy.steps(adamw, *tensors, {"lr": 1e-2}).items()
    for _ in range(3):
        step.run()
        run.step(grads)
    for got, want in zip(step.read(), run.params, strict=True):
        np.testing.assert_allclose(got.numpy(), np.asarray(want, float), 1e-6, 1e-6)
    workload = _steps.step(adamw, [(5,)], forms=())(cupy)
    assert list(workload.functions) == ["onepass", "cupy"]


def test_a_rival_of_another_device_is_a_line_where_it_is_asked_for():
    case, inputs = cases.BY_NAME["relu"], (np.ones(3, np.float32),)
    asked = Context(against=frozenset({"cupy"}))
    assert _peers.kernel(asked, case, inputs, {}).missing == {"cupy": "measured on a GPU alone"}
    assert "cupy" not in _peers.kernel(Context(), case, inputs, {}).missing
    assert "cupy" not in _run.absent(None)
    assert "keras" not in _run.absent(None, "cuda")


ROWS = 70  # of which the host draws two


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_inputs_are_repeated_on_the_device(monkeypatch, dtype):
    """Each has the shape that its record gives it, and the values of a few rows again and again."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(_arrays, "DEVICE", "cpu")
    monkeypatch.setattr(_check, "MOST", 1)
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

BROKEN = "echo broken >&2; exit 1"
NVCC = """case "$1" in
  --version) echo "Cuda compilation tools, release %s, V%s.99" ;;
  --list-gpu-arch) printf 'compute_%%s\\n' 75 80 86 89 90 100 120 ;;
  *) exit 1 ;;
esac"""
GPUS = "printf '9.0\\n8.9\\n9.0\\n'"


@pytest.fixture
def configured(tmp_path):
    """A function that configures the build, where programs stand for nvcc and nvidia-smi: returns
    the exit status, and what was said."""
    pybind11 = pytest.importorskip("pybind11")
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("cmake is not on PATH")
    tools = tmp_path / "bin"
    tools.mkdir()
    ours = ("CUDACXX", "CUDAARCHS", "ONEPASS_CUDA_ARCHS")
    clean = {k: v for k, v in os.environ.items() if k not in ours}

    def call(mode, *more, nvcc=NVCC % ("13.0", "13.0"), gpus="exit 9", **environment):
        for name, text in {"nvcc": nvcc, "nvidia-smi": gpus}.items():
            (tools / name).write_text(f"#!/bin/sh\n{text}\n")
            (tools / name).chmod(0o755)
        done = subprocess.run(
            [
                *(cmake, "-S", str(ROOT), "-B", str(tmp_path / "build"), f"-DONEPASS_CUDA={mode}"),
                *("-DSKBUILD=1", "-DSKBUILD_PROJECT_VERSION_FULL=0"),
                *(
                    f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
                    f"-DPython_EXECUTABLE={sys.executable}",
                ),
                *more,
            ],
            env=clean | {"PATH": f"{tools}:{os.environ['PATH']}"} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    call.nvcc = tools / "nvcc"
    return call


@pytest.mark.parametrize("mode", ["AUTO", "ON"])
def test_a_broken_nvcc(configured, mode):
    """It does not prevent the build for the CPU, unless CUDA is demanded."""
    status, said = configured(mode, nvcc=BROKEN)
    reason = "no working CUDA compiler was found; put nvcc on PATH or set CUDACXX"
    assert said.count(reason) == 1, said
    assert (status == 0) == (mode == "AUTO"), said
    assert ("onepass: built without CUDA" in said) == (mode == "AUTO"), said


@pytest.mark.parametrize("mode", ["AUTO", "ON"])
def test_an_old_nvcc(configured, mode):
    given = f"-DCMAKE_CUDA_COMPILER={configured.nvcc}"
    status, said = configured(mode, given, nvcc=NVCC % ("12.0", "12.0"))
    reason = f"{configured.nvcc} is of CUDA 12.0, and 12.1 or later is needed; put a newer nvcc on"
    assert said.count(reason) == 1, said
    assert (status == 0) == (mode == "AUTO"), said
    assert ("onepass: built without CUDA" in said) == (mode == "AUTO"), said


def test_the_gpus_that_are_compiled_for(configured):
    """That nvcc compiles nothing: the build says first what it is for."""
    given = f"-DCMAKE_CUDA_COMPILER={configured.nvcc}"
    every = "75-real;80-real;90-real;100-real;120-real;120-virtual: every GPU that onepass supports"
    here = "90-real;89-real: the GPUs of this machine"
    asked = "80-real;75: as CUDAARCHS or CMAKE_CUDA_ARCHITECTURES asks"
    for gpus, environment, expected in (
        (GPUS, {}, here),
        (GPUS, {"ONEPASS_CUDA_ARCHS": "all"}, every),
        ("exit 9", {}, every),
        (GPUS, {"CUDAARCHS": "80-real;75"}, asked),
        (GPUS, {}, here),  # no CUDAARCHS of an earlier build
    ):
        _, said = configured("ON", given, gpus=gpus, **environment)
        assert f"onepass: CUDA kernels for {expected}" in said, (environment, said)
        each, processors = expected.count("-real") + ("75:" in expected), os.cpu_count()
        minutes = max(3, -(-9 * each // processors))
        assert f"They take about {minutes} minutes with {processors} processors" in said


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"ONEPASS_CUDA_ARCHS": "90"}, "ONEPASS_CUDA_ARCHS is '90', expected all, or nothing"),
        (
            {"ONEPASS_CUDA_ARCHS": "all", "CUDAARCHS": "90-real"},
            "ONEPASS_CUDA_ARCHS=all, but CUDAARCHS or CMAKE_CUDA_ARCHITECTURES is '90-real'",
        ),
    ],
)
def test_gpus_that_cannot_be_compiled_for(configured, environment, words):
    status, said = configured("AUTO", f"-DCMAKE_CUDA_COMPILER={configured.nvcc}", **environment)
    assert (status == 0, words in said) == (False, True), said


# Stands for Python: pip leaves a wheel. Its _cuda names what it needs, as readelf shows it.
PIP = """
import os, pathlib, sys, zipfile
given = sys.argv[1:]
if given[0] == "-c":
    os.execv(sys.executable, [sys.executable, *given])
names = ("ONEPASS_CUDA", "ONEPASS_CUDA_ARCHS", "ONEPASS_WERROR")
if [os.environ.get(name) for name in names] != ["ON", "all", "ON"]:
    sys.exit("this is another build")
print("onepass: CUDA kernels for 80-real;90-real;90-virtual: every GPU. They take")
folder = pathlib.Path(given[given.index("--wheel-dir") + 1])
with zipfile.ZipFile(folder / "onepass-0.whl", "w") as wheel:
    wheel.writestr("onepass/_cuda.so", os.environ["NEEDS"])
    wheel.writestr("onepass/_C.so", bytes(int(os.environ["BYTES"])))
sys.exit(int(os.environ["PIP_FAILS"]))
"""


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "onepass-0.whl: 80-real;90-real;90-virtual, "),
        ({"NEEDS": "GLIBC_2.4 GLIBC_2.38 GLIBC_2.34"}, "needs GLIBC_2.38, expected GLIBC_2.34 or"),
        ({"BYTES": "25000000"}, "that is too much, expected less than 25000000 for 2 architectu"),
        ({"PIP_FAILS": "1"}, "onepass: CUDA kernels for"),
    ],
)
def test_every_gpu_is_compiled_for(tmp_path, environment, words):
    """The script, with a Python that compiles nothing."""
    tools = tmp_path / "bin"
    tools.mkdir()
    programs = {
        "python": f"#!{sys.executable}\n{PIP}",
        "readelf": '#!/bin/sh\nshift; tr " " "\\n" <"$1"\n',
    }
    for name, text in programs.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    given = {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHON": "python"}
    usual = {"NEEDS": "GLIBC_2.34 GLIBC_2.4", "BYTES": "1", "PIP_FAILS": "0"}
    done = subprocess.run(
        [str(ROOT / "scripts" / "all-gpus"), str(tmp_path / "out")],
        env=os.environ | given | usual | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert words in done.stdout + done.stderr
    assert (done.returncode == 0) == (not environment), done.stderr
    if not environment:
        assert done.stdout.endswith(" bytes, GLIBC_2.34\n")


def test_sanitizers_see_every_record_in_few_calls():
    import gpu_kernels
    from cases import CASES

    calls = list(gpu_kernels.chosen())
    assert {case.name for case, *_ in calls} == {c.name for c in CASES if c.family != "mask"}
    views = {case.family for case, *_, views in calls if views}
    assert views == {case.family for case in CASES if case.elementwise}
    # Here on the processor's arrays: none is refused.
    assert gpu_kernels.run(np.array) == len(calls) + 2 <= 200
    for family in {case.family for case in CASES} - {"mask"}:
        of_family = {dtype for case, dtype, *_ in calls if case.family == family}
        assert len(of_family) >= min(4, sum(case.family == family for case in CASES)) - 1, family
