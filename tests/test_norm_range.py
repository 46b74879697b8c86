"""Batch norm is right for every finite input: values and gradients at the ends of the dtype's
range, where sums, squares and differences overflow or vanish."""

from __future__ import annotations

import numpy as np
import pytest
from cases.norms import BatchNorm
from helpers import assert_same
from norm_range import EPILOGUES, NAMES, TOP, arrays, close, compare, reference, run, wide
from onepass import config, ops

SHAPES = {  # as the driver cuts them: columns, narrow columns, wide, short planes, planes, blocks
    "rows": ((33, 3), False),
    "wide": ((40, 300), False),
    "blocks": ((20000, 3), False),
    "short planes": ((5, 3, 7, 7), False),
    "planes": ((4, 3, 23, 29), False),
    "blocks of planes": ((22, 2, 60, 60), False),
    "channels last": ((5, 7, 7, 3), True),
}


def ways(shape):
    """Epilogues, and whether dx takes the place of dy; large arrays go the harder ones only."""
    few = ["relu, dropout", "residual, sigmoid, dropout", "tanh"]
    large = shape.startswith("blocks")
    for name, epilogue in EPILOGUES.items():
        if not large or name in few:
            yield from ((name, epilogue, in_place) for in_place in (False, True)[large:])


@wide
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_values_at_the_top_of_the_range(dtype, shape):
    size, last = SHAPES[shape]
    for magnitude in TOP[dtype]:
        for name, epilogue, in_place in ways(shape):
            given = arrays(size, last, dtype, magnitude, 1)
            got = run(*given, epilogue, last, in_place)
            want = reference(*given, epilogue, last)
            compare(got, want, dtype, last, f"{magnitude} {name} {in_place}")


@wide
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gradients_at_the_top_of_the_range(dtype, shape):
    size, last = SHAPES[shape]
    for gradient in TOP[dtype][1:]:
        for magnitude in (1.0, TOP[dtype][-1]):
            for name, epilogue, in_place in ways(shape):
                # Else dropout's own 1/(1 - p) overflows.
                largest = gradient * (0.4 if "dropout" in name else 1)
                given = arrays(size, last, dtype, magnitude, largest)
                got = run(*given, epilogue, last, in_place)
                want = reference(*given, epilogue, last)
                compare(got, want, dtype, last, f"{gradient} {magnitude} {name} {in_place}")


@wide
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_sums_that_overflow_only_on_the_way(dtype):
    """1.5e308 + 1.5e308 - 1.5e308 - 1.5e308 is 0, in any order."""
    top = TOP[dtype][-1]
    for shape in [(4, 2), (40, 2), (2, 2, 30, 40), (40, 2, 3, 3)]:
        x, dy, w, b, residual = arrays(shape, False, dtype, 1, 1)
        half = shape[0] // 2
        dy[:half], dy[half:] = top, -top
        got = run(x, dy, w, b, residual, {}, False)
        want = reference(x, dy, w, b, residual, {}, False)
        close(got[3], want[3], dtype, f"{shape} dx", axis=1)
        # Eight terms are added in float32, whatever their signs.
        assert (np.abs(got[5]) <= top * x.size * 2.0**-24).all(), got[5]


@wide
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_constant_but_for_rounding_at_any_magnitude(dtype):
    eps = np.finfo(dtype).eps
    for magnitude in [1e-30, 1.0, *TOP[dtype]]:
        for shape in [(9, 3), (64, 2, 5, 5), (3, 2, 30, 30)]:
            given = arrays(shape, False, dtype, 1, 1)
            x = (magnitude * (1 - eps * np.random.default_rng(1).integers(0, 3, shape))).astype(
                dtype
            )
            got = run(x, *given[1:], {}, False)
            want = reference(x, *given[1:], {}, False)
            compare(got[:1], want[:1], dtype, False, f"{magnitude} {shape}")
            compare(got[3:4], [want[3]], dtype, False, f"{magnitude} {shape} dx")
            constant = np.full(shape, magnitude, dtype)
            y = run(constant, *given[1:], {}, False)[0]
            assert (y == given[3].reshape(1, -1, *[1] * (len(shape) - 2))).all()


