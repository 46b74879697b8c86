"""What `onepass bench` calls WRONG: the check that is a part of each row."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from onepass import nn
from onepass.bench import _check, _kernels, _networks, _rows
from onepass.bench._records import cases
from onepass.bench._row import Check, Context
from small_bench import hurried  # noqa: F401  (a fixture)


def small(case):
    options = case.bench_options or case.options[0]
    shape = {1: (512,), 2: (64, 8)}.get(len(case.bench_shapes[0]), (16, 4, 6, 6))
    return shape, options


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_a_part_has_the_verdict_of_the_whole(case, monkeypatch):
    """The first rows, or fewer rows: the kernel is right either way. And the streams of a row add
    up to its bytes."""
    shape, options = small(case)
    whole = _check.of_case(case, shape, "float32", options)
    monkeypatch.setattr(_check, "MOST", np.prod(shape) // 4)
    part = _check.of_case(case, shape, "float32", options)
    assert not whole.wrong
    assert not part.wrong
    assert part.note
    streams = _kernels.streams(case, case.bench_shapes[-1], "float32")
    arrays = streams.reads + streams.writes + 2 * streams.updates
    assert case.bytes(4) / arrays in (1, 2, 4)  # bytes, halves, floats


@pytest.mark.parametrize("name", ["gelu", "adamw", "softmax_backward", "batch_norm", "layer_norm"])
def test_a_wrong_element_is_seen(name, monkeypatch):
    case = cases.BY_NAME[name]
    shape, options = small(case)
    monkeypatch.setattr(_check, "MOST", np.prod(shape) // 4)

    def off(*inputs, **keywords):
        result = case.op(*inputs, **keywords)
        changed = inputs[0][0] if case.written and result is None else result
        changed[1] += np.float32(0.01)
        return result

    assert _check.of_case(dataclasses.replace(case, op=off), shape, "float32", options).wrong


def test_errors_without_a_number_are_wrong():
    assert Check(float("nan")).wrong
    assert _check.within(np.float32([np.nan]), [1.0], 0.1).wrong
    assert _check.within(np.zeros(2), np.ones(3), 0.1).wrong


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in _rows.rows(Context())
        if re.search(
            "6 tensors|465 groups|states 64k|sparse|lbfgs|64x128|lenet.*8x8|pool 2x2", row.name
        )
    ],
    ids=lambda row: row.name,
)
def test_workloads_are_checked(row):
    """One of each kind."""
    assert not row.make(Context(against=frozenset())).check().wrong


def test_a_result_that_is_wrong_with_out_alone_is_found(monkeypatch):
    case = cases.BY_NAME["relu"]
    known = case.op

    def spoils(*arrays, out=None, **options):
        result = known(*arrays, out=out, **options)
        if out is not None:
            out[-1] = 7
        return result

    row = _kernels.kernel(case, (1000,))(Context(against=frozenset()))
    assert row.check().error <= 1
    wrong = _kernels.kernel(dataclasses.replace(case, op=spoils), (1000,))
    found = wrong(Context(against=frozenset())).check()
    assert (found.wrong, found.note) == (True, "out= gives another result")


@pytest.mark.parametrize(("errors", "draws"), [([0.5], 1), ([40, 3, 0.9], 3), ([9, 8, 7, 6, 5], 5)])
def test_a_network_is_wrong_where_no_draw_agrees(errors, draws, monkeypatch):
    asked = []

    def drawn(make, shape, seed):
        asked.append(seed)
        return Check(0.25, None, ""), Check(errors[seed], None, "")

    monkeypatch.setattr(_networks, "_drawn", drawn)
    found = _networks.checked(_networks.lenet, (8, 1, 8, 8))
    assert (asked, found.error) == ([*range(draws)], min(errors))


@pytest.mark.parametrize("name", _networks.LAYERS)
@pytest.mark.parametrize("what", ["right", "result", "gradient", "weights"])
def test_a_layer_is_checked_by_the_formulas(name, what, monkeypatch):
    """A mistake that is in float32 and in float64 alike is found."""
    layer = _networks.LAYERS[name]
    layer = layer._replace(shape=(2, layer.shape[1], 8, 8))
    kind = type(layer.make(nn))
    forward, backward = kind.forward, kind.backward

    def wrong_backward(self, dy):
        dx = backward(self, dy)
        if what == "weights":
            for p in self.parameters():
                p.grad *= 1 + 1e-5
        return dx * np.float32(1 + 1e-5 * (what == "gradient"))

    if what == "result":
        monkeypatch.setattr(kind, "forward", lambda self, x: forward(self, x) + np.float32(1e-5))
    else:
        monkeypatch.setattr(kind, "backward", wrong_backward)
    wrong = what != "right" and (what != "weights" or name.startswith("depthwise"))
    for last in (False, True):
        assert _networks.layer_checked(layer, last).wrong is wrong


def test_a_gradient_that_is_off_by_a_thousandth_is_found(monkeypatch):
    known = nn.MaxPool2d.backward

    def off(self, dy, **options):
        return known(self, dy, **options) * dy.dtype.type(1.001 if dy.dtype == np.float32 else 1)

    assert not _networks.checked(_networks.lenet, (8, 1, 8, 8)).wrong
    monkeypatch.setattr(nn.MaxPool2d, "backward", off)
    assert _networks.checked(_networks.lenet, (8, 1, 8, 8)).wrong
