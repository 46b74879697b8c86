"""The benchmark follows from the records: kernels have rows and rivals, on arrays and tensors."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from onepass import _C, bench, config, optim
from onepass.bench import (
    _arrays,
    _beside,
    _check,
    _front,
    _kernels,
    _limits,
    _machine,
    _networks,
    _rows,
    _run,
    _steps,
    _steps_alone,
    _timing,
)
from onepass.bench._peers._library import Lacks
from onepass.bench._records import cases
from onepass.bench._row import Context, own_form

has_torch, tensor_of = cases._case.has_torch, cases._case.tensor_of
optimizers = cases.optimizers
KERNELS = _C.kernels()
# gelu_tanh is a row of gelu: its record's options choose the kernel.
BASES = {
    record.kernel(form, [k["name"] for k in KERNELS]): record.name
    for record, form in cases.activations.FORMS
}
NEEDS_TORCH = pytest.mark.skipif(not has_torch(), reason="PyTorch is not installed")


def inputs_of(case):
    options = case.bench_options or case.options[0]
    shape = (6, 4) if case.family in ("channels", "norm", "row_norm", "loss", "rows") else (40,)
    shape = (2, 3, 5, 4) if case.family == "windows" else shape
    shape += (3,) * (min(map(len, case.shapes)) - len(shape))
    return case.inputs(shape, "float32", options), cases.keywords_of(options)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k['kind']}-{k['name']}")
def test_every_kernel_has_a_row(kernel):
    names = {row.name.split()[0] for row in _rows.rows(Context())}
    name = BASES.get(kernel["name"], kernel["name"])
    name += "_backward" if kernel["kind"] == "activation_backward" else ""
    assert name in names, (
        f"the benchmark has no row for {kernel['kind']} {name!r}: add its record to tests/cases"
    )


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_every_row_has_shapes_and_a_rival(case):
    assert case.bench_shapes, f"{case.name} has no bench_shapes: the benchmark leaves it out"
    assert case.bytes(4) > 0
    if not has_torch():
        return
    rivals = case.rivals(*inputs_of(case))
    found = any(label.split()[0] == "torch" for label in rivals)
    assert found != bool(case.no_rival), (
        f"{case.name}: the rivals are {sorted(rivals)}; add PyTorch's to its record or say in "
        "no_rival why there is none"
    )


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_rows_and_rivals_run(case):
    inputs, keywords = inputs_of(case)
    rivals = case.rivals(inputs, keywords)
    for function in (_kernels.forms(case, inputs, keywords, rivals) | rivals).values():
        function()


@NEEDS_TORCH
@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_rows_and_rivals_take_tensors(case):
    """As on a GPU; NumPy is not a rival there."""
    inputs, keywords = inputs_of(case)
    inputs = tuple(map(tensor_of, inputs))
    rivals = case.rivals(inputs, keywords)
    assert not any(label.startswith("numpy") for label in rivals)
    for function in (_kernels.forms(case, inputs, keywords, rivals) | rivals).values():
        function()


@NEEDS_TORCH
@pytest.mark.parametrize("case", [c for c in cases.CASES if c.both], ids=lambda case: case.name)
@pytest.mark.parametrize("on", ["arrays", "tensors"])
def test_forward_and_gradient_together(case, on):
    inputs, keywords = inputs_of(case)
    if on == "tensors":
        inputs = tuple(map(tensor_of, inputs))
    functions = case.both(inputs, keywords)
    assert set(functions) == {"onepass", "torch"}
    for function in functions.values():
        function()


@NEEDS_TORCH
def test_a_rival_does_the_work():
    """Of a batch norm, the gradients that the record's reference has."""
    case = cases.BY_NAME["batch_norm_backward"]
    options = {"training": True, "channels_last": True, "activation": "silu"}
    inputs = case.inputs((6, 4, 3, 2), "float32", options)
    theirs = case.both(inputs, options)["torch"]()
    for got, want in zip(theirs, case.expect(inputs, options), strict=True):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-4, atol=1e-5)


