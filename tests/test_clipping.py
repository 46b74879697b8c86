"""Clipping and norms are right for every finite gradient, also where squares, sums or the norm
itself leave the range of float64."""

import functools
import math
from fractions import Fraction

import numpy as np
import pytest
from cases import BFLOAT16
from onepass import config, ops

HUGE, TINY = np.finfo(np.float64).max, 5e-324


def exact_norm(arrays):
    """(norm as a float, the exact sum of squares)."""
    total = sum(Fraction(float(v)) ** 2 for a in arrays for v in np.asarray(a, np.float64).ravel())
    # The root of an integer: enough digits, whatever the size.
    digits = 10**700
    root = Fraction(math.isqrt(total.numerator * digits**2 // total.denominator), digits)
    try:
        return float(root), root
    except OverflowError:
        return math.inf, root


@functools.cache
def norm_of_list(name):
    return exact_norm(LISTS[name])


def clipped(grads, max_norm, **options):
    params = [np.zeros_like(g) for g in grads]
    info = ops.sgd_(params, grads, lr=1.0, max_norm=max_norm, **options)
    return params, info


LISTS = {
    "four of 1e160": [np.full(4, 1e160)],
    "beyond the range of float64": [np.array([1.5e308, -1.5e308, 1.5e308, -1.5e308])],
    "the largest": [np.array([HUGE, -HUGE]), np.full(3000, HUGE)],
    "mixed magnitudes": [np.array([1e300, 1.0, 1e-300, -1e200]), np.full(3, -1e299)],
    "two lists, one small": [np.full(5000, 1e-200), np.full(5000, 3e155)],
    "with float32": [np.full(7, 1e38, np.float32), np.full(4, -1e170)],
    "float32 alone": [np.full(100, 3e38, np.float32)],
    "float16": [np.full(9, 6e4, np.float16)],
    "bfloat16": [np.full(9, 3e38).astype(BFLOAT16)],
    "squares vanish": [np.full(4, 1e-170)],
    "subnormal": [np.full(4, TINY)],
    "subnormal float32": [np.full(4, 1e-45, np.float32), np.zeros(3, np.float32)],
    "zero": [np.zeros(4), np.zeros(5, np.float32)],
}


@pytest.mark.parametrize("name", LISTS)
def test_global_norm_of_any_finite_values(name):
    want, _ = norm_of_list(name)
    got = float(ops.global_norm(LISTS[name]))
    assert got == pytest.approx(want, rel=1e-6, abs=0)
    every = [float(v) for a in LISTS[name] for v in a.astype(np.float64)]
    most = max(map(abs, every))
    assert float(ops.global_norm(LISTS[name], ord=math.inf)) == most
    total = sum(abs(Fraction(v)) for v in every)
    try:
        total = float(total)
    except OverflowError:
        total = math.inf
    assert float(ops.global_norm(LISTS[name], ord=1)) == pytest.approx(total, rel=1e-6, abs=0)


@pytest.mark.parametrize("nonfinite", ["propagate", "skip", "raise"])
@pytest.mark.parametrize("name", LISTS)
def test_a_huge_gradient_is_clipped_not_lost(name, nonfinite):
    grads = LISTS[name]
    params, info = clipped(grads, 1.0, nonfinite=nonfinite)
    norm, root = norm_of_list(name)
    assert not info.skipped
    assert info.nonfinite_param is None
    assert info.grad_norm == pytest.approx(norm, rel=1e-6, abs=0)
    factor = min(Fraction(1), 1 / (root + Fraction(1e-6)))
    for param, grad in zip(params, grads, strict=True):
        want = [-float(Fraction(float(g)) * factor) for g in grad]
        digits = {8: 1e-14, 4: 1e-6, 2: 2e-2}[grad.itemsize]
        tiny = float(np.finfo(np.float32).tiny) if grad.itemsize < 8 else 1e-300
        np.testing.assert_allclose(param.astype(np.float64), want, rtol=digits, atol=tiny)


def test_four_of_1e160_give_one_half_each():
    params, info = clipped([np.full(4, 1e160)], 1.0, nonfinite="raise")
    assert info.grad_norm == pytest.approx(2e160, rel=1e-15)
    np.testing.assert_allclose(params[0], -0.5, rtol=1e-15)


@pytest.mark.parametrize("scale", [1e30, 1e-20, 2.0**100, 2.0**-100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_and_small_grad_scales(scale, dtype):
    grads = [(np.array([3.0, -4.0]) * scale).astype(dtype)]
    params, info = clipped(grads, 1.0, grad_scale=scale, nonfinite="raise")
    assert info.grad_norm == pytest.approx(5, rel=1e-6)
    np.testing.assert_allclose(params[0], [-0.6, 0.8], rtol=2e-6)


def test_grad_scales_that_the_type_cannot_hold_are_refused():
    for dtype, scales in ((np.float32, (1e39, 1e-39)), (np.float64, (5e-324, 1.5e308))):
        for scale in scales:
            grads, params = [np.ones(2, dtype)], [np.zeros(2, dtype)]
            with pytest.raises(ValueError, match=r"^sgd_: 'grad_scale' is .*expected"):
                ops.sgd_(params, grads, lr=1.0, grad_scale=scale)
            assert not params[0].any()


@pytest.mark.parametrize("most", [1e155, 2e-3])
def test_the_norm_after_clamping_clips(most):
    grads = [np.array([1e200, -1e200, 1e-3, 0.0])]
    params, info = clipped(grads, 1.0, max_value=most)
    assert info.grad_norm == pytest.approx(math.sqrt(2) * 1e200, rel=1e-12)
    clamped = np.clip(grads[0], -most, most)
    _, root = exact_norm([clamped])
    factor = min(1.0, float(1 / (root + Fraction(1e-6))))
    np.testing.assert_allclose(params[0], -clamped * factor, rtol=1e-12, atol=1e-300)


def test_a_gradient_that_is_not_finite_still_is_not():
    for bad in (math.inf, -math.inf, math.nan):
        grads = [np.full(3, 1e200), np.array([1.0, bad])]
        params, info = clipped(grads, 1.0, nonfinite="skip")
        assert info.skipped
        assert info.nonfinite_param == 1
        assert not params[0].any()


def test_the_scaled_norm_has_the_same_bits_everywhere():
    """On one thread and many, on every instruction set."""
    rng = np.random.default_rng(0)
    grads = [rng.standard_normal(70001) * 1e200, rng.standard_normal(3), rng.standard_normal(900)]
    norms = set()
    threads, level = config.get_num_threads(), config.cpu_level()
    try:
        for n in (1, 2, 7):
            for each in config.cpu_levels():
                config.set_num_threads(n)
                config.set_cpu_level(each)
                norms.add(float(ops.global_norm(grads)))
    finally:
        config.set_num_threads(threads)
        config.set_cpu_level(level)
    assert len(norms) == 1
    want, _ = exact_norm([g[np.abs(g) > 1e100] for g in grads])
    assert norms.pop() == pytest.approx(want, rel=1e-12)


MAX_NORMS = [TINY, 2.5e-308, 1e-305, 1e-300, 1e-250, 1e-100, 1e-45, 1e-38, 1e-20, 1e300, HUGE]


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("max_norm", MAX_NORMS)
def test_any_max_norm_clips_to_the_exact_value_and_never_to_nan(max_norm, name):
    """An all-zero gradient, the largest ones, and whatever `max_norm` makes of them."""
    grads = LISTS[name]
    params, info = clipped(grads, max_norm, nonfinite="raise")
    norm, root = norm_of_list(name)
    assert info.grad_norm == pytest.approx(norm, rel=1e-6, abs=0)
    factor = min(Fraction(1), Fraction(max_norm) / (root + Fraction(1e-6)))
    for param, grad in zip(params, grads, strict=True):
        want = np.array([-float(Fraction(float(g)) * factor) for g in grad])
        rtol = {8: 1e-14, 4: 1e-6, 2: 2e-2}[grad.itemsize]
        # Below four of the computing type's least normal numbers a gradient may vanish.
        kept = 2.0**-1020 if grad.itemsize == 8 else 2.0**-124
        atol = 2.0**-24 if grad.dtype == np.float16 else kept
        np.testing.assert_allclose(param.astype(np.float64), want, rtol=rtol, atol=atol)
