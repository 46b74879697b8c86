"""Decorrelated batch norm: white outputs, gradients through the iteration, running statistics."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from onepass import nn, optim
from onepass.train import Trainer


def correlated(shape, dtype="float64", seed=0):
    """Channels that depend on each other."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    mix = rng.standard_normal((shape[1], shape[1])) + 2 * np.eye(shape[1])
    return (np.einsum("cd,nd...->nc...", mix, x) + 3).astype(dtype)


def covariance(y, groups):
    rows = np.moveaxis(y.astype(np.float64), 1, 0).reshape(groups, y.shape[1] // groups, -1)
    rows = rows - rows.mean(axis=2, keepdims=True)
    return rows @ rows.swapaxes(1, 2) / rows.shape[2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "groups"),
    [((300, 6), 1), ((300, 6), 3), ((9, 4, 31), 2), ((5, 8, 7, 9), 2), ((3, 4, 3, 5, 4), 4)],
)
def test_outputs_are_white(shape, groups, dtype):
    layer = nn.DecorrelatedBatchNorm(shape[1], groups, iterations=30, eps=1e-9, dtype=dtype)
    y = layer(correlated(shape, dtype))
    assert y.shape == shape
    assert y.dtype == dtype
    width = shape[1] // groups
    bound = 1e-6 if dtype == "float64" else 2e-3
    want = np.broadcast_to(np.eye(width), (groups, width, width))
    np.testing.assert_allclose(covariance(y, groups), want, atol=bound)
    np.testing.assert_allclose(np.moveaxis(y, 1, 0).reshape(shape[1], -1).mean(axis=1), 0,
                               atol=bound)  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("shape", "groups", "affine"), [
    ((7, 4), 2, True), ((9, 4), 1, False), ((4, 6, 5), 3, True), ((3, 4, 2, 3), 2, True),
])  # fmt: skip
def test_gradients(shape, groups, affine, training):
    layer = nn.DecorrelatedBatchNorm(shape[1], groups, affine=affine, dtype="float64")
    rng = np.random.default_rng(1)
    for parameter in layer.parameters():
        parameter.data[...] = rng.uniform(0.5, 1.5, parameter.shape)
    layer.running_projection[...] += 0.1 * rng.standard_normal(layer.running_projection.shape)
    layer.train(training)
    nn.gradcheck(layer, correlated(shape))


def test_gradients_equal_autograd():
    torch = pytest.importorskip("torch")
    x, dy = correlated((40, 5)), np.random.default_rng(2).standard_normal((40, 5))
    layer = nn.DecorrelatedBatchNorm(5, iterations=6, affine=False, dtype="float64")
    leaf = torch.from_numpy(x).requires_grad_()
    rows = (leaf - leaf.mean(0)).T
    sigma = rows @ rows.T / 40 + 1e-5 * torch.eye(5, dtype=torch.float64)
    trace = sigma.trace()
    p = torch.eye(5, dtype=torch.float64)
    for _ in range(6):
        p = (3 * p - p @ p @ p @ (sigma / trace)) / 2
    want = (p / trace.sqrt() @ rows).T
    np.testing.assert_allclose(layer(x), want.detach().numpy(), rtol=1e-10, atol=1e-12)
    want.backward(torch.from_numpy(dy))
    np.testing.assert_allclose(layer.backward(dy), leaf.grad.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e-20, 1e-6, 1e6, 1e20, 1e30])
def test_any_magnitude(dtype, scale):
    eps = 1e-12 * scale**2
    if dtype == "float32" and not 1e-38 < eps < 1e38:
        eps = 1e-5
    x = correlated((64, 3))
    unit = nn.DecorrelatedBatchNorm(3, eps=1e-12, dtype="float64")
    layer = nn.DecorrelatedBatchNorm(3, eps=max(eps, 1e-300), dtype=dtype)
    y = layer((x * scale).astype(dtype))
    assert np.isfinite(y).all()
    if 1e-300 < eps == 1e-12 * scale**2:
        np.testing.assert_allclose(y, unit(x), atol=1e-3 if dtype == "float32" else 1e-8)
    dx = layer.backward(np.ones_like(y))
    assert np.isfinite(dx).all()