@NEEDS_TORCH
@pytest.mark.parametrize("variant", optimizers.VARIANTS, ids=lambda v: v.name)
def test_a_step_of_each_optimizer(variant, monkeypatch):
    """Ours and PyTorch's run, and ours clears its gradients."""
    monkeypatch.setattr(_steps.records, "copy_of", lambda array: array)
    rng = np.random.default_rng(0)
    params, grads = ([rng.standard_normal(9).astype(np.float32)] for _ in range(2))
    for clip in (False, True):
        found = _steps.beside_torch(Context(), variant, params, grads, clip)
        forms = [f"torch {form}" for form in ("fused", "foreach", "eager")]
        rivals = {*found.functions, *found.missing} - {"onepass"}
        assert rivals == {*(forms if variant.record.torch else [])}
        assert all(why.startswith("PyTorch has no") for why in found.missing.values())
        for function in found.functions.values():
            function()
        assert grads[0].any() != clip


def test_like_is_compared_with_like():
    """Ours makes a new result; into memory that is there it writes beside a rival that does too,
    whichever other rivals are found."""
    given = []
    case = cases.BY_NAME["relu"]
    case = dataclasses.replace(case, op=lambda x, out=None: given.append(out))
    into = dataclasses.replace(case, op=lambda x, out=None: given.append(out) or np.empty_like(x))
    inputs = (np.ones(4, np.float32),)
    for rivals in ([], ["jax jit"], ["torch"]):
        (function,) = _kernels.forms(case, inputs, {}, rivals).values()
        function()
        assert given.pop() is None
    for rivals in (["torch out="], ["jax jit", "numpy out="]):
        new, held = _kernels.forms(into, inputs, {}, rivals).values()
        given.clear()
        for function in (new, held, held):
            function()
        assert given[0] is None
        assert given[1] is given[2] is not None
    labels = ["onepass", "onepass out=", "jax jit", "numpy out="]
    assert [own_form(label, labels) for label in ("jax jit", "numpy out=", "limit")] == [
        "onepass", "onepass out=", "onepass",
    ]  # fmt: skip
    assert own_form("numpy out=", ["onepass", "numpy out="]) == "onepass"


def test_a_limit_rotates_where_its_row_does(monkeypatch):
    monkeypatch.setattr(_kernels, "MEMORY", 1000)
    monkeypatch.setattr(_machine, "last_cache", lambda: 100_000)
    monkeypatch.setattr(_run, "interleaved", lambda *_: {})
    given = []
    monkeypatch.setattr(_limits, "limit", lambda *arguments: given.append(arguments[3]))
    context = Context(against=frozenset())
    for size, rotates in ((999, False), (1000, True)):
        workload = _kernels.kernel(cases.BY_NAME["relu"], (size,))(context)
        _run.Meter().samples(workload, context)
        assert given.pop() is rotates
        # a copy of the arrays for each turn, or one function
        assert (workload.functions["onepass"].__qualname__.startswith("_turns")) is rotates
    _run.Meter().samples(dataclasses.replace(workload, rotates=False), context)
    assert given.pop() is False


@pytest.mark.parametrize("level", ["activation", "nothing"])
def test_a_family_is_known(level):
    case = cases.BY_NAME["relu"]
    if level == "activation":
        assert (case.group, case.by_rows) == ("activation", True)
        assert not dataclasses.replace(case, sums=True).by_rows
        assert not cases.BY_NAME["lamb"].by_rows
    else:
        with pytest.raises(ValueError, match="relu: family 'nothing', expected one of"):
            dataclasses.replace(case, family=level)


