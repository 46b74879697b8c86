"""Batch renorm: its limits, what it leaves of batch norm, the ends of the range, and its module."""

import itertools
import math

import numpy as np
import pytest
from cases import computing
from cases.norms import BatchRenorm
from helpers import assert_all_same, assert_same, each_dtype
from norm_range import EPILOGUES, TOP, arrays, compare, wide
from onepass import nn, ops

# Columns, blocks, planes, small planes, channels last.
SHAPES = [((33, 5), False), ((9000, 3), False), ((4, 3, 23, 29), False), ((5, 3, 7, 7), False),
          ((5, 7, 7, 3), True)]  # fmt: skip


def running(channels, dtype, seed=1):
    return np.random.default_rng(seed).uniform(0.5, 1.5, (2, channels)).astype(computing(dtype))


def numbers(shape, last, dtype):
    """x, dy, residual, weight, bias, running mean and variance."""
    rng = np.random.default_rng(2)
    channels = shape[-1 if last else 1]
    x, dy, residual = rng.standard_normal((3, *shape)).astype(dtype)
    w, b = rng.uniform(0.5, 1.5, (2, channels)).astype(computing(dtype))
    return x * np.asarray(2, dtype), dy, residual, w, b, *running(channels, dtype)


# ------------------------------------------------------------------------------------- the limits


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_r_and_d_inside_at_and_outside_their_limits(dtype):
    """Of a running mean 1 and variance 4: r = σ/2 and d = (mean - 1)/2."""
    deviations = [0.25, 0.5, 1, 1.5, 2, 3, 4, 4.5, 1e6, 1e-6]
    means = [1, 1.5, 2, 5, 9, 13, -11, -13, 1e6, -1e6]
    pairs = list(itertools.product(deviations, means))
    std, mean = np.array(pairs, dtype).T
    x = np.stack([mean - std, mean + std] * 3)
    std = np.sqrt(x.var(axis=0, dtype=np.float64) + 1e-30)  # of the sums as they were rounded
    mean = x.mean(axis=0, dtype=np.float64)
    for rmax, dmax in [(2.0, 4.0), (1.0, 0.0), (1.5, 6.0), (4.0, 1.0), (math.inf, math.inf)]:
        run_mean, run_var = np.ones(len(std), dtype), np.full(len(std), 4, dtype)
        _, saved = ops.batch_renorm(
            x, None, None, run_mean, run_var, training=True, rmax=rmax, dmax=dmax, eps=1e-30
        )
        r, d = saved.statistics[3:]
        eps = np.finfo(dtype).eps
        want_r = np.clip(std / 2, 1 / rmax, rmax)
        want_d = np.clip((mean - 1) / 2, -dmax, dmax)
        np.testing.assert_allclose(r, want_r, rtol=3 * eps)
        np.testing.assert_allclose(d, want_d, rtol=3 * eps, atol=eps)
        outside = (std / 2 > rmax) | (std / 2 < 1 / rmax)
        assert (r[outside] == want_r[outside].astype(dtype)).all()
        outside = np.abs(mean - 1) / 2 > dmax
        assert (d[outside] == want_d[outside].astype(dtype)).all()