def test_a_constant_channel_and_a_copied_one_stay_finite():
    x = correlated((50, 4), "float32")
    x[:, 1] = 7
    x[:, 2] = x[:, 3]
    layer = nn.DecorrelatedBatchNorm(4)
    y = layer(x)
    assert np.isfinite(y).all()
    np.testing.assert_allclose(y[:, 1], 0, atol=1e-3)
    assert np.isfinite(layer.backward(np.ones_like(y))).all()


def test_running_statistics():
    layer = nn.DecorrelatedBatchNorm(4, 2, momentum=1.0, dtype="float64")
    x = correlated((100, 4))
    y = layer(x)
    layer.eval()
    np.testing.assert_allclose(layer(x), y, rtol=1e-12, atol=1e-12)
    before = layer.running_mean.copy()
    layer(x + 1)
    np.testing.assert_array_equal(layer.running_mean, before)
    layer.train().freeze()
    np.testing.assert_allclose(layer(x), y, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(layer.running_mean, before)
    layer.unfreeze()
    layer(x + 1)
    np.testing.assert_allclose(layer.running_mean, before + 1)


def test_state_and_copies():
    layer = nn.DecorrelatedBatchNorm(4, 2)
    layer(correlated((30, 4), "float32"))
    state = layer.state_dict()
    assert sorted(state) == ["bias", "running_mean", "running_projection", "weight"]
    other = nn.DecorrelatedBatchNorm(4, 2)
    other.load_state_dict(state)
    x = correlated((30, 4), "float32", seed=3)
    want = layer.eval()(x)
    for again in (other.eval(), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(again(x), want)


def test_it_trains():
    from onepass import optim, train

    nn.manual_seed(0)
    x = correlated((256, 6), "float32")
    target = (x @ np.linspace(-1, 1, 6, dtype=np.float32))[:, None]
    target /= np.abs(target).max()
    model = nn.Sequential(nn.DecorrelatedBatchNorm(6), nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = optim.AdamW(model.parameters(), lr=0.02)
    trainer = train.Trainer(model, nn.MSELoss(), optimizer, progress=False)
    history = trainer.fit(x, target, max_epochs=30, batch_size=64)
    assert history["loss"][-1] < 0.1 * history["loss"][0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.DecorrelatedBatchNorm(6, 4), "num_groups is 4, expected a divisor"),
        (lambda: nn.DecorrelatedBatchNorm(6, eps=0), "eps"),
        (lambda: nn.DecorrelatedBatchNorm(6, iterations=0), "iterations"),
        (lambda: nn.DecorrelatedBatchNorm(6)(np.zeros((6, 6), "f4")), "needs more than 6"),
        (lambda: nn.DecorrelatedBatchNorm(6)(np.zeros((9, 5), "f4")), r"expected \(N, 6\)"),
        (lambda: nn.DecorrelatedBatchNorm(6)(np.zeros((9, 6))), "the parameters are float32"),
    ],
)
def test_wrong_use_is_refused(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()


def test_a_refused_batch_changes_nothing():
    layer = nn.DecorrelatedBatchNorm(4)
    before = {k: v.copy() for k, v in layer.state_dict().items()}
    with pytest.raises(ValueError, match="needs more"):
        layer(np.ones((3, 4), np.float32))
    for key, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


@pytest.mark.parametrize(
    ("samples", "options", "words"),
    [
        (35, {"last_batch": "keep"}, "'last_batch' is 'keep', which leaves a last batch of 3"),
        (35, {"batch_size": 8}, "'batch_size' is 8, which leaves 7 in a batch of 35 samples"),
        (6, {}, "'batch_size' is 32, which leaves 6 in a batch of 6 samples, expected a larger"),
    ],
)
def test_batches_too_small_to_whiten_are_refused_before_the_first_step(samples, options, words):
    """The error came with the last batch, after the others had moved the model."""
    x = np.random.default_rng(0).standard_normal((samples, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    model = nn.Sequential(nn.Linear(4, 8), nn.DecorrelatedBatchNorm(8), nn.Linear(8, 2))
    before = {name: value.copy() for name, value in model.state_dict().items()}
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    keep = {k: options.pop(k) for k in ("last_batch",) if k in options}
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False, **keep)
    with pytest.raises(ValueError, match=words):
        trainer.fit(x, y, max_epochs=1, **options)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    if keep:
        balanced = Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False)
        assert balanced.fit(x, y, max_epochs=1)["loss"]
    model[1].freeze()
    trainer.fit(x, y, max_epochs=1, **options)  # its running statistics