@wide
def test_subnormals_and_squares_that_vanish():
    for magnitude, eps in [(1e-160, 1e-320), (1e-200, 1e-300), (1e-310, 1e-5), (1e-170, 5e-324)]:
        for shape in [(33, 3), (5, 3, 7, 7), (4, 3, 23, 29)]:
            given = arrays(shape, False, "float64", magnitude, 1)
            got = run(*given, {}, False, eps=eps)
            want = reference(*given, {}, False, eps=eps)
            compare(got[:1], want[:1], "float64", False, f"{magnitude} {eps}")
            assert all(np.isfinite(g).all() for g in got)


@wide
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_evaluation_at_the_top_of_the_range(dtype):
    top = float(np.finfo(dtype).max)
    for mean, var in [(-0.8 * top, 1e30), (0.9 * top, top), (1.0, top), (0.0, 1.0)]:
        x, dy, w, b, _ = arrays((9, 3), False, dtype, 0.9 * top, 1e10)
        running = np.full(3, mean, dtype), np.full(3, var, dtype)
        y, saved = ops.batch_norm(x, w, b, *running, training=False)
        dx, dweight, _ = ops.batch_norm_backward(dy, saved)
        wide_ = [a.astype(np.longdouble) for a in (x, w, b, *running)]
        norm = BatchNorm(*wide_, training=False)
        close(y, norm.y, dtype, f"{mean} {var}", axis=1)
        want = norm.backward(dy.astype(np.longdouble))
        close(dx, want[0], dtype, f"{mean} {var} dx", axis=1)
        close(dweight, want[1], dtype, "dweight", axis=0)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", SHAPES)
def test_an_extreme_channel_leaves_its_neighbours_bits_alone(dtype, shape):
    """For any number of threads and every instruction set, and whichever end it is at."""
    size, last = SHAPES[shape]
    axis = len(size) - 1 if last else 1
    for epilogue in EPILOGUES.values():
        clean = arrays(size, last, dtype, 1, 1)
        want = run(*clean, epilogue, last)
        x, dy = clean[0].copy(), clean[1].copy()
        at = tuple(slice(None) if i != axis else 1 for i in range(len(size)))
        x[at] *= TOP[dtype][-1]
        dy[at] *= TOP[dtype][1]
        results = []
        for level in config.cpu_levels():
            for threads in (1, 2):
                before = config.cpu_level(), config.get_num_threads()
                try:
                    config.set_cpu_level(level)
                    config.set_num_threads(threads)
                    results.append(run(x, dy, *clean[2:], epilogue, last))
                finally:
                    config.set_cpu_level(before[0])
                    config.set_num_threads(before[1])
        for got in results:
            for name, g, w, first in zip(NAMES, got, want, results[0], strict=False):
                g_, w_ = (np.moveaxis(a, axis if a.ndim > 1 else 0, 0) for a in (g, w))
                keep = [c for c in range(len(g_)) if c != 1]
                assert_same(g_[keep], w_[keep], f"{name} {epilogue}")
                assert_same(g, first, f"{name} {epilogue} across levels and threads")


@wide
def test_extremes_of_several_kinds_in_one_call():
    """Sums of squares overflow in one channel, differences in another; tasks finish them apart."""
    x, dy, w, b, residual = arrays((400, 600), False, "float64", 1, 1)
    for channel, magnitude in [(1, 1e200), (2, 1e-200), (300, 1e160), (500, 1.5e308)]:
        x[:, channel] *= magnitude
    dy[:, [2, 500]] *= 1e300
    for name in ("plain", "residual, relu"):
        got = run(x, dy, w, b, residual, EPILOGUES[name], False)
        want = reference(x, dy, w, b, residual, EPILOGUES[name], False)
        for i in (0, *range(3, len(want))):
            label, g, r = NAMES[i], got[i], want[i]
            for c in (0, 1, 2, 300, 301, 500, 599):
                at = (slice(None), slice(c, c + 1)) if r.ndim == 2 else slice(c, c + 1)
                bound = None if r.ndim == 2 else 2.0**-30
                close(g[at], r[at], "float64", f"{name} {label} {c}", axis=r.ndim - 1, bound=bound)


@wide
def test_a_variance_beyond_the_dtype():
    """1/√(variance + eps) is right all the same; the running variance is Inf, or stays."""
    x = np.array([[-1.5e308], [1.5e308]])
    for momentum, want in [(0.1, np.inf), (0.0, 1.0)]:
        mean, var = np.zeros(1), np.ones(1)
        y, _ = ops.batch_norm(x, None, None, mean, var, training=True, momentum=momentum)
        assert np.allclose(y, [[-1], [1]], rtol=2.0**-44, atol=0)
        assert var[0] == want
        assert mean[0] == 0
