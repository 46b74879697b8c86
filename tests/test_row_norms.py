"""Norms over rows at their edges: constant rows, large means, NaN, one value, empty, wrong use."""

from __future__ import annotations

import numpy as np
import pytest
from cases import BFLOAT16, computing
from cases.row_norms import NORMS, Rows
from helpers import each_dtype
from onepass import nn, ops

ROWS = {
    "layer_norm": lambda x, w=None, b=None, **more: ops.layer_norm(x, x.shape[-1], w, b, **more),
    "group_norm": lambda x, w=None, b=None, **more: ops.group_norm(x[:, :, None], 1, w, b, **more),
}
BACKWARD = {name: getattr(ops, f"{name}_backward") for name in ROWS}
each_kind = pytest.mark.parametrize("kind", ROWS)
each_length = pytest.mark.parametrize("length", [70, 1300])  # rows by the tile, and one by one
MAGNITUDES = [1e-30, 1e-10, 1.0, 1e10, 1e30]


def normalised(x, eps=1e-5):
    wide = np.asarray(x, np.float64)
    return Rows(wide, None, None, None, len(x), lambda v: v, eps)


@each_kind
@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize("length", [1, 2, 7, 33, 300, 5000])
def test_a_constant_row_gives_exactly_its_bias(kind, magnitude, length):
    rng = np.random.default_rng(length)
    w, b = (rng.standard_normal(length).astype(np.float32) for _ in range(2))
    x = np.full((3, length), magnitude, np.float32)
    y, _ = ROWS[kind](x, w, b)
    np.testing.assert_array_equal(y.reshape(x.shape), np.broadcast_to(b, x.shape))


@pytest.mark.parametrize("length", [40, 1000, 20000])
def test_a_large_mean_keeps_its_digits(length):
    x = (1e4 + np.random.default_rng(0).standard_normal((5, length))).astype(np.float32)
    y, _ = ops.layer_norm(x, length)
    np.testing.assert_allclose(y, normalised(x).y, rtol=0, atol=1e-6 * np.abs(y).max())


POWERS = [-25, -12, 12, 18, 30, 37]