def test_streams_have_loops():
    """A limit is a loop over just as many arrays, or is on this list: another is of other
    streams."""
    known = _C.stream_shapes()
    nearest = {"im2col", "col2im"}  # nine to one
    for case in cases.CASES:
        shape = dataclasses.astuple(_kernels.streams(case, case.bench_shapes[-1], "float32"))
        assert (shape in known) != (case.name in nearest), (case.name, shape)
    for variant in optimizers.VARIANTS:
        assert dataclasses.astuple(_steps.step_streams(variant, False)) in known
    assert dataclasses.astuple(_steps.step_streams(_steps.ADAMW, True)) in known
    for layer in _networks.LAYERS.values():
        assert dataclasses.astuple(layer.streams) in known


@pytest.mark.parametrize("name", _networks.LAYERS)
def test_bytes_of_a_layer(name):
    """Forward and all gradients: x and dx, y and dy, and what is kept between."""
    from onepass import nn

    layer = _networks.LAYERS[name]
    x = np.zeros((1, *layer.shape[1:]), np.float32)
    y = layer.make(nn)(x)
    assert x.size == layer.smaller * y.size
    moved = 2 * (x.nbytes + y.nbytes)
    moved += 2 * y.nbytes if name.startswith("max") else 0
    moved += x.nbytes if name.startswith("depthwise") else 0
    assert layer.bytes() == layer.shape[0] * moved


def test_an_optimizer_is_timed_as_it_is_mostly_used():
    for variant in optimizers.VARIANTS:
        options = cases.BY_NAME[variant.name].bench_options
        assert options.keys() <= {"step", *variant.options}


def test_a_row_says_its_dtype():
    """One of its own, or the one that the user asked for."""
    relu, context = cases.BY_NAME["relu"], Context(dtype="float64", against=frozenset())
    for make, size in (
        (lambda dtype: _kernels.kernel(relu, (5,), dtype), 2),
        (lambda dtype: _kernels.both("batch_norm", (5, 3), dtype), 5),
        (lambda dtype: _steps.step(_steps.ADAMW, [(5,)], dtype=dtype), 7),
    ):
        for dtype, itemsize in (("float32", 4), (None, 8)):
            workload = make(dtype)(context)
            assert (workload.dtype, workload.bytes) == (dtype, size * itemsize * workload.elements)


def test_rivals_made_by_hand_cannot_end_a_row(monkeypatch):
    def fails():
        raise AttributeError("module 'torch.optim' has no attribute 'Muon'")

    def lacks():
        raise Lacks("no such form")

    makers = {
        "numpy": lambda: dict,
        "numpy raises": lambda: fails,
        "numpy cannot be made": fails,
        "numpy lacks": lacks,
        "jax jit": fails,
        "keras jax": fails,
    }
    monkeypatch.setitem(_beside.LIBRARIES, "keras", dataclasses.replace(
        _beside.LIBRARIES["keras"], module="no_such_module_at_all"))  # fmt: skip
    found = _beside.beside(Context(against=frozenset({"numpy", "keras"})), makers)
    assert found.functions == {"numpy": dict}
    error = "AttributeError: module 'torch.optim' has no attribute 'Muon'"
    assert found.missing == {
        "numpy raises": error,
        "numpy cannot be made": error,
        "numpy lacks": "no such form",
        "keras": "not installed (pip install keras)",
    }


@pytest.mark.parametrize("state_dtype", ["float32", "bfloat16", "int8"])
def test_the_bytes_of_states_are_those_that_an_optimizer_holds(state_dtype):
    p = np.ones(1 << 14, np.float32)
    own = optim.AdamW([p], state_dtype=None if state_dtype == "float32" else state_dtype)
    own.step([p * 0.1])
    (state,) = own.state_dict()["state"].values()
    held = sum(value.nbytes for value in state.values() if isinstance(value, np.ndarray))
    assert held == 2 * p.size * _steps.state_bytes(state_dtype)
    assert _steps.adamw_bytes(state_dtype) * p.size == 3 * p.nbytes + 2 * held


