"""The global norm at the edges."""

import itertools
import math

import numpy as np
import pytest
from cases import DTYPES, as_float64
from cases.reductions import global_norm
from helpers import bits, each_dtype
from onepass import ops


def test_norm_of_nothing_is_zero():
    for ord in (1, 2, math.inf):
        assert float(ops.global_norm([], ord=ord)) == 0
        assert float(ops.global_norm([np.zeros(0, np.float32)], ord=ord)) == 0


@pytest.mark.parametrize("ord", [1, 2, math.inf])
def test_norm_at_the_edges(ord):
    big = np.full(4, 3e38, np.float32)  # squares overflow float32
    want = {1: 4, 2: 2, math.inf: 1}[ord] * float(big[0])
    assert float(ops.global_norm([big], ord=ord)) == pytest.approx(want, rel=1e-6)
    small = np.full(4, 1e-30, np.float32)
    want = {1: 4, 2: 2, math.inf: 1}[ord] * float(small[0])
    assert float(ops.global_norm([small], ord=ord)) == pytest.approx(want, rel=1e-6, abs=0)


@each_dtype
@pytest.mark.parametrize("ord", [1, 2, math.inf])
def test_norm_of_what_is_not_finite(ord, dtype):
    for size, bad in itertools.product((1, 17, 1025), (math.nan, math.inf, -math.inf)):
        for at in sorted({0, size // 2, size - 1}):
            x = np.ones(size, dtype)
            x[at] = bad
            got = float(ops.global_norm([np.ones(3, dtype), x], ord=ord))
            assert np.isnan(got) if np.isnan(bad) else got == math.inf, (size, bad, at, got)


def test_norm_mixes_dtypes_and_shapes():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((3, 5)).astype(d) for d in DTYPES] + [np.zeros((0, 2))]
    want = global_norm([as_float64(a) for a in arrays])
    assert float(ops.global_norm(arrays)) == pytest.approx(want, rel=1e-6)
    assert bits(np.float64(ops.global_norm(arrays))) == bits(np.float64(ops.global_norm(arrays)))