@pytest.mark.parametrize(
    ("dtype", "power"),
    [(dtype, power) for dtype in ("float32", "float64") for power in POWERS]
    + [("float64", power) for power in (37.9, 150, 300, 307)],
)
@each_length
def test_rows_of_any_magnitude(dtype, power, length):
    rng = np.random.default_rng(1)
    unit, top = rng.standard_normal((4, length)), float(np.finfo(dtype).max)
    x = np.clip(unit * 10.0**power, -top, top).astype(dtype)
    unit = x.astype(np.longdouble) / np.longdouble(10) ** power
    far = unit - unit.mean(axis=1, keepdims=True)
    want = far / np.sqrt((far**2).mean(axis=1, keepdims=True))
    y, saved = ops.layer_norm(x, length, eps=0.0)
    bound = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(y, want.astype(float), rtol=0, atol=5 * bound)
    dx, _, _ = ops.layer_norm_backward(y * np.asarray(0.5, dtype), saved)
    assert np.isfinite(dx).all()
    y, saved = ops.rms_norm(x, length, eps=0.0)
    want = unit / np.sqrt((unit**2).mean(axis=1, keepdims=True))
    np.testing.assert_allclose(y, want.astype(float), rtol=0, atol=5 * bound)
    g = np.ones(4, dtype)
    want = unit / np.sqrt((unit**2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(ops.weight_norm(x, g), want.astype(float), rtol=0, atol=bound)


@each_length
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_of_huge_gradients(dtype, length):
    rng = np.random.default_rng(2)
    x, dy = (rng.standard_normal((4, length)).astype(dtype) for _ in range(2))
    huge = np.asarray(2.0**120 if dtype == "float32" else 2.0**1000, dtype)
    _, saved = ops.layer_norm(x, length)
    want = ops.layer_norm_backward(dy, saved)[0]
    got = ops.layer_norm_backward(dy * huge, saved)[0]
    bound = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(got / huge, want, rtol=0, atol=bound * np.abs(want).max())


@each_length
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_value_spoils_its_row_only(bad, length):
    x = np.random.default_rng(3).standard_normal((6, length)).astype(np.float32)
    clean, _ = ops.layer_norm(x, length)
    x[2, -1] = bad
    y, saved = ops.layer_norm(x, length)
    assert np.isnan(y[2]).any()
    others = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(y[others], clean[others])
    dx = ops.layer_norm_backward(np.ones_like(x), saved)[0]
    assert np.isfinite(dx[others]).all()
    assert np.isnan(dx[2]).all()


@each_length
@pytest.mark.parametrize("power", [-70, 70, 120])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "instance_norm"])
def test_a_row_out_of_range_beside_others(name, dtype, power, length):
    """It is done apart and keeps its dropout bits; no bit of the other rows changes."""
    dtype = np.dtype(dtype) if dtype == "float32" else BFLOAT16
    if dtype is None:
        pytest.skip("ml_dtypes is not installed")
    rng = np.random.default_rng(12)
    x, dy, residual = (rng.standard_normal((1, 21, length)).astype(dtype) for _ in range(3))
    scaled = x.copy()
    scaled[0, 10] *= dtype.type(2.0**power)
    op, backward = getattr(ops, name), getattr(ops, f"{name}_backward")
    arguments = () if name == "instance_norm" else (length,)
    more = {"residual": residual, "activation": "tanh", "dropout_p": 0.3, "seed": 3, "eps": 0.0}
    found = []
    for given, back in ((x, 1.0), (scaled, 2.0**power)):
        y, saved = op(given, *arguments, **more)
        dx, *_, dresidual = backward(dy, saved)
        dx = dx.astype(np.float64)
        dx[0, 10] *= back
        found.append([a.astype(np.float64) for a in (y, dresidual, dx)])
    near = 1e-2 if dtype == BFLOAT16 else 1e-5
    others = np.arange(21) != 10
    for want, got in zip(*found, strict=True):
        np.testing.assert_array_equal(got[:, others], want[:, others])
        np.testing.assert_allclose(got[0, 10], want[0, 10], rtol=near, atol=near)
    y, dresidual, _ = (got for _, got in zip(*found, strict=True))
    np.testing.assert_array_equal(y == 0, dresidual == 0)


@each_kind
@pytest.mark.parametrize("length", [1, 2])
def test_one_and_two_values(kind, length):
    """Nothing of dx is left: of one value the norm is its bias, of two their order."""
    x = np.random.default_rng(4).standard_normal((5, length)).astype(np.float32)
    y, saved = ROWS[kind](x)
    np.testing.assert_allclose(y.reshape(x.shape), normalised(x).y, rtol=0, atol=1e-6)
    dy = np.ones_like(y)
    dx = BACKWARD[kind](dy, saved)[0]
    np.testing.assert_allclose(dx, np.zeros_like(y), atol=1e-5)


@each_dtype
def test_machine_epsilon_is_the_default_of_rms_norm(dtype):
    x = (np.random.default_rng(5).standard_normal((3, 40)) * 1e-4).astype(dtype)
    eps = float(np.finfo(computing(dtype)).eps)
    np.testing.assert_array_equal(ops.rms_norm(x, 40)[0], ops.rms_norm(x, 40, eps=eps)[0])
    torch = pytest.importorskip("torch")
    if dtype == np.float64:
        want = torch.nn.functional.rms_norm(torch.from_numpy(x), (40,)).numpy()
        np.testing.assert_allclose(ops.rms_norm(x, 40)[0], want, rtol=1e-13)