BY_HAND = {
    "muon": _steps_alone.muon,
    "sparse adam": _steps_alone.sparse_adam,
    "lbfgs": _steps_alone.lbfgs,
    "groups": _steps._param_groups,
    "tensors": _steps._tensors,
    "layer": next(row.make for row in _networks.rows() if row.name.startswith("global avg")),
    "network": next(row.make for row in _networks.rows() if row.name.startswith("lenet")),
    "front": next(row.make for row in _front.rows()),
}


@NEEDS_TORCH
@pytest.mark.parametrize("name", BY_HAND)
def test_every_row_by_hand_is_in_that_net(monkeypatch, name):
    """Whatever PyTorch raises, each such row is made, and says so."""
    import onepass.torch.nn
    import onepass.torch.optim  # noqa: F401 - classes of ours are made from PyTorch's
    import torch

    def fails(*_, **__):
        raise AttributeError("no such class")

    for optimizer in ("Muon", "SparseAdam", "LBFGS", "AdamW"):
        monkeypatch.setattr(torch.optim, optimizer, fails, raising=False)
    for module in ("ReLU", "AdaptiveAvgPool2d", "Conv2d"):
        monkeypatch.setattr(torch.nn, module, fails)
    workload = BY_HAND[name](Context(against=frozenset({"torch"})))
    assert not [label for label in workload.functions if not label.startswith("onepass")]
    assert any(why.endswith("no such class") for why in workload.missing.values())


# ---- checks


def test_no_number_is_infinitely_wrong():
    """JSON and comparisons know infinity as what it is; NaN is neither right nor wrong."""
    exact = cases.BY_NAME["relu"].tolerance
    found = _check.compared(np.float32([1, np.nan]), [1.0, 2.0], exact, "float32", True)
    assert (found.error, found.ulps) == (math.inf, math.inf)
    for check in (_check.within, _check.together):
        assert check(np.zeros(3), np.zeros(3), 0.1).error == 0
        assert check(np.float32([0, 1e-9, 0]), np.zeros(3), 0.1).error == math.inf
        assert check(np.float32([0, np.nan, 0]), np.zeros(3), 0.1).error == math.inf
        assert check(np.float32([0, np.nan, 0]), np.ones(3), 0.1).error == math.inf
        assert check(np.float32([1, 1.05, 1]), np.ones(3), 0.1).error <= 0.5001


@pytest.mark.parametrize("times", [1.0, 2.0, 0.5, math.inf, "kept"])
def test_clipping_and_clearing_are_checked(times, monkeypatch):
    """Another norm, none at all, and gradients that are not cleared."""
    variant = optimizers.BY_NAME["adamw"]
    params, grads = _arrays.drawn(Context(), [(65,), (90, 9), (9,)])
    plain = optim.AdamW.step

    def step(self, grads, max_norm, zero_grad):
        if times == "kept":
            return plain(self, grads, max_norm=max_norm)
        max_norm = None if times == math.inf else times * max_norm
        return plain(self, grads, max_norm=max_norm, zero_grad=zero_grad)

    monkeypatch.setattr(optim.AdamW, "step", step)
    for most in (1 << 17, 100):  # all of them, or the norm of all and two
        monkeypatch.setattr(_check, "MOST", most)
        found = _check.of_steps(variant, params, grads, clip=True)
        assert found.wrong == (times != 1.0)
        assert bool(found.note) == (most == 100 or times == "kept")


@pytest.mark.parametrize(
    ("sizes", "chosen"), [([3, 5, 9, 2], [0, 1, 3]), ([99, 1], [1]), ([99, 98], [0])]
)
def test_the_tensors_that_are_compared(sizes, chosen, monkeypatch):
    monkeypatch.setattr(_check, "MOST", 10)
    assert _check._first([np.zeros(size) for size in sizes]) == chosen


# ---- what is timed


