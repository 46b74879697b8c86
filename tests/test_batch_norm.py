"""Batch norm at the edges: constant channels, large means, bad values, empty and tiny batches."""

import math

import numpy as np
import pytest
from cases import SIGNIFICAND, Tolerance, as_float64, computing
from cases.norms import BatchNorm
from helpers import assert_all_same, assert_close, assert_same, each_dtype
from onepass import config, ops


def _norm(x, *, w=None, b=None, mean=None, var=None, **options):
    return ops.batch_norm(x, w, b, mean, var, training=True, **options)


@each_dtype
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_constant_channel_gives_beta_exactly(dtype, channels_last):
    top = {"float16": 3}.get(dtype.name, 30)
    rng = np.random.default_rng(3)
    for shape in [(64, 3), (33, 5), (7, 3, 7, 7), (2, 2, 149, 151), (1031, 3)]:
        for exponent in sorted({-top, -top // 2, -3, 0, 1, 3, min(6, top), top // 2, top}):
            size = shape[1]
            value = (rng.uniform(-9, 9, size) * 10.0**exponent).astype(dtype)
            b, w = rng.standard_normal((2, size)).astype(computing(dtype))
            x = np.moveaxis(np.broadcast_to(value, (shape[0], *shape[2:], size)), -1, 1).copy()
            x = np.moveaxis(x, 1, -1).copy() if channels_last else x
            y, saved = _norm(x, w=w, b=b, channels_last=channels_last)
            y = y if channels_last else np.moveaxis(y, 1, -1)
            want = np.broadcast_to(b.astype(dtype), y.shape)
            assert (y == want).all(), f"{shape} 1e{exponent}: {y[y != want][:3]}, beta {b}"
            dx = ops.batch_norm_backward(np.ones_like(x), saved)[0]
            assert np.isfinite(as_float64(dx)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_big_mean_and_small_variance(dtype):
    """Against the reference of the rounded input, so that only our arithmetic is judged."""
    rng = np.random.default_rng(4)
    tolerance = Tolerance(8, 8, "the mean is kept in more than the computing type")
    for shape in [(257, 3), (64, 2, 7, 7), (4, 2, 61, 67)]:
        for mean in (1, -1e2, 1e4, -1e5, 1e7):
            for std in (1e-3, 1.0, 30.0):
                x = (rng.standard_normal(shape) * std + mean).astype(dtype)
                want = BatchNorm(x.astype(np.float64), None, None, None, None, training=True)
                y, _ = _norm(x)
                rel = 2.0**-53 * abs(mean) / max(std, 3e-3)  # what float64 itself loses
                limit = Tolerance(tolerance.rel, tolerance.peak + 64 * rel / np.finfo(dtype).eps)
                assert_close(y, want.y, limit, dtype, f"{shape} mean {mean} std {std}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_huge_and_tiny_inputs(dtype):
    rng = np.random.default_rng(5)
    for scale in (1e30, 1e15, 1e-15, 1e-30):
        for shape in [(33, 3), (5, 3, 7, 7)]:
            x = (rng.standard_normal(shape) * scale).astype(dtype)
            want = BatchNorm(as_float64(x), None, None, None, None, training=True)
            y, saved = _norm(x)
            assert_close(y, want.y, Tolerance(10, 10), dtype, f"{shape} {scale}")
            dy = rng.standard_normal(shape).astype(dtype)
            dx = ops.batch_norm_backward(dy, saved)[0]
            assert_close(dx, want.backward(as_float64(dy))[0], Tolerance(16, 24), dtype, f"{scale}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_variance_where_squares_vanish_and_where_one_element_is_far_out(dtype):
    rng = np.random.default_rng(8)
    for shape in [(64, 3), (4, 3, 23, 29)]:
        tiny = (rng.standard_normal(shape) * 1e-25).astype(dtype)
        far = rng.standard_normal(shape).astype(dtype)
        for at in (0, shape[0] // 2):
            far[at, at % 3] = 3e4
        for x, eps in ((tiny, 1e-55), (far, 1e-5)):
            want = BatchNorm(as_float64(x), None, None, None, None, training=True, eps=eps)
            y, _ = _norm(x, eps=eps)
            # Sums about an element that is K deviations away lose K² <= count of float64's digits.
            loss = x.size // 3 if dtype == "float64" else 0
            assert_close(y, want.y, Tolerance(10 + loss, 10), dtype, f"{shape} {eps}")


@each_dtype
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_value_spoils_only_its_channel(dtype, bad):
    rng = np.random.default_rng(6)
    for shape, last in [((5, 4), False), ((3, 2, 3, 3), False), ((3, 3, 5), True)]:
        axis = len(shape) - 1 if last else 1
        clean = rng.standard_normal(shape).astype(dtype)
        dy = rng.standard_normal(shape).astype(dtype)

        def everything(x, dy=dy, last=last, channels=shape[axis]):
            mean, var = np.zeros((2, channels), computing(dtype))
            w, b = np.ones((2, channels), computing(dtype))
            y, saved = _norm(x, w=w, b=b, mean=mean, var=var, channels_last=last)
            return [y, mean, var, *ops.batch_norm_backward(dy, saved)]

        want = everything(clean)
        for at in np.ndindex(*shape):
            x = clean.copy()
            x[at] = bad
            for g, w in zip(everything(x), want, strict=True):
                g = np.moveaxis(g, axis, 0) if g.ndim > 1 else g
                w = np.moveaxis(w, axis, 0) if w.ndim > 1 else w
                for c in range(shape[axis]):
                    if c != at[axis]:
                        assert_same(g[c], w[c], f"{bad} at {at}, channel {c}")
            y = np.moveaxis(everything(x)[0], axis, 0)[at[axis]]
            assert np.isnan(as_float64(y)).any(), f"{bad} at {at} leaves no trace"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_running_variance_is_unbiased(dtype):
    x = np.array([[1.0, 10.0], [3.0, 16.0]], dtype)
    mean, var = np.zeros(2, dtype), np.zeros(2, dtype)
    _norm(x, mean=mean, var=var, momentum=1.0)
    assert mean.tolist() == [2.0, 13.0]
    assert var.tolist() == [2.0, 18.0]  # over n - 1; over n it would be 1 and 9


@each_dtype
def test_an_empty_batch_leaves_the_running_statistics(dtype):
    for shape in [(0, 3), (0, 3, 5), (0, 3, 4, 4), (2, 3, 0)]:
        mean, var = np.full((2, 3), 0.7, computing(dtype))
        before = mean.copy(), var.copy()
        x = np.zeros(shape, dtype)
        w, b = np.ones((2, 3), computing(dtype))
        y, saved = _norm(x, w=w, b=b, mean=mean, var=var, residual=x)
        assert y.shape == shape
        assert_all_same((mean, var), before)
        dx, dw, db, dr = ops.batch_norm_backward(x, saved)
        assert dx.shape == dr.shape == shape
        assert dw.tolist() == db.tolist() == [0.0] * 3


@each_dtype
def test_channel_vectors_of_either_dtype_are_taken(dtype):
    """With 16-bit inputs weights may be float32 or of the input's dtype."""
    rng = np.random.default_rng(7)
    x, dy = rng.standard_normal((2, 9, 5)).astype(dtype)
    vectors = rng.uniform(0.5, 1, (4, 5)).astype(dtype)
    own = [v.copy() for v in vectors]
    wide = [v.astype(computing(dtype)) for v in vectors]
    y, saved = _norm(x, w=own[0], b=own[1], mean=own[2], var=own[3])
    y_wide, saved_wide = _norm(x, w=wide[0], b=wide[1], mean=wide[2], var=wide[3])
    assert_same(y, y_wide)
    dx = ops.batch_norm_backward(dy, saved)[0]
    assert_same(dx, ops.batch_norm_backward(dy, saved_wide)[0])
    for narrow, exact in zip(own[2:], wide[2:], strict=True):
        assert_same(narrow, exact.astype(dtype), "running statistics are rounded once")
    y = ops.bias_act(x, own[1], activation="tanh")
    assert_same(y, ops.bias_act(x, wide[1], activation="tanh"))


@each_dtype
@pytest.mark.parametrize("shape", [(2, 3), (2, 1025), (1, 3, 2), (1, 3, 1, 2)])
def test_two_values_in_a_channel(dtype, shape):
    """x̂ = ±1, so that dx cancels to 0 but for eps: judged by the size of its three terms."""
    rng = np.random.default_rng(9)
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    want = BatchNorm(as_float64(x), None, None, None, None, training=True)
    dx = as_float64(ops.batch_norm_backward(dy, _norm(x)[1])[0])
    axes = tuple(i for i in range(x.ndim) if i != 1)
    terms = np.abs(as_float64(dy)).max(axis=axes, keepdims=True)
    terms = terms * want.invstd.reshape(terms.shape)
    exact = want.backward(as_float64(dy))[0]
    eps = 2.0 ** (1 - SIGNIFICAND[computing(dtype).name])
    assert (np.abs(dx - exact) <= 16 * eps * terms + 2.0 ** -SIGNIFICAND[dtype.name] * np.abs(exact)
            + 2.0**-24 * (dtype.itemsize == 2)).all()  # fmt: skip


ADDED = [
    {"training": True},
    {"training": True, "activation": "relu", "with_residual": True},
    {"training": True, "activation": "relu", "dropout_p": 0.3, "seed": 5},
    {"training": True, "activation": "tanh"},
    {"training": True, "activation": "tanh", "channels_last": True, "with_residual": True},
    {"training": True, "activation": "relu", "channels_last": True},
    {"training": False, "activation": "relu"},
]


@each_dtype
@pytest.mark.parametrize("options", ADDED, ids=str)
def test_another_gradient_is_added_to_dx(dtype, options):
    options = dict(options)
    residual, last = options.pop("with_residual", False), options.get("channels_last", False)
    rng = np.random.default_rng(10)
    # The last one is beyond the second-level cache: planes, and columns in several regions.
    for shape in [(33, 17), (3, 1025), (4, 3, 5, 7), (2, 3, 23, 29), (1, 2, 600, 450)]:
        c = shape[1]
        shape = (shape[0], *shape[2:], c) if last else shape
        x, dy, r, add = (rng.standard_normal(shape).astype(dtype) for _ in range(4))
        if not last and len(shape) == 4 and dtype.itemsize > 2:
            x[:, 1] *= np.asarray(np.finfo(dtype).max / 8, dtype)  # a channel that is scaled
        w, b, mean, var = np.abs(rng.standard_normal((4, c))).astype(computing(dtype)) + 1
        _, saved = ops.batch_norm(x, w, b, mean, var, residual=r if residual else None, **options)
        dx, *others = ops.batch_norm_backward(dy, saved)
        want, more = as_float64(dx) + as_float64(add), add.copy()
        for level, threads in zip(config.cpu_levels(), (1, 3, 7), strict=False):
            config.set_cpu_level(level)
            config.set_num_threads(threads)
            got, *rest = ops.batch_norm_backward(dy, saved, add=add)
            in_place = ops.batch_norm_backward(dy, saved, add=more, out=more)[0]
            if dtype.itemsize > 2:
                assert_same(got, dx + add, f"{shape} {level}")
            else:  # rounded once, where dx is rounded too
                unit = 2.0 ** -SIGNIFICAND[dtype.name]
                bound = unit * (np.abs(as_float64(dx)) + np.abs(want)) * 1.01 + 2.0**-24
                assert (np.abs(as_float64(got) - want) <= bound).all(), f"{shape} {level}"
            assert in_place is more
            assert_same(more, got, f"{shape} {level} in place")
            more[...] = add
            assert_all_same(rest, others, f"{shape} {level}")


def test_the_gradient_that_is_added_to_is_like_x():
    x = np.ones((4, 3), np.float32)
    _, saved = _norm(x)
    for add in (np.ones((4, 2), np.float32), np.ones((4, 3)), np.ones((3, 4), np.float32)):
        with pytest.raises((TypeError, ValueError), match="'add'"):
            ops.batch_norm_backward(x, saved, add=add)
    half = np.ones((5, 3), np.float32)
    with pytest.raises(ValueError, match="overlaps"):
        ops.batch_norm_backward(x, saved, add=half[1:], out=half[:-1])


@each_dtype
def test_saved_stays_valid(dtype):
    """A backward can be repeated, and later forwards do not reach into it."""
    rng = np.random.default_rng(8)
    x, dy = rng.standard_normal((2, 9, 5)).astype(dtype)
    _, saved = _norm(x, activation="relu", dropout_p=0.3, seed=1)
    first = ops.batch_norm_backward(dy, saved)
    _norm(x * 2, activation="tanh")
    assert_all_same(ops.batch_norm_backward(dy, saved), first)


def test_dropout_takes_no_part_in_evaluation():
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 40, 6))
    mean, var = np.zeros(6), np.ones(6)
    y, saved = ops.batch_norm(x, None, None, mean, var, training=False, dropout_p=0.5, seed=1)
    assert (y != 0).all()
    dx = ops.batch_norm_backward(dy, saved)[0]
    np.testing.assert_allclose(dx, dy / np.sqrt(1 + 1e-5), rtol=1e-14)


@pytest.mark.parametrize("shape", [(40, 6), (3, 6, 30), (2, 6, 700)])
def test_the_residuals_gradient_without_parameters_in_evaluation(shape):
    rng = np.random.default_rng(0)
    x, dy, residual = rng.standard_normal((3, *shape))
    mean, var = np.zeros(6), np.ones(6)
    _, saved = ops.batch_norm(
        x, None, None, mean, var, training=False, residual=residual, activation="relu"
    )
    dx, dresidual = (ops.batch_norm_backward(dy, saved)[i] for i in (0, -1))
    want = np.where(x / np.sqrt(1 + 1e-5) + residual > 0, dy, 0)
    np.testing.assert_array_equal(dresidual, want)
    np.testing.assert_allclose(dx, want / np.sqrt(1 + 1e-5), rtol=1e-14)
