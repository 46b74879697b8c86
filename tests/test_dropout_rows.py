"""A slice of the rows of a batch gets that slice of its mask: `first`, and nn._shares.place."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from cases.dropout import dropout_mask as reference
from helpers import assert_same
from onepass import nn, ops
from onepass.nn._shares import place
from small_models import normal

FIRSTS = [0, 1, 31, 32, 33, 64, 96, 127, 128, 129, 1000, 4096, 2**31 + 5, 2**40 + 77, 2**62 - 1]


@pytest.mark.parametrize("p", [0.5, 0.1, 2.0**-32, 0.0, 1.0])
@pytest.mark.parametrize("first", FIRSTS)
def test_a_mask_from_an_element_on(first, p):
    for n in (0, 1, 31, 128, 4097, 40_000):
        want = reference((n,), p, seed=3, offset=4, first=first)
        assert_same(ops.dropout_mask(n, p, seed=3, offset=4, first=first), want, f"{first} {n}")
        packed = ops.dropout_mask(n, p, seed=3, offset=4, first=first, packed=True)
        assert_same(packed, np.packbits(want, bitorder="little"), f"{first} {n} packed")


def test_the_reference_of_a_slice_is_the_slice_of_the_reference():
    whole = reference((5000,), 0.3, seed=7, offset=1)
    for first in (1, 32, 127, 128, 1003):
        assert_same(reference((77,), 0.3, seed=7, offset=1, first=first), whole[first:][:77])


SHAPE = (50, 6, 3, 7)
WEIGHT, BIAS = normal((6,), "float32", 2), normal((6,), "float32", 3)
HOW = {"dropout_p": 0.3, "seed": 5, "offset": 6}


def _row_norm(function, backward, *given):
    def both(x, **how):
        y, saved = function(x, *given, **how)
        return y, backward(np.ones_like(x), saved)[0]

    return both


def _bias_act(x, **how):
    how |= {"activation": "tanh"}
    return ops.bias_act(x, BIAS, **how), ops.bias_act_backward(np.ones_like(x), x, BIAS, **how)[0]


def _dropout(name):
    function, backward = getattr(ops, name), getattr(ops, f"{name}_backward")

    def both(x, *, dropout_p, **how):
        return function(x, dropout_p, **how), backward(np.ones_like(x), dropout_p, **how)

    return both


# Functions whose rows depend on each other through nothing but the mask; and of which units
# `first` counts a row.
BY_ROWS = {
    "dropout": (_dropout("dropout"), 126),
    "alpha_dropout": (_dropout("alpha_dropout"), 126),
    "feature_dropout": (_dropout("feature_dropout"), 1),
    "feature_alpha_dropout": (_dropout("feature_alpha_dropout"), 1),
    "bias_act": (_bias_act, 126),
    "layer_norm": (_row_norm(ops.layer_norm, ops.layer_norm_backward, (3, 7)), 126),
    "rms_norm": (_row_norm(ops.rms_norm, ops.rms_norm_backward, 7), 126),
    "group_norm": (_row_norm(ops.group_norm, ops.group_norm_backward, 2, WEIGHT, BIAS), 126),
    "instance_norm": (_row_norm(ops.instance_norm, ops.instance_norm_backward), 126),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("name", BY_ROWS)
def test_rows_by_themselves_are_those_of_the_batch(name, dtype):
    function, unit = BY_ROWS[name]
    if dtype != "float32" and name in ("bias_act", "group_norm"):
        pytest.skip("these have vectors of float32")
    x = normal(SHAPE, dtype)
    y, dx = function(x, **HOW)
    assert 0.1 < (dx == 0).mean() < 0.6 or name.startswith(("layer", "rms", "group", "instance"))
    for row, end in ((0, 1), (1, 2), (7, 50), (13, 14), (31, 44), (49, 50)):
        one, gradient = function(x[row:end], **HOW, first=row * unit)
        assert_same(one, y[row:end], f"y, rows {row} to {end}")
        assert_same(gradient, dx[row:end], f"dx, rows {row} to {end}")


@pytest.mark.parametrize("last", [False, True])
def test_the_mask_of_a_batch_norm_is_that_of_its_rows(last):
    """Of constant rows, which give the bias: what is dropped shows the mask."""
    x = np.zeros((40, 6, 5), np.float32) if last else np.zeros((40, 5, 6), np.float32)
    bias = np.full(5, 2, np.float32)
    for row in (0, 1, 3, 17):
        y, saved = ops.batch_norm(
            x[row:], None, bias, None, None, training=True, channels_last=last,
            **HOW, first=row * 30,
        )  # fmt: skip
        mask = ops.dropout_mask(x.shape, 0.3, seed=5, offset=6)[row:]
        assert_same(y != 0, mask)
        dresidual = ops.batch_norm_backward(np.ones_like(y), saved._replace(residual=x[row:]))[3]
        assert_same(dresidual != 0, mask)


@pytest.mark.parametrize("name", ["dropout", "feature_dropout", "alpha_dropout", "bias_act"])
@pytest.mark.parametrize("first", [-1, 2**62, 2**64, 0.5, None])
def test_what_is_no_index_is_refused(name, first):
    function, _ = BY_ROWS[name]
    error = TypeError if first in (0.5, None) else ValueError
    with pytest.raises(error, match=rf"^{name}: 'first' is {first}, expected"):
        function(np.zeros(SHAPE, np.float32), **HOW, first=first)


def test_maps_are_counted_below_2_to_the_62():
    x = np.ones((1, 3, 2), np.float32)
    ops.feature_dropout(x, seed=1, first=2**62 // 3 - 1)
    with pytest.raises(ValueError, match=f"'first' is {2**62 // 3}, expected 0 <= first < "):
        ops.feature_dropout(x, seed=1, first=2**62 // 3)


# ------------------------------------------------------------------------------------- modules

SEVEN = (24, 7)
IMAGES = (24, 4, 5, 3)


def _images(*layers):
    return nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), *layers)


MODELS = {
    "dropout": (lambda: nn.Dropout(0.4), SEVEN),
    "alpha_dropout": (lambda: nn.AlphaDropout(0.4), SEVEN),
    "dropout1d": (lambda: nn.Dropout1d(0.4), (24, 3, 5)),
    "dropout2d": (lambda: nn.Dropout2d(0.4), IMAGES),
    "feature_alpha_dropout": (lambda: nn.FeatureAlphaDropout(0.4), IMAGES),
    "linear": (lambda: nn.Sequential(nn.Linear(7, 9), nn.ReLU(), nn.Dropout(0.4)), SEVEN),
    "linear over steps": (
        lambda: nn.Sequential(nn.Linear(7, 5), nn.GELU(), nn.Dropout(0.4)), (24, 3, 7)),
    "conv": (lambda: _images(nn.ReLU(), nn.Dropout(0.4)), IMAGES),
    "layer norm": (lambda: nn.Sequential(nn.LayerNorm(7), nn.Dropout(0.4)), SEVEN),
    "frozen batch norm": (
        lambda: nn.Sequential(nn.BatchNorm1d(7), nn.Dropout(0.4)).freeze(), SEVEN),
    "residual": (
        lambda: nn.Sequential(
            nn.Residual(nn.Sequential(nn.Linear(7, 7), nn.Dropout(0.3))), nn.ReLU(),
            nn.Dropout(0.4)),
        SEVEN),
}  # fmt: skip


@pytest.mark.parametrize("layout", ["first", "last"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_at_a_place_drops_what_the_whole_batch_would(name, layout):
    make, shape = MODELS[name]
    if layout == "last" and len(shape) != 4:
        pytest.skip("no images")
    model, x, dy = make(), normal(shape, "float32"), None
    if layout == "last":
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    parts = [copy.deepcopy(model) for _ in range(3)]
    for step in range(2):  # the second call has another mask
        y = model(x)
        dy = normal(y.shape, "float32", seed=step)
        dx = model.backward(dy)
        assert (y == 0).any() or "alpha" in name
        for part, rows in zip(parts, (slice(0, 5), slice(5, 6), slice(6, 24)), strict=True):
            place(part, rows.start)
            one = part(x[rows])
            assert_close(one, y[rows])
            assert_close(part.backward(dy[rows]), dx[rows])


def assert_close(got, want):
    """Products of matrices of other sizes are rounded differently; what is dropped is exactly 0."""
    np.testing.assert_array_equal(got == 0, want == 0)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_a_place_holds_until_the_next_and_a_copy_has_none():
    layer, x = nn.Dropout(0.5), np.ones((8, 40), np.float32)
    layer.stream.set(3, 9)
    place(layer, 2)
    for offset in (9, 10):
        whole = ops.dropout(np.ones((12, 40), np.float32), 0.5, seed=3, offset=offset)
        assert_same(layer(x), whole[2:10])
    twin = copy.deepcopy(layer)
    place(layer, 0)
    want = ops.dropout(x, 0.5, seed=3, offset=11)
    assert_same(layer(x), want)
    assert_same(twin(x), want)


def test_a_layer_that_came_since_has_the_place_too():
    """The layers of a model are looked for again where a module was edited."""
    x = np.ones((8, 40), np.float32)
    model = nn.Sequential(nn.Dropout(0.5))
    place(model, 2)
    for edit in (lambda layer: model.append(layer), lambda layer: setattr(model[0], "more", layer)):
        layer = nn.Dropout(0.5)
        edit(layer)
        place(model, 2)
        layer.stream.set(3, 9)
        whole = ops.dropout(np.ones((12, 40), np.float32), 0.5, seed=3, offset=9)
        assert_same(layer(x), whole[2:10])
