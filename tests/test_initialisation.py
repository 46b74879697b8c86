"""Initial values: distributions, seeds, orthogonality, PyTorch's gains, errors."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from onepass import nn
from small_models import assert_same

SHAPE = (300, 100, 2)  # fan_in 200, fan_out 600
RANDOM = [
    ("lecun_normal", {}, 1 / 200, False),
    ("lecun_uniform", {}, 1 / 200, True),
    ("xavier_normal", {"gain": 2.0}, 4 * 2 / 800, False),
    ("xavier_uniform", {}, 2 / 800, True),
    ("kaiming_normal", {"nonlinearity": "relu", "mode": "fan_out"}, 2 / 600, False),
    ("kaiming_uniform", {"a": 5**0.5}, 2 / 6 / 200, True),
    ("geometric_mean", {"c": 3.0}, 3 / (200 * 600) ** 0.5, False),
    ("normal", {"std": 3.0}, 9.0, False),
    ("uniform", {"a": -1.0, "b": 1.0}, 1 / 3, True),
]


@pytest.mark.parametrize(("name", "options", "variance", "is_uniform"), RANDOM)
def test_init_distribution(name, options, variance, is_uniform):
    values = getattr(nn.init, name)(np.empty(SHAPE), **options, seed=0)
    std = variance**0.5
    assert abs(values.mean()) < 5 * std / values.size**0.5
    assert values.var() == pytest.approx(variance, rel=0.03)
    peak = np.abs(values).max() / std
    if is_uniform:
        assert 0.999 * 3**0.5 < peak <= 3**0.5
    else:
        assert peak > 3.5
        assert np.mean(np.abs(values) < std) == pytest.approx(0.6827, abs=0.01)


@pytest.mark.parametrize("name", [row[0] for row in RANDOM] + ["orthogonal"])
def test_init_is_a_function_of_the_seed(name):
    fill = getattr(nn.init, name)
    a, b = fill(np.empty((8, 6)), seed=5), fill(nn.Parameter(np.empty((8, 6), np.float32)), seed=5)
    np.testing.assert_array_equal(a.astype(np.float32), b.data)
    assert (fill(np.empty((8, 6)), seed=6) != a).any()
    nn.manual_seed(5)
    np.testing.assert_array_equal(fill(np.empty((8, 6))), a)
    assert (fill(np.empty((8, 6))) != a).any()


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (5, 3, 4), (7, 7)])
def test_orthogonal(shape):
    q = nn.init.orthogonal(np.empty(shape), gain=2.0, seed=1).reshape(shape[0], -1) / 2
    gram = q @ q.T if q.shape[0] < q.shape[1] else q.T @ q
    np.testing.assert_allclose(gram, np.eye(min(q.shape)), atol=1e-13)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3)])
@pytest.mark.parametrize(
    "name", ["lecun_normal", "xavier_uniform", "kaiming_normal", "geometric_mean", "orthogonal"]
)
def test_init_of_an_empty_array(name, shape):
    array = np.empty(shape, np.float32)
    assert getattr(nn.init, name)(array, seed=0) is array


def test_constants():
    p = nn.Parameter(np.empty((2, 2), np.float32))
    assert nn.init.ones(p) is p
    assert p.data.tolist() == [[1, 1], [1, 1]]
    assert nn.init.zeros(p.data).tolist() == [[0, 0], [0, 0]]
    assert nn.init.constant(p, 2.5).data.tolist() == [[2.5, 2.5], [2.5, 2.5]]


@pytest.mark.parametrize(
    "name", ["zeros", "ones", "constant", "orthogonal", *(row[0] for row in RANDOM)]
)
def test_every_initialiser_takes_a_seed(name):
    options = {"val": 0.5} if name == "constant" else {}
    array = np.empty((2, 3), np.float32)
    assert getattr(nn.init, name)(array, **options, seed=1) is array


def test_gain_matches_torch():
    torch = pytest.importorskip("torch")
    gain, expected = nn.init.calculate_gain, torch.nn.init.calculate_gain
    for name in ("linear", "conv1d", "conv2d", "conv3d", "sigmoid", "tanh", "relu", "selu"):
        assert gain(name) == expected(name)
    assert gain("leaky_relu") == expected("leaky_relu")
    assert gain("leaky_relu", 0.3) == expected("leaky_relu", 0.3)


def test_linear_starts_as_in_torch():
    layer = nn.Linear(400, 300)
    for values in (layer.weight.data, layer.bias.data):
        assert 0.98 / 20 < np.abs(values).max() <= np.float32(1 / 20)
        assert values.std() == pytest.approx(1 / 20 / 3**0.5, rel=0.1)
    nn.manual_seed(3)
    a = nn.Linear(4, 4).state_dict()
    nn.manual_seed(3)
    assert_same(nn.Linear(4, 4).state_dict(), a)


@pytest.mark.parametrize(
    ("name", "given", "options", "error", "match"),
    [
        ("xavier_normal", np.empty(3), {}, ValueError, "2 axes"),
        ("orthogonal", np.empty(3), {}, ValueError, "2 axes"),
        ("kaiming_normal", np.empty((3, 3)), {"mode": "fan"}, ValueError, "'mode' is 'fan'"),
        ("geometric_mean", np.empty((3, 3)), {"c": 0}, ValueError, "'c' is 0"),
        ("normal", np.empty(3), {"std": -1.0}, ValueError, "'std' is -1.0"),
        (
            "normal",
            np.empty(3),
            {"seed": -1},
            ValueError,
            "'seed' is -1, expected a whole",
        ),
        ("normal", np.empty(3), {"seed": 1.5}, TypeError, "'seed' is 1.5"),
        ("orthogonal", np.empty((3, 3)), {"seed": "a"}, TypeError, "'seed' is 'a'"),
        (
            "uniform",
            np.empty(3),
            {"a": 2, "b": 1},
            ValueError,
            "uniform: 'b' is 1, expected a number >= 2",
        ),
        ("uniform", np.empty(3), {"b": np.inf}, ValueError, "'b' is inf"),
        ("uniform", np.empty(3), {"a": np.nan}, ValueError, "'a' is nan"),
        ("uniform", np.empty(3), {"a": "0"}, TypeError, "'a' is '0'"),
        ("constant", np.empty(3), {"val": None}, TypeError, "'val' is None"),
        ("normal", np.empty(3), {"mean": [1]}, TypeError, r"'mean' is \[1\]"),
        ("xavier_uniform", np.empty((3, 3)), {"gain": "2"}, TypeError, "'gain' is '2'"),
        ("kaiming_uniform", np.empty((3, 3)), {"a": "2"}, TypeError, "'a' is '2'"),
        ("normal", np.zeros(3, np.int64), {}, TypeError, "tensor has dtype int64"),
        ("normal", [1.0], {}, TypeError, "tensor is a list"),
        ("zeros", None, {}, TypeError, "tensor is None"),
    ],
)
def test_init_errors(name, given, options, error, match):
    before = copy.deepcopy(given)
    with pytest.raises(error, match=match):
        getattr(nn.init, name)(given, **options)
    np.testing.assert_array_equal(given, before)


def test_gain_errors():
    with pytest.raises(ValueError, match="calculate_gain: 'nonlinearity' is 'swish', expected"):
        nn.init.calculate_gain("swish")
    with pytest.raises(TypeError, match="'param' is '1'"):
        nn.init.calculate_gain("leaky_relu", "1")