@pytest.mark.parametrize("shape", [(6, 5, 9), (3, 4, 7, 7), (2, 3, 4, 3, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_running_statistics_of_maps(shape, dtype):
    rng = np.random.default_rng(6)
    x = rng.standard_normal(shape).astype(dtype) + np.asarray(3, dtype)
    mean, var = (rng.random(shape[1]).astype(dtype) for _ in range(2))
    maps = x.reshape(*shape[:2], -1).astype(np.float64)
    want_mean = 0.7 * mean + 0.3 * maps.mean(axis=2).mean(axis=0)
    want_var = 0.7 * var + 0.3 * maps.var(axis=2, ddof=1).mean(axis=0)
    ops.instance_norm(x, mean, var, momentum=0.3)
    np.testing.assert_allclose(mean, want_mean, rtol=1e-6)
    np.testing.assert_allclose(var, want_var, rtol=1e-6)
    y, saved = ops.instance_norm(x, mean, var, use_input_stats=False)
    wide = (1, -1) + (1,) * (len(shape) - 2)
    want = (x - mean.reshape(wide)) / np.sqrt(var.reshape(wide) + 1e-5)
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
    dx, dweight, dbias = ops.instance_norm_backward(np.ones_like(x), saved)
    np.testing.assert_allclose(dx, np.broadcast_to(1 / np.sqrt(var + 1e-5).reshape(wide), shape),
                               rtol=1e-5)  # fmt: skip
    assert dweight is None
    assert dbias is None


def test_a_momentum_of_zero_keeps_the_running_statistics():
    x = np.random.default_rng(8).standard_normal((2, 3, 40)) * 1e200
    mean, var = np.full(3, 2.0), np.full(3, 5.0)
    ops.instance_norm(x, mean, var, momentum=0.0)
    np.testing.assert_array_equal(mean, 2)
    np.testing.assert_array_equal(var, 5)


def test_a_slice_of_zeros_has_no_direction():
    v = np.float32([[0, 0], [3, 4]])
    w = ops.weight_norm(v, np.float32([1, 10]))
    assert np.isnan(w[0]).all()
    np.testing.assert_allclose(w[1], [6, 8], rtol=1e-6)


def test_machine_epsilon_of_arrays_of_other_libraries():
    from helpers import Exported

    x = np.random.default_rng(9).standard_normal((3, 40)) * 1e-7
    want = ops.rms_norm(x, 40)[0]
    np.testing.assert_array_equal(ops.rms_norm(Exported(x), 40)[0], want)


@pytest.mark.parametrize("name", ["layer_norm", "group_norm"])
def test_gradients_of_rows_whose_sums_are_taken_again(name):
    """x and dy at the ends of the range give the gradients of the same, scaled by powers of two."""
    rng = np.random.default_rng(10)
    x, dy = (rng.standard_normal((6, 4, 80)).astype(np.float32) for _ in range(2))
    w = rng.uniform(0.5, 1.5, 80 if name == "layer_norm" else 4).astype(np.float32)
    shape = (80,) if name == "layer_norm" else 2
    op, backward = getattr(ops, name), getattr(ops, f"{name}_backward")
    want = backward(dy, op(x, shape, w, w, eps=0.0)[1])
    far, huge = np.float32(2.0**110), np.float32(2.0**115)
    got = backward(dy * huge, op(x * far, shape, w, w, eps=0.0)[1])
    scales = (float(huge) / float(far), float(huge), float(huge))
    for one, other, scale in zip(got, want, scales, strict=True):
        np.testing.assert_allclose(one / np.float32(scale), other, rtol=0,
                                   atol=2e-6 * np.abs(other).max())  # fmt: skip


@pytest.mark.parametrize("record", NORMS, ids=lambda record: record.name)
@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 4, 0)])
def test_empty_arrays(record, shape):
    op = getattr(ops, record.name)
    x = np.zeros(shape, np.float32)
    _, of_weight, _ = record.rows(x)
    w = np.ones(of_weight, np.float32)
    y, saved = record.call(op, x, w, w if record.reference.centres else None)
    assert y.shape == shape
    dx, dweight, *_ = getattr(ops, f"{record.name}_backward")(y, saved)
    assert dx.shape == shape
    np.testing.assert_array_equal(dweight, np.zeros_like(w))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: ops.layer_norm(x, 3), "'normalized_shape' is (3,).*last extents.*(2, 4)"),
        (lambda x: ops.layer_norm(x, (2, 4, 4)), "'normalized_shape'"),
        (lambda x: ops.layer_norm(x, ()), "'normalized_shape' is ()"),
        (lambda x: ops.layer_norm(x, 4, np.ones(3, "f4")), "'weight' has shape (3,).*(4,)"),
        (lambda x: ops.layer_norm(x, 4, out=x), "'out' overlaps 'x' in memory"),
        (lambda x: ops.layer_norm(x, 4, eps=-1.0), "'eps' is -1"),
        (lambda x: ops.group_norm(x, 3), "'num_groups' is 3, expected a divisor of the 4"),
        (lambda x: ops.group_norm(x, 0), "'num_groups' is 0"),
        (lambda x: ops.instance_norm(x), "'x' has shape (2, 4), expected three axes"),
        (lambda x: ops.instance_norm(x[:, :, None]), "one value per channel"),
        (
            lambda x: ops.instance_norm(x[None], np.zeros(2, "f4")),
            "'running_mean' and 'running_var' belong together",
        ),
        (lambda x: ops.weight_norm(x, np.ones(3, "f4")), "'g' has shape (3,).*(2,)"),
        (
            lambda x: ops.weight_norm(x, np.ones((1, 2), "f4")),
            "'g' has shape (1, 2), expected (2,)",
        ),
        (
            lambda x: ops.weight_norm_backward(x[:1], x, np.ones(2, "f4")),
            "'dw' has shape (1, 4), expected (2, 4) like 'v'",
        ),
        (
            lambda x: ops.instance_norm(x[None], use_input_stats=False),
            "'running_mean' and 'running_var' are needed with use_input_stats=False",
        ),
        (lambda x: ops.weight_norm(x, np.ones(2, "f4"), dim=-1), "'dim' is -1.*whole array"),
        (
            lambda x: ops.layer_norm_backward(x, ops.rms_norm(x, 4)[1]),
            "'saved' is of rms_norm, expected the second result of layer_norm",
        ),
    ],
)
def test_wrong_use_is_told(call, words):
    import re

    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    before = x.copy()
    pattern = ".*".join(map(re.escape, words.split(".*")))
    with pytest.raises((ValueError, TypeError), match=pattern):
        call(x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize(
    ("name", "shape"),
    [("LayerNorm", (5, 12)), ("RMSNorm", (5, 12)), ("GroupNorm", (3, 6, 5)),
     ("InstanceNorm1d", (3, 6, 5)), ("InstanceNorm2d", (3, 6, 5, 4))],
)  # fmt: skip
def test_modules_equal_torch(name, shape, fuse):
    torch = pytest.importorskip("torch")
    arguments = {"LayerNorm": (12,), "RMSNorm": (12,), "GroupNorm": (3, 6)}.get(name, (6,))
    more = {"affine": True, "track_running_stats": True} if "Instance" in name else {}
    ours = nn.Sequential(getattr(nn, name)(*arguments, **more), nn.Tanh(), fuse=fuse)
    theirs = torch.nn.Sequential(getattr(torch.nn, name)(*arguments, **more), torch.nn.Tanh())
    rng = np.random.default_rng(7)
    for parameter in ours.parameters():
        parameter.data[...] = rng.standard_normal(parameter.shape)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    x, dy = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    leaf = torch.from_numpy(x).requires_grad_()
    for training in (True, False):
        ours.train(training)
        theirs.train(training)
        y = ours(x)
        want = theirs(leaf)
        np.testing.assert_allclose(y, want.detach().numpy(), rtol=1e-4, atol=1e-5)
        ours.zero_grad()
        theirs.zero_grad()
        dx = ours.backward(dy)
        leaf.grad = None
        want.backward(torch.from_numpy(dy))
        np.testing.assert_allclose(dx, leaf.grad.numpy(), rtol=1e-3, atol=1e-5)
        for ours_p, theirs_p in zip(ours.parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(ours_p.grad, theirs_p.grad.numpy(), rtol=1e-3, atol=1e-5)
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key], value.numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LayerNorm(6, bias=False),
        lambda: nn.LayerNorm(6, elementwise_affine=False),
        lambda: nn.RMSNorm(6),
        lambda: nn.RMSNorm(6, elementwise_affine=False),
    ],
)
def test_fused_residuals_equal_separate_ones(make):
    """A residual, an activation and a norm in one kernel, bit for bit."""
    x, dy = np.random.default_rng(11).standard_normal((2, 7, 6)).astype(np.float32)
    found = []
    for fuse in (True, False):
        nn.manual_seed(0)
        model = nn.Sequential(
            nn.Residual(nn.Linear(6, 6), make(), fuse=fuse), nn.ReLU(), nn.Dropout(0.3), fuse=fuse
        )
        y = model(x)
        dx = model.backward(dy)
        found.append([y, dx, *(p.grad for p in model.parameters())])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weight_norm_trains_lengths_and_directions():
    nn.manual_seed(0)
    layer = nn.WeightNorm(nn.Linear(4, 3))
    assert [name for name, _ in layer.named_parameters()] == [
        "weight_g", "weight_v", "module.bias",
    ]  # fmt: skip
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    plain = nn.Linear(4, 3)
    plain.load_state_dict({"weight": layer.module.weight.data, "bias": layer.module.bias.data})
    np.testing.assert_allclose(layer(x), plain(x), rtol=1e-5, atol=1e-6)
    layer.weight_g.data *= 2
    doubled = layer(x) - layer.module.bias.data
    np.testing.assert_allclose(doubled, 2 * (plain(x) - plain.bias.data), rtol=1e-4, atol=1e-5)
    layer.backward(np.ones((5, 3), np.float32))
    first = layer.weight_v.grad.copy()
    layer.backward(np.ones((5, 3), np.float32))
    np.testing.assert_allclose(layer.weight_v.grad, 2 * first, rtol=1e-6)
    layer.freeze()
    layer.zero_grad()
    layer(x)
    layer.backward(np.ones((5, 3), np.float32))
    assert all(p.grad is None for p in layer.parameters())


