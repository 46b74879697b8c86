"""softmax, maxout and glu where a random input does not lead: infinities, ties, every gate."""

import math

import numpy as np
import pytest
from cases import as_float64
from helpers import assert_same, each_dtype
from onepass import nn, ops
from onepass.ops._declare import ACTIVATIONS

INF, NAN = math.inf, math.nan


def _rows(dtype, *rows):
    return np.array(rows, np.float64).astype(dtype)


@each_dtype
@pytest.mark.parametrize("classes", [3, 70, 1500])
@pytest.mark.parametrize("axis", [0, 1])
def test_softmax_of_infinities(dtype, classes, axis):
    """A row of nothing but -Inf is NaN, as in PyTorch; what is beside it is not disturbed."""
    rest = [-INF] * (classes - 3)
    x = _rows(dtype, [-INF, 0, 0, *rest], [-INF] * classes, [INF, 0, 0, *rest], [NAN, 0, 0, *rest],
              [5, -INF, -INF, *rest], [3e4, 3e4, -INF, *rest])  # fmt: skip
    want = np.full((6, classes), NAN)
    want[[0, 4, 5]] = 0
    want[0, 1:3] = want[5, :2] = 0.5
    want[4, 0] = 1
    x, want = (np.moveaxis(a, 1, axis) for a in (x, want))
    np.testing.assert_array_equal(as_float64(ops.softmax(x, axis)), want)
    with np.errstate(divide="ignore"):
        logs = np.log(want).astype(np.float32).astype(dtype)
    got = as_float64(ops.log_softmax(x, axis))
    np.testing.assert_allclose(got, as_float64(logs), rtol=3e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_of_the_largest_numbers(dtype):
    top = np.finfo(dtype).max
    x = np.array([[top, -top, top / 2], [-top, -top, -top]], dtype)
    np.testing.assert_array_equal(ops.softmax(x)[0], [1, 0, 0])
    np.testing.assert_allclose(ops.softmax(x)[1], [1 / 3] * 3, rtol=1e-6)
    np.testing.assert_allclose(ops.log_softmax(x)[1], [-math.log(3)] * 3, rtol=1e-6)
    assert ops.log_softmax(x)[0, 0] == 0
    assert not np.isnan(ops.log_softmax(x)).any()


def test_log_softmax_backward_of_minus_infinity():
    y = ops.log_softmax(np.float32([0, -INF, 0]))
    dx = ops.log_softmax_backward(np.float32([1, 2, 4]), y)
    np.testing.assert_allclose(dx, [1 - 3.5, 2, 4 - 3.5], rtol=1e-6)


@each_dtype
@pytest.mark.parametrize("inner", [1, 5])
@pytest.mark.parametrize("pieces", [4, 60, 1100])
def test_the_first_of_tied_maxima_gets_the_gradient(dtype, inner, pieces):
    x = np.zeros((2, pieces, inner), dtype)
    x[0, 1] = x[0, 3] = 2
    x[1, 2] = x[1, 3] = NAN
    dy = np.full((2, 1, inner), 3, dtype)
    want = np.zeros_like(x)
    want[0, 1] = want[1, 2] = 3
    y = as_float64(ops.maxout(x, pieces))
    assert (y[0] == 2).all()
    assert np.isnan(y[1]).all()
    assert_same(ops.maxout_backward(dy, x, pieces), want)
    zeros = np.array([[-0.0, 0.0]], dtype)  # equal: the first
    assert_same(ops.maxout_backward(dy[:1, :, 0], zeros, 2), np.array([[3, 0]], dtype))


@each_dtype
def test_maxout_of_pairs_with_nan_and_ties(dtype):
    """Also longer than a block, and in place."""
    rng = np.random.default_rng(3)
    x = rng.integers(-2, 3, (1, 2 * 1237)).astype(dtype)
    x[rng.random(x.shape) < 0.2] = NAN
    dy = rng.standard_normal((1, 1237)).astype(dtype)
    a, b = as_float64(x[:, ::2]), as_float64(x[:, 1::2])
    second = ~np.isnan(a) & (np.isnan(b) | (b > a))
    assert_same(as_float64(ops.maxout(x, 2)), np.where(second, b, a))
    want = np.zeros_like(x)
    want[:, ::2], want[:, 1::2] = np.where(second, 0, dy), np.where(second, dy, 0)
    assert_same(ops.maxout_backward(dy, x, 2, out=x), want)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_gates(name):
    """The bits of the parts: a·f(b), dy·f(b) and f'(b) of dy·a; also strided and in place."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((5, 2 * 1300)) * 3).astype(np.float32)
    dy = rng.standard_normal((5, 1300)).astype(np.float32)
    a, b = x[:, :1300], x[:, 1300:]
    f, df = getattr(ops, name), getattr(ops, f"{name}_backward")
    want = np.concatenate([dy * f(b), df(dy * a, b)], 1)
    assert_same(ops.glu(x, activation=name), a * f(b))
    assert_same(ops.glu_backward(dy, x, activation=name), want)
    across = np.asfortranarray(x.T)
    assert_same(ops.glu(across, axis=0, activation=name), (a * f(b)).T.copy())
    assert ops.glu_backward(dy, x, activation=name, out=x) is x
    assert_same(x, want)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: ops.glu(x), r"glu: 'x' has shape \(4, 3\), expected an even extent along axis"),
        (lambda x: ops.glu(x, axis=2), r"glu: 'axis' is 2, but 'x' has shape \(4, 3\)"),
        (lambda x: ops.glu(x, axis=0, activation="silo"), "glu: 'activation' is 'silo', expected"),
        (lambda x: ops.glu(x, axis=0, out=x), r"glu: 'out' has shape \(4, 3\), expected \(2, 3\)"),
        (lambda x: ops.maxout(x, 2), "maxout: 'pieces' is 2, expected a divisor of 3, the extent"),
        (lambda x: ops.maxout(x, 0), "maxout: 'pieces' is 0, expected a divisor of 3"),
        (lambda x: ops.softmax(x, 2), r"softmax: 'axis' is 2, but 'x' has shape \(4, 3\)"),
        (lambda x: ops.softmax(x[0, 0, ...], 0), r"softmax: 'axis' is 0, but 'x' has shape \(\)"),
        (lambda x: nn.Maxout(0), "Maxout: 'pieces' is 0, expected a whole number >= 1"),
        (lambda x: nn.GLU(activation="silo"), "GLU: 'activation' is 'silo', expected one of"),
        (lambda x: ops.celu(x, alpha=0), "celu: 'alpha' is 0.0, expected a number > 0"),
        (lambda x: nn.CELU(-1.0), "CELU: 'alpha' is -1.0, expected a number > 0"),
        (lambda x: ops.softplus(x, beta=0), "softplus: 'beta' is 0.0, expected a number other"),
        (lambda x: ops.hardtanh(x, min_val=2),
         "hardtanh: 'min_val' is 2.0, 'max_val' is 1.0, expected 'min_val' <= 'max_val'"),
        (lambda x: ops.bias_act(x, x[0], activation=("celu", {"alpha": 0})),
         "bias_act: activation 'celu': 'alpha' is 0.0, expected a number > 0"),
    ],
)  # fmt: skip
def test_wrong_calls_name_what_was_expected(call, words):
    x = np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match=words):
        call(x)
    assert (x == 1).all()


@pytest.mark.parametrize(
    "layer",
    [nn.Softmax(1), nn.LogSoftmax(dim=-1), nn.GLU(), nn.GLU(0, activation=("elu", {"alpha": 0.5})),
     nn.Maxout(3), nn.Maxout(2, dim=0)],
    ids=repr,
)  # fmt: skip
def test_layers_pass_gradcheck(layer):
    x = np.random.default_rng(1).standard_normal((4, 6))
    nn.gradcheck(layer, x)
    y = layer(x)
    assert layer.backward(y).shape == x.shape
    assert layer.backward(y, need_input_grad=False) is None


def test_layers_take_their_dimension_as_pytorch_does():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(2).standard_normal((2, 6, 4)).astype(np.float32)
    for name, arguments in [("Softmax", (1,)), ("LogSoftmax", (-1,)), ("GLU", ()), ("GLU", (1,))]:
        want = getattr(torch.nn, name)(*arguments)(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(getattr(nn, name)(*arguments)(x), want, rtol=2e-6, atol=1e-7)


@each_dtype
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_gradients_from_the_output(name, dtype):
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((33, 35)) * 2).astype(dtype)
    dy = rng.standard_normal(x.shape).astype(dtype)
    y, backward = getattr(ops, name)(x), getattr(ops, f"{name}_backward")
    wide, g = as_float64(y), as_float64(dy)
    want = g * (wide * (1 - wide) if name == "sigmoid" else (1 - wide) * (1 + wide))
    eps = {"float64": 2**-52, "float32": 2**-23, "float16": 2**-10, "bfloat16": 2**-7}[dtype.name]
    got = backward(dy, y=y)
    assert got.dtype == dtype
    np.testing.assert_allclose(as_float64(got), want, rtol=2.5 * eps, atol=1e-7 * (eps > 1e-4))
    strided = backward(dy.T, y=np.asfortranarray(y).T)
    assert_same(np.ascontiguousarray(strided.T), got)
    assert backward(dy, y=y, out=y) is y
    assert_same(y, got)
    limits = np.array([0 if name == "sigmoid" else -1, 1, NAN]).astype(dtype)
    np.testing.assert_array_equal(as_float64(backward(dy[0, :3], y=limits)), [0, 0, NAN])
    with pytest.raises(TypeError, match=f"{name}_backward: both of 'x' and 'y' are given"):
        backward(dy, x, y=x)
    with pytest.raises(TypeError, match=f"{name}_backward: neither of 'x' and 'y'"):
        backward(dy)
