"""Values and shapes at which a kernel changes its path."""

from fractions import Fraction

import numpy as np
import pytest
from onepass import ops


@pytest.mark.parametrize("threshold", [3448235697, 3355443193, 3351766009, 2680855093, 1, 2**31])
def test_the_scale_of_dropout_is_rounded_once(threshold):
    """At the first four a quotient in double, rounded again to float, is the wrong neighbour."""
    y = ops.dropout(np.ones(4096, np.float32), threshold / 2**32, seed=1)
    got = y[y != 0]
    exact = Fraction(2**32, 2**32 - threshold)
    guess = np.float32(float(exact))
    best = min(
        (guess, np.nextafter(guess, np.float32(0)), np.nextafter(guess, np.float32(np.inf))),
        key=lambda v: abs(Fraction(float(v)) - exact),
    )
    assert got.size > 0
    assert (got == best).all()


def test_a_norm_of_magnitudes_that_vanish_beside_others():
    """In float the squares of both vanish or nearly so; each counts in the sum."""
    arrays = [np.full(5000, 3e-19, np.float32), np.full(50000, 1e-19, np.float32)]
    want = np.sqrt(sum(np.square(a.astype(np.float64)).sum() for a in arrays))
    np.testing.assert_allclose(float(ops.global_norm(arrays)), want, 1e-6)
    np.testing.assert_allclose(float(ops.global_norm(arrays[::-1])), want, 1e-6)


@pytest.mark.parametrize("shape", [(300, 8, 7, 7), (257, 5, 3, 5), (40, 3, 17, 17)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batch_norm_of_many_small_planes(shape, dtype):
    """Planes that no power of two divides, in several blocks: the tail of a residual network."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    w, b = (rng.standard_normal(shape[1]).astype(dtype) for _ in range(2))
    y, saved = ops.batch_norm(x, w, b, None, None, training=True)
    dx, dw, db = ops.batch_norm_backward(dy, saved)

    X, DY = x.astype(np.float64), dy.astype(np.float64)
    axes, per = (0, 2, 3), (1, -1, 1, 1)
    mean, var = X.mean(axes, keepdims=True), X.var(axes, keepdims=True)
    rstd = 1 / np.sqrt(var + 1e-5)
    xh, W, B = (X - mean) * rstd, w.astype(np.float64).reshape(per), b.astype(np.float64)
    n = X.size // shape[1]
    want_db, want_dw = DY.sum(axes), (DY * xh).sum(axes)
    want_dx = W * rstd * (DY - want_db.reshape(per) / n - xh * want_dw.reshape(per) / n)
    eps = np.finfo(dtype).eps
    for got, want, most in [
        (y, xh * W + B.reshape(per), 16 * eps),
        (dx, want_dx, 32 * eps),
        (dw, want_dw, 64 * np.sqrt(n) * eps),
        (db, want_db, 64 * np.sqrt(n) * eps),
    ]:
        np.testing.assert_allclose(got, want, most, most * np.abs(want).max())