def test_weight_norm_goes_backward_from_several_threads():
    from concurrent.futures import ThreadPoolExecutor

    layer = nn.WeightNorm(nn.Linear(30, 40)).eval()
    x, dy = np.ones((8, 30), np.float32), np.ones((8, 40), np.float32)

    def work(_):
        for _ in range(50):
            layer(x)
            layer.backward(dy)

    layer(x)
    layer.backward(dy)
    once = layer.weight_g.grad.copy()
    layer.zero_grad()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    np.testing.assert_allclose(layer.weight_g.grad, 200 * once, rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_weight_norm_of_weights_of_any_size(scale):
    layer = nn.Linear(3, 4, dtype="float64")
    layer.weight.data[...] = scale * np.arange(1, 13).reshape(4, 3)
    want = layer.weight.data.copy()
    normed = nn.WeightNorm(layer)
    assert np.isfinite(normed(np.ones((2, 3)) / 16)).all()
    np.testing.assert_allclose(layer.weight.data, want, rtol=1e-14)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.WeightNorm(3), "module is a int"),
        (lambda: nn.WeightNorm(nn.ReLU()), r"parameters of ReLU: \[\]"),
        (lambda: nn.WeightNorm(nn.Linear(2, 2), dim=2), "dim is 2, expected an axis"),
        (lambda: nn.WeightNorm(nn.WeightNorm(nn.Linear(2, 2)).module), "expected one of the para"),
        (lambda: nn.LayerNorm(0), "normalized_shape"),
        (lambda: nn.LayerNorm("no"), "normalized_shape"),
        (lambda: nn.GroupNorm(4, 6), "num_groups is 4, expected a divisor"),
        (lambda: nn.InstanceNorm1d(3)(np.zeros((2, 3), "f4")), r"expected \(N, 3, L\)"),
    ],
)
def test_modules_refuse_what_they_cannot_use(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()


@pytest.mark.parametrize("length", [9, 600])
@pytest.mark.parametrize("exponent", [-100, 100])
def test_weight_norm_backward_of_rows_whose_squares_leave_float32(length, exponent):
    """dg depends on the direction of v alone, and dv falls as v grows; 9: rows of a tile."""
    rng = np.random.default_rng(length)
    v, dw = rng.standard_normal((2, 5, length)).astype(np.float32)
    g = np.arange(1, 6, dtype=np.float32)
    by = np.float32([1, 2.0**exponent, 1, 1, 2.0**exponent])[:, None]
    dv, dg = ops.weight_norm_backward(dw, v * by, g)
    want_dv, want_dg = ops.weight_norm_backward(dw, v, g)
    np.testing.assert_allclose(dg, want_dg, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dv * by, want_dv, rtol=1e-5, atol=1e-6)
