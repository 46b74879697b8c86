"""Dropout layers and their random streams: masks, seeds, exact resume, copies."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from onepass import nn, ops
from small_models import normal


def test_dropout_draws_a_new_mask_each_call_and_the_same_in_backward():
    layer, x = nn.Dropout(0.25), np.ones((64, 64), np.float32)
    first, second = layer(x), layer(x)
    assert (first != second).any()
    np.testing.assert_array_equal(layer.backward(x), second)
    assert set(np.unique(first)) == {0, np.float32(1 / 0.75)}
    assert (nn.Dropout(0.25)(x) != first).any()  # another layer, another stream
    seed, offset = layer.stream.peek()
    np.testing.assert_array_equal(
        layer(x) != 0, ops.dropout_mask(x.shape, 0.25, seed=seed, offset=offset)
    )


def test_dropout_in_evaluation_and_at_the_ends():
    x = normal((5, 5), "float32")
    layer = nn.Dropout(0.5).eval()
    assert layer(x) is x
    assert layer.backward(x) is x
    assert nn.Dropout(0.0)(x) is x
    assert not nn.Dropout(1.0)(x).any()


def test_manual_seed_reaches_existing_layers():
    layer, x = nn.Dropout(0.5), np.ones((32, 32), np.float32)
    nn.manual_seed(7)
    first = layer(x)
    layer(x)
    nn.manual_seed(7)
    np.testing.assert_array_equal(layer(x), first)
    nn.manual_seed(8)
    assert (layer(x) != first).any()


def test_rng_state_resumes_bitwise():
    def build():
        return nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.ReLU(), nn.Dropout(0.3))

    nn.manual_seed(1)
    model, x = build(), normal((9, 8), "float32")
    model(x)
    state = json.loads(json.dumps(nn.get_rng_state(model)))
    weights = model.state_dict()
    expected = [model(x), model(x), nn.Linear(5, 5).weight.data]

    nn.manual_seed(99)
    resumed = build()
    resumed.load_state_dict(weights)
    nn.set_rng_state(state, resumed)
    for a, b in zip([resumed(x), resumed(x), nn.Linear(5, 5).weight.data], expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_rng_state_of_another_model_is_refused():
    model, other = nn.Sequential(nn.Dropout()), nn.Sequential(nn.ReLU(), nn.Dropout())
    state = nn.get_rng_state(model)
    nn.Linear(3, 3)
    before = nn.get_rng_state(other)
    for target in (None, other):
        with pytest.raises(ValueError, match="dropout layers"):
            nn.set_rng_state(state, target)
    assert nn.get_rng_state(other) == before


def test_copies_continue_where_the_layer_was():
    layer, x = nn.Dropout(0.5), np.ones((32, 32), np.float32)
    layer(x)
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    expected = layer(x)
    for other in copies:
        np.testing.assert_array_equal(other(x), expected)


LAYERS = [  # and arrays they take, the axes of samples and channels first
    (nn.Dropout1d, (6, 7, 5)),
    (nn.Dropout2d, (6, 7, 5)),
    (nn.Dropout2d, (6, 7, 3, 5)),
    (nn.Dropout3d, (6, 7, 2, 3, 4)),
]


@pytest.mark.parametrize(("cls", "shape"), LAYERS)
def test_whole_maps_are_dropped(cls, shape):
    layer, x, dy = cls(0.25), normal(shape, "float32"), normal(shape, "float32", seed=1)
    seed, offset = layer.stream.peek()
    keep = ops.dropout_mask(shape[:2], 0.25, seed=seed, offset=offset)
    assert 0 < keep.sum() < keep.size
    scale = np.where(keep, np.float32(1 / 0.75), 0).reshape(*shape[:2], *[1] * (len(shape) - 2))
    np.testing.assert_array_equal(layer(x), x * scale)
    np.testing.assert_array_equal(layer.backward(dy), dy * scale)
    assert layer.eval()(x) is x
    assert layer.backward(dy) is dy


@pytest.mark.parametrize(("cls", "shape"), [(nn.Dropout1d, (40, 5)), (nn.Dropout3d, (40, 3, 2, 4))])
def test_one_sample_has_its_channels_first(cls, shape):
    one, batch, x = cls(0.5), cls(0.5), normal(shape, "float64")
    one.stream.set(3, 1)
    batch.stream.set(3, 1)
    y = one(x)
    np.testing.assert_array_equal(y, batch(x[None])[0])
    assert y.any(axis=tuple(range(1, x.ndim))).sum() not in (0, 40)
    np.testing.assert_array_equal(one.backward(x), y)


@pytest.mark.parametrize(
    ("cls", "shape"),
    [(nn.Dropout1d, (3, 2, 2, 2)), (nn.Dropout2d, (3, 2)), (nn.Dropout3d, (2, 2, 2))],
)
def test_other_numbers_of_axes_are_refused(cls, shape):
    layer, x = cls(0.5), np.ones(shape, np.float32)
    before = layer.stream.peek()
    for training in (True, False):
        with pytest.raises(ValueError, match=rf"{cls.__name__}: 'x' has shape .*, expected \(N, C"):
            layer.train(training)(x)
    assert layer.stream.peek() == before


def test_alpha_dropout_keeps_mean_and_variance():
    layer, x = nn.AlphaDropout(0.3), normal((1000, 200), "float64")
    y = layer(x)
    assert abs(y.mean()) < 0.01
    assert abs(y.std() - 1) < 0.01
    dx, step = layer.backward(np.ones_like(x)), ops.alpha_dropout_backward
    np.testing.assert_array_equal(
        np.unique(dx), [0, step(np.ones(1), 0.3, seed=6).max() or dx.max()]
    )
    assert layer.eval()(x) is x
    assert not nn.AlphaDropout(1.0)(x).any()


def test_alpha_dropout_takes_the_values_of_pytorch():
    """Which elements are dropped differs, not what becomes of them."""
    torch = pytest.importorskip("torch")
    x = np.full(1000, 0.5)
    theirs = torch.nn.functional.alpha_dropout(torch.from_numpy(x), 0.3, training=True).numpy()
    ours = ops.alpha_dropout(x, 0.3, seed=1)
    np.testing.assert_allclose(np.unique(ours), np.unique(theirs), rtol=1e-8)  # p as rounded


def test_alpha_dropout_of_whole_maps():
    layer, x = nn.FeatureAlphaDropout(0.25), normal((6, 7, 3, 5), "float32")
    seed, offset = layer.stream.peek()
    keep = ops.dropout_mask(x.shape[:2], 0.25, seed=seed, offset=offset)[:, :, None, None]
    assert 0 < keep.sum() < keep.size
    zeros = ops.alpha_dropout(np.zeros(100, np.float32), 0.25, seed=1)
    a = ops.alpha_dropout_backward(np.ones(100, np.float32), 0.25, seed=1).max()
    dropped, b = zeros.min(), zeros.max()
    assert dropped < 0 < b
    np.testing.assert_array_equal(layer(x), np.where(keep, a * x + b, dropped))
    np.testing.assert_array_equal(layer.backward(x), np.where(keep, a * x, 0))
    assert layer.eval()(x) is x
    flat, before = nn.FeatureAlphaDropout(0.25), layer.stream.peek()
    assert flat(x[:, :, 0, 0]).shape == (6, 7)
    with pytest.raises(ValueError, match=r"FeatureAlphaDropout: 'x' has shape \(6,\), expected"):
        layer(x[:, 0, 0, 0])
    assert layer.stream.peek() == before


def test_alpha_dropout_of_whole_maps_takes_the_values_of_pytorch():
    torch = pytest.importorskip("torch")
    x = np.full((50, 20, 3), 0.5)
    module = torch.nn.FeatureAlphaDropout(0.3)
    theirs = module(torch.from_numpy(x)).numpy()
    ours = ops.feature_alpha_dropout(x, 0.3, seed=1)
    np.testing.assert_allclose(np.unique(ours), np.unique(theirs), rtol=1e-8)  # p as rounded


def test_sequential_runs_them_by_themselves():
    def run(fuse):
        nn.manual_seed(4)
        drop = (nn.Dropout2d(0.5), nn.SELU(), nn.AlphaDropout(0.1))
        model = nn.Sequential(nn.BatchNorm2d(5), nn.ReLU(), *drop, fuse=fuse)
        y = model(normal((8, 5, 3, 3), "float32"))
        return y, model.backward(y)

    for fused, plain in zip(run(True), run(False), strict=True):
        np.testing.assert_array_equal(fused, plain)