@each_dtype
@pytest.mark.parametrize(("shape", "last"), SHAPES)
def test_limits_of_1_and_0_leave_batch_norm(dtype, shape, last):
    x, dy, residual, w, b, mean, var = numbers(shape, last, dtype)
    for training, epilogue in itertools.product((True, False), EPILOGUES.values()):
        tail = {**epilogue, "channels_last": last, "training": training, "momentum": 0.3}
        if epilogue.get("residual"):
            tail["residual"] = residual
        own, its = (mean.copy(), var.copy()), (mean.copy(), var.copy())
        y, saved = ops.batch_renorm(x, w, b, *own, rmax=1, dmax=0, **tail)
        plain, saved_plain = ops.batch_norm(x, w, b, *its, **tail)
        assert_same(y, plain, f"{tail}")
        assert_all_same(own, its, f"{tail}")
        assert_same(saved.statistics[:3], saved_plain.statistics)
        grads = ops.batch_renorm_backward(dy, saved)
        assert_all_same(grads, ops.batch_norm_backward(dy, saved_plain), f"{tail}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "last"), SHAPES)
def test_without_limits_training_gives_what_evaluation_does(dtype, shape, last):
    x, _, _, w, b, mean, var = numbers(shape, last, dtype)
    want, _ = ops.batch_norm(x, w, b, mean, var, training=False, channels_last=last)
    y, _ = ops.batch_renorm(
        x, w, b, mean, var, training=True, rmax=math.inf, dmax=math.inf, channels_last=last
    )
    np.testing.assert_allclose(y, want, rtol=0, atol=32 * np.finfo(dtype).eps)


@pytest.mark.parametrize("limits", [(3.0, 5.0), (1.01, 0.1)])
@pytest.mark.parametrize(("shape", "last"), SHAPES)
def test_r_and_d_are_constants_backward(shape, last, limits):
    """Gradients of batch norm by the weight w·r and the bias b + w·d."""
    x, dy, residual, w, b, mean, var = numbers(shape, last, np.dtype("float64"))
    rmax, dmax = limits
    for epilogue in EPILOGUES.values():
        tail = {**epilogue, "channels_last": last, "training": True}
        if epilogue.get("residual"):
            tail["residual"] = residual
        y, saved = ops.batch_renorm(x, w, b, mean.copy(), var.copy(), rmax=rmax, dmax=dmax, **tail)
        r, d = saved.statistics[3:]
        assert not np.allclose(r, 1)
        want, saved_plain = ops.batch_norm(x, w * r, b + w * d, None, None, **tail)
        np.testing.assert_allclose(y, want, rtol=0, atol=1e-13)
        dx, dweight, dbias, *dresidual = ops.batch_renorm_backward(dy, saved)
        plain = ops.batch_norm_backward(dy, saved_plain)
        np.testing.assert_allclose(dx, plain[0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(dweight, r * plain[1] + d * plain[2], rtol=0, atol=1e-10)
        np.testing.assert_allclose(dbias, plain[2], rtol=0, atol=1e-10)
        for got, exact in zip(dresidual, plain[3:], strict=True):
            np.testing.assert_allclose(got, exact, rtol=0, atol=1e-13)


# --------------------------------------------------------------------------------------- the edges


@each_dtype
def test_a_constant_channel_gives_d_exactly(dtype):
    top = {"float16": 3}.get(dtype.name, 30)
    for exponent in (-top, -3, 0, 3, top):
        x = np.full((33, 3), [1.5, -2.0, 7.0]).astype(dtype) * np.asarray(10.0**exponent, dtype)
        w, b, mean, var = (
            np.random.default_rng(3).uniform(0.5, 1.5, (4, 3)).astype(computing(dtype))
        )
        y, saved = ops.batch_renorm(x, w, b, mean, var, training=True)
        d = saved.statistics[4].astype(np.float64)
        want = (b + w * d).astype(computing(dtype)).astype(dtype)
        assert_same(y, np.broadcast_to(want, x.shape).copy(), f"1e{exponent}")
        dx = ops.batch_renorm_backward(np.ones_like(x), saved)[0]
        assert np.isfinite(dx.astype(np.float64)).all()


@wide
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "last"), SHAPES)
def test_the_ends_of_the_range(dtype, shape, last):
    small = [1e-30] if dtype == "float32" else [1e-30, 1e-160]
    for magnitude, gradient in itertools.product([*small, *TOP[dtype]], (1.0, TOP[dtype][1])):
        # Without limits y is of the size of x, and dweight of their product.
        none = [{"rmax": math.inf, "dmax": math.inf}] * (
            gradient == 1 and magnitude < TOP[dtype][-1]
        )
        for limits in ({"rmax": 3.0, "dmax": 5.0}, *none):
            x, dy, w, b, residual = arrays(shape, last, dtype, magnitude, gradient)
            for name in ("plain", "residual, relu"):
                tail = {**EPILOGUES[name], **limits, "training": True, "channels_last": last}
                exact = dict(tail)
                if tail.get("residual"):
                    tail["residual"], exact["residual"] = residual, residual.astype(np.longdouble)
                mean, var = np.zeros(len(w), dtype), np.ones(len(w), dtype)
                wide_ = [a.astype(np.longdouble) for a in (x, w, b, mean, var)]
                want = BatchRenorm(*wide_, momentum=0.5, **exact)
                y, saved = ops.batch_renorm(x, w, b, mean, var, momentum=0.5, **tail)
                got = [y, mean, var, *ops.batch_renorm_backward(dy, saved)]
                dx, dweight, dbias, dresidual = want.backward(dy.astype(np.longdouble))
                all_ = [want.y, want.running_mean, want.running_var, dx, dweight, dbias]
                all_ += [] if dresidual is None else [dresidual]
                compare(got, all_, dtype, last, f"{magnitude} {gradient} {limits} {name}")


@each_dtype
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_bad_value_spoils_only_its_channel(dtype, bad):
    x, dy, _, w, b, mean, var = numbers((9, 5), False, dtype)

    def everything(x, mean):
        moved, var_ = mean.copy(), var.copy()
        y, saved = ops.batch_renorm(x, w, b, moved, var_, training=True)
        return [y, moved, var_, *ops.batch_renorm_backward(dy, saved)]

    want, keep = everything(x, mean), [0, 1, 3, 4]
    spoiled, lost = x.copy(), mean.copy()
    spoiled[4, 2] = lost[2] = bad
    for got in (everything(spoiled, mean), everything(x, lost)):
        for g, e in zip(got, want, strict=True):
            assert_same(g[..., keep], e[..., keep])
    assert np.isnan(everything(spoiled, mean)[0][:, 2].astype(np.float64)).any()
    if math.isnan(bad):  # an infinite distance is limited
        assert np.isnan(everything(x, lost)[0][:, 2].astype(np.float64)).all()


def test_one_value_a_channel_is_refused_and_an_empty_batch_changes_nothing():
    mean, var = running(3, "float32")
    before = mean.copy(), var.copy()
    one = np.ones((1, 3), np.float32)
    with pytest.raises(ValueError, match=r"batch_renorm: 'x' has shape \(1, 3\): one value"):
        ops.batch_renorm(one, None, None, mean, var, training=True)
    for wrong, words in [
        ({"rmax": 0.99}, "'rmax' is 0.99, expected a number >= 1"),
        ({"dmax": -0.5}, "'dmax' is -0.5, expected a number >= 0"),
        ({"rmax": math.nan}, "'rmax' is nan"),
        ({"momentum": 2.0}, "'momentum'"),
    ]:
        with pytest.raises(ValueError, match=words):
            ops.batch_renorm(np.ones((4, 3), np.float32), None, None, mean, var, training=True,
                             **wrong)  # fmt: skip
    with pytest.raises(TypeError, match="'running_mean' is None"):
        ops.batch_renorm(np.ones((4, 3), np.float32), None, None, None, None, training=True)
    empty = np.ones((0, 3), np.float32)
    y, saved = ops.batch_renorm(empty, None, None, mean, var, training=True)
    assert y.shape == (0, 3)
    assert saved.statistics[3:].tolist() == [[1.0] * 3, [0.0] * 3]
    assert_all_same((mean, var), before)


def test_saved_of_the_other_norm_is_refused():
    x, dy, _, w, b, mean, var = numbers((9, 5), False, np.dtype("float32"))
    plain = ops.batch_norm(x, w, b, mean, var, training=True)[1]
    renorm = ops.batch_renorm(x, w, b, mean, var, training=True)[1]
    with pytest.raises(TypeError, match="'saved' is SavedBatchNorm, expected the second result of"):
        ops.batch_renorm_backward(dy, plain)
    with pytest.raises(TypeError, match="'saved' is SavedBatchRenorm, expected"):
        ops.batch_norm_backward(dy, renorm)


# -------------------------------------------------------------------------------------- the module


def test_the_module_is_the_function():
    rng = np.random.default_rng(4)
    for shape in [(6, 3), (4, 3, 5), (2, 3, 4, 4), (2, 3, 2, 2, 2)]:
        layer = nn.BatchRenorm(3, rmax=1.2, dmax=0.3, dtype="float64")
        mean, var = np.zeros(3), np.ones(3)
        for _ in range(2):  # of two batches
            x, dy = rng.standard_normal((2, *shape)) * 2 + 1
            w, b = layer.weight.data, layer.bias.data
            y, saved = ops.batch_renorm(x, w, b, mean, var, training=True, rmax=1.2, dmax=0.3)
            assert_same(layer(x), y)
            layer.zero_grad()
            dx, dweight, dbias = ops.batch_renorm_backward(dy, saved)
            assert_all_same(
                [layer.backward(dy), layer.weight.grad, layer.bias.grad], [dx, dweight, dbias]
            )
        assert_all_same((layer.running_mean, layer.running_var), (mean, var))
        assert int(layer.num_batches_tracked) == 2


def test_limits_may_change_between_calls_and_are_checked():
    x = np.random.default_rng(5).standard_normal((8, 3)).astype(np.float32) * 3 + 2
    layer, plain = nn.BatchRenorm(3, rmax=1, dmax=0), nn.BatchNorm1d(3)
    assert_same(layer(x), plain(x))
    layer.rmax, layer.dmax = 3, 5.0
    assert not np.array_equal(layer(x), plain(x))
    layer.rmax = 0.5
    before = layer.state_dict()
    with pytest.raises(ValueError, match=r"'rmax' is 0\.5, expected a number >= 1"):
        layer(x)
    assert all(np.array_equal(before[k], v) for k, v in layer.state_dict().items())
    for wrong in ({"rmax": 0.9}, {"dmax": -1}, {"rmax": math.nan}):
        with pytest.raises(ValueError, match=f"BatchRenorm: '?{next(iter(wrong))}"):
            nn.BatchRenorm(3, **wrong)
    with pytest.raises(ValueError, match="BatchRenorm: x has shape"):
        nn.BatchRenorm(3)(np.zeros((4, 5), np.float32))


@pytest.mark.parametrize("fuse", [True, False])
def test_fusion_freezing_and_evaluation(fuse):
    x, dy = np.random.default_rng(6).standard_normal((2, 9, 5)) * 2
    nn.manual_seed(0)
    model = nn.Sequential(
        nn.BatchRenorm(5, rmax=1.5, dmax=0.5, dtype="float64"), nn.ReLU(), nn.Dropout(0.3),
        fuse=fuse,
    )  # fmt: skip
    if fuse:
        assert "BatchRenorm" in repr(model)
    y = model(x)
    want, saved = ops.batch_renorm(
        x, np.ones(5), np.zeros(5), np.zeros(5), np.ones(5), training=True, rmax=1.5, dmax=0.5,
        activation="relu",
    )  # fmt: skip
    kept = y != 0
    np.testing.assert_allclose(y[kept], want[kept] / 0.7, rtol=1e-9)
    dx = model.backward(dy)
    gradient = ops.batch_renorm_backward(np.where(kept | (want == 0), dy / 0.7, 0), saved)[0]
    np.testing.assert_allclose(dx, gradient, rtol=0, atol=1e-8)
    norm = model[0]
    statistics = norm.running_mean.copy(), norm.running_var.copy()
    model.freeze()
    model(x)
    assert_all_same((norm.running_mean, norm.running_var), statistics)
    model.eval()
    evaluated = ops.batch_norm(
        x, np.ones(5), np.zeros(5), *statistics, training=False, activation="relu"
    )[0]
    assert_same(model(x), evaluated)


def test_cumulative_average_and_state_of_batch_norm():
    rng = np.random.default_rng(7)
    layer, plain = (kind(3, momentum=None) for kind in (nn.BatchRenorm, nn.BatchNorm1d))
    for _ in range(3):
        x = rng.standard_normal((8, 3)).astype(np.float32)
        layer(x), plain(x)
    state = plain.state_dict()
    assert layer.state_dict().keys() == state.keys()
    for key, value in layer.state_dict().items():
        assert_same(np.asarray(value), np.asarray(state[key]), key)
    layer.load_state_dict(state)
    assert (
        repr(layer) == "BatchRenorm(3, eps=1e-05, momentum=None, affine=True, rmax=3.0, dmax=5.0)"
    )
    assert nn.BatchRenorm(3, affine=False).weight is None


def test_gradcheck_of_a_model_with_it():
    """r and d, constants backward, are not moved."""
    nn.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchRenorm(3), nn.Tanh())
    nn.gradcheck(model, np.random.default_rng(8).standard_normal((6, 4)))