@pytest.mark.parametrize("of", ["arrays", "tensors"])
def test_cleared_gradients_come_back(of, monkeypatch):
    if of == "tensors" and not has_torch():
        pytest.skip("PyTorch is not installed")
    monkeypatch.setattr(_steps, "REFILL", 3)
    grads = [np.float32([1, 2])]
    grads = [tensor_of(g) for g in grads] if of == "tensors" else grads
    seen = []

    def step():
        seen.append(float(grads[0][1]))
        grads[0][...] = 0

    run = _steps.refilled(step, grads)
    for _ in range(7):
        run()
    assert seen == [2, 0, 0, 2, 0, 0, 2]


def test_each_iteration_of_lbfgs_moves_and_remembers():
    """A first step below the rounding of its parameters leaves the history empty."""
    p, slopes = _steps_alone.bowl()
    own = optim.LBFGS([p], **_steps_alone.LBFGS)
    some, before = p[::1000], []

    def closure():
        before.append(some.copy())
        return 1.0, [p * slopes]

    own.step(closure)
    own.step(closure)
    moved = [np.mean(a != b) for a, b in itertools.pairwise([*before, some])]
    assert len(moved) == 20
    assert min(moved) > 0.99
    (state,) = own.state_dict()["state"].values()
    assert len(state["old_dirs"]) == 10


def test_each_round_begins_with_another(monkeypatch):
    monkeypatch.setattr(_timing, "REST_SECONDS", 0.0)
    monkeypatch.setattr(_timing, "_preemptions", lambda: 0)
    log, now = [], [0.0]

    def call(name):
        def function():
            log.append(name)
            now[0] += 1.0

        return function

    _timing.interleaved({name: call(name) for name in "abc"}, 4, lambda: now[0])
    turns = [name for name, _ in itertools.groupby(log[6:])]
    assert "".join(turns) == "abcbcacababc"


def test_one_disturbed_call_does_not_set_the_size_of_samples(monkeypatch):
    monkeypatch.setattr(_timing, "SAMPLE_SECONDS", 4e-3)
    rests, now = [], [0.0]
    monkeypatch.setattr(_timing.time, "sleep", rests.append)
    for durations, calls in (
        ((9, 3e-2, 1e-5), 400),
        ((9, 1e-5, 3e-2, 1e-5), 400),
        ((9, 1e-5, 1e-5, 3e-2), 400),
        ((9, 9), 1),
    ):
        turns = iter(durations)
        count = []

        def function(turns=turns, last=durations[-1], count=count):
            count.append(None)
            now[0] += next(turns, last)

        assert _timing._calls_per_sample(function, lambda: now[0]) == calls
        assert len(count) == (2 if calls == 1 else 4)  # what is slow is not called again
    assert rests == [_timing.REST_SECONDS] * 4


def test_who_is_preempted(monkeypatch):
    asked = []
    usage = _timing.resource.getrusage
    monkeypatch.setattr(_timing.resource, "getrusage", lambda who: asked.append(who) or usage(who))
    before = config.get_num_threads()
    try:
        for threads in (1, 2):
            config.set_num_threads(threads)
            _timing._preemptions()
    finally:
        config.set_num_threads(before)
    assert asked == [_timing.resource.RUSAGE_THREAD, _timing.resource.RUSAGE_SELF]


def test_streams_of_own_functions(monkeypatch):
    given = []

    def limit(*arguments):
        given.append(arguments)
        return lambda: None

    monkeypatch.setattr(_limits, "limit", limit)
    monkeypatch.setattr(_timing, "REST_SECONDS", 0.0)
    bench.measure(dict, bytes=9, streams=(2, 1, 0), rounds=1)
    assert dataclasses.astuple(given[0][0]) == (2, 1, 0)
    for wrong, error, words in [
        ((1, 1), TypeError, "three integers"),
        ([1, 1, 0], TypeError, "three integers"),
        ((1.0, 1, 0), TypeError, "three integers"),
        ((0, 0, 0), ValueError, "at least one array"),
        ((-1, 1, 0), ValueError, "no negative number"),
    ]:
        with pytest.raises(error, match=f"measure: 'streams' is .*{words}"):
            bench.measure(dict, bytes=9, streams=wrong)
