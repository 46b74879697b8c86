"""The border between Python and the kernels: views, alignment, overlap, references."""

import contextlib
import gc
import itertools
import sys

import numpy as np
import pytest
from helpers import Exported, row_of, shifted, values
from onepass import _C, ops

relu = _C.activation["relu"]


# ---- views, alignment

VIEWS = {
    "transposed": lambda a: a.T,
    "every other": lambda a: a[::2, 1::2],
    "reversed": lambda a: a[::-1],
    "both reversed": lambda a: a[::-1, ::-1],
    "column": lambda a: a[:, 3],
    "one element": lambda a: a[2:3, 1:2],
    "empty": lambda a: a[:, :0],
    "0-d": lambda a: a[3, 4, ...],
    "cube": lambda a: a.reshape(4, 3, 2, 4).transpose(2, 0, 3, 1),
    "new axes": lambda a: a[:, None, ::3, None],
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("of_x", VIEWS)
@pytest.mark.parametrize("of_out", VIEWS)
def test_views(of_x, of_out, dtype):
    x = VIEWS[of_x](values((12, 8), dtype))
    base = np.full((12, 8), 7, dtype)
    want = base.copy()
    out = VIEWS[of_out](base)
    if out.shape != x.shape:
        out = np.full(x.shape[::-1], 7, dtype).T
    else:
        VIEWS[of_out](want)[...] = np.maximum(x, 0)
    relu(x, out)
    assert np.array_equal(out, np.maximum(x, 0))
    assert out.base is not base or np.array_equal(base, want)  # nothing beside the view


def test_broadcast_input():
    x = np.broadcast_to(values(5), (3, 5))
    assert np.array_equal(relu(x, np.zeros((3, 5), np.float32)), np.maximum(x, 0))


def test_dimensions():
    deep = np.zeros((2,) * 24, np.float16)
    relu(deep, deep)  # dense: one run
    even = np.zeros((4,) * 11, np.float16)[(slice(None, None, 2),) * 11]
    assert np.array_equal(relu(even, np.ones_like(even, order="C")), even)
    gaps = [2 * 3**i for i in reversed(range(17))]  # no two dimensions merge
    deep = np.lib.stride_tricks.as_strided(np.zeros(3**17 // 2 + 1, np.float16), (2,) * 17, gaps)
    with pytest.raises(ValueError, match="needs 17 dimensions after merging, at most 16"):
        relu(deep, np.zeros((2,) * 17, np.float16))


@pytest.mark.parametrize("offset", range(1, 16))
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_misaligned(offset, dtype):
    x = shifted(values((5, 7), dtype), offset)
    for out in (np.zeros((5, 7), dtype), shifted(np.zeros((5, 7), dtype), offset), x):
        want = np.maximum(x, 0)
        assert np.array_equal(relu(x, out), want)


def records(dtype):
    return np.zeros(9, np.dtype([("pad", "u1"), ("x", dtype), ("y", dtype)]))


def test_strides_that_are_no_multiple_of_the_item():
    table = records("f4")
    table["x"], table["y"], table["pad"] = values(9), 5, 3
    relu(table["x"], table["y"])
    assert np.array_equal(table["y"], np.maximum(values(9), 0))
    assert np.array_equal(table["x"], values(9))
    assert (table["pad"] == 3).all()


# ---- overlap


def line(base, start, count, step):
    return (
        base[start : start + count * step : step]
        if step > 0
        else base[start : (start + count * step) if start + count * step >= 0 else None : step]
    )


def test_overlap_of_lines():
    """Every pair of equally long lines in a small buffer, against the elements they consist of."""
    where = np.arange(12)
    lines = [(s, n, t) for n in (1, 2, 3, 4) for t in (-3, -2, -1, 1, 2, 3) for s in range(12)
             if 0 <= s + (n - 1) * t < 12]  # fmt: skip
    seen = {True: 0, False: 0}
    for a, b in itertools.product(lines, lines):
        if a[1] != b[1]:
            continue
        one, other = line(where, *a), line(where, *b)
        alias = np.array_equal(one, other)
        shared = bool(set(one.tolist()) & set(other.tolist())) and not alias
        base = values(12)
        x, out = line(base, *a), line(base, *b)
        if shared:
            before = base.copy()
            with pytest.raises(ValueError, match="'out' overlaps 'x' in memory"):
                relu(x, out)
            assert np.array_equal(base, before)
        else:
            want = np.maximum(x, 0)
            assert np.array_equal(relu(x, out), want)
        seen[shared] += 1
    assert min(seen.values()) > 500


def test_overlap_of_blocks():
    rng = np.random.default_rng(0)
    seen = {True: 0, False: 0}
    for _ in range(3000):
        base = values((8, 9))
        h, w = rng.integers(1, 5, 2)
        (i, k), (j, m) = rng.integers(0, 8 - h + 1, 2), rng.integers(0, 9 - w + 1, 2)
        x, out = base[i : i + h, j : j + w], base[k : k + h, m : m + w]
        if rng.integers(2) and h == w:
            out = out.T
        alias = x.ctypes.data == out.ctypes.data and (x.strides == out.strides or x.size == 1)
        shared = np.shares_memory(x, out) and not alias
        try:
            relu(x, out)
            refused = False
        except ValueError:
            refused = True
        assert refused == shared, (x.strides, out.strides, i, j, k, m, h, w)
        seen[shared] += 1
    assert min(seen.values()) > 300


def test_outputs_that_overlap_themselves():
    window = np.lib.stride_tricks.as_strided(np.zeros(9, np.float32), (3, 4), (4, 8))
    with pytest.raises(ValueError, match="'out' overlaps itself"):
        relu(np.zeros((3, 4), np.float32), window)
    flat = np.lib.stride_tricks.as_strided(np.zeros(9, np.float32), (3, 4), (0, 4))
    with pytest.raises(ValueError, match="'out' has stride 0 along axis 0"):
        relu(np.zeros((3, 4), np.float32), flat)


def test_two_outputs_may_not_be_one_array():
    x, d, m = values((4, 3)), np.zeros(3, np.float32), np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="'running_mean' overlaps 'running_var'"):
        _C.batch_norm(x, d, d, m, m[:], None, None, 1, True, 0.1, 1e-5, "relu", (), 0.0, 0, 0, 0)


# ---- per-channel calls


def test_channel_vectors_may_be_strided():
    x = values((4, 3))
    results = []
    for step in (1, 2, -1):
        mean, var, weight = (np.zeros(6, np.float32)[::step][:3] for _ in range(3))
        weight[:] = [1, -2, 3]
        y, _ = _C.batch_norm(
            x, weight, None, mean, var, None, None, 1, True, 0.1, 1e-5, "tanh", (), 0.0, 0, 0, 0
        )
        results.append((y, mean.copy(), var.copy()))
    for y, mean, var in results[1:]:
        assert np.array_equal(y, results[0][0])
        assert np.array_equal(mean, results[0][1])
        assert mean.any()
        assert np.array_equal(var, results[0][2])
        assert var.any()


def test_labels_of_every_integer_type():
    logits, want = values((3, 4)), None
    for dtype in "bhilqBHILQ":
        loss, got = _C.cross_entropy(
            logits, np.array([0, 3, 1], dtype), None, None, 0.0, -100, "sum"
        )
        want = want or (loss, got)
        assert loss == want[0]
        assert np.array_equal(got, want[1])


@pytest.mark.parametrize("label", [-1, 4, 2**63 - 1, -(2**63)])
def test_labels_out_of_range(label):
    dlogits = np.full((2, 4, 3), 7, np.float32)
    target = np.zeros((2, 3), np.int64)
    target[1, 2] = label
    with pytest.raises(
        IndexError, match=rf"'target' holds {label} at \(1, 2\), expected 0 <= label < 4"
    ):
        _C.cross_entropy(values((2, 4, 3)), target, None, dlogits, 0.0, -100, "mean")
    assert (dlogits == 7).all()
    _C.cross_entropy(values((2, 4, 3)), target, None, dlogits, 0.0, label, "mean")


def test_unsigned_label_beyond_int64():
    with pytest.raises(IndexError, match="'target' holds"):
        _C.cross_entropy(
            values((1, 4)), np.array([2**64 - 100], np.uint64), None, None, 0.0, -100, "mean"
        )


# ---- references


def test_no_reference_is_kept():
    x, out, label = values((3, 4)), np.zeros((3, 4), np.float32), np.zeros(3, np.int32)
    exported = Exported(values((3, 4)))
    vector = np.ones(4, np.float32)
    strided = np.zeros(8, np.float32)[::2]
    held = [x, out, label, vector, strided, exported.array, np.float32, np.ndarray, Exported]

    def calls():
        relu(x, out)
        relu(exported, out)
        _C.dropout(x, out, 0.5, 1, 2, 0)
        _C.bias_act(x, strided, out, 1, "relu", (), 0.5, 1, 2, 0)
        for made in (out, None):
            inputs = [x, vector, None, strided, strided.copy(), x.copy(order="F"), made]
            rest = "leaky_relu", (0.1,), 0.0, 0, 0, 0
            y, saved = _C.batch_norm(*inputs, 1, True, 0.1, 1e-5, *rest)
            _C.batch_norm_backward(y, *saved, None, x)
            _C.cross_entropy(x, label, None, made, 0.0, -100, "mean")
            _C.bias_act_backward(x, x, vector, made, 1, "relu", (), 0.5, 1, 2, 0)
            relu(x, made)
        _C.global_norm([x, out, x], 2)
        plan = _C.Plan("sgd", [out], [None], [0])
        tenth = row_of("sgd", 0.1, 0, 0, 0, 0)
        plan.step([x], (tenth,), 1.0, None, 1.0, True, False, False, True)
        for wrong in ([1], "x", x.astype(int), x.T):
            with contextlib.suppress(TypeError, ValueError):
                relu(x, wrong)
                raise AssertionError(wrong)
        exported.asked.clear()

    for _ in range(100):
        calls()
    gc.collect()
    before, blocks = [sys.getrefcount(h) for h in held], sys.getallocatedblocks()
    for _ in range(10_000):
        calls()
    gc.collect()
    assert [sys.getrefcount(h) for h in held] == before
    assert abs(sys.getallocatedblocks() - blocks) < 2000  # a leak would be 10,000 or more


@pytest.mark.parametrize("axes", [(0, 2, 1), (2, 1, 0), (1, 0, 2)])
def test_a_result_has_the_layout_of_its_input(axes):
    x = np.arange(24.0).reshape(2, 3, 4).transpose(axes)
    y = ops.leaky_relu(x)
    assert y.strides == np.empty_like(x).strides != np.empty(x.shape).strides
    np.testing.assert_array_equal(y, x)
