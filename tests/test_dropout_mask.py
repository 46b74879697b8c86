"""Dropout's mask, bit for bit, its scale, and whether it is random."""

import math

import numpy as np
import pytest
from cases import computing
from cases.dropout import dropout_mask, dropout_scale, uniform_bits
from helpers import assert_same, each_dtype
from onepass import ops

RATES = [0.5, 0.25, 0.1, 0.9, 1 / 3, 2.0**-32, 1 - 2.0**-24, 0.0, 1.0]


@pytest.mark.parametrize("p", RATES)
def test_mask_is_the_normative_one(p):
    for shape in [(0,), (1,), (31,), (33,), (127,), (129,), (4095,), (4097,), (3, 43), (7, 3, 999)]:
        for seed, offset in ((0, 0), (1, 0), (2**64 - 1, 2**63 + 12345), (2**32, 2**32)):
            want = dropout_mask(shape, p, seed=seed, offset=offset)
            label = f"{shape} p={p} seed={seed} offset={offset}"
            mask = ops.dropout_mask(shape, p, seed=seed, offset=offset)
            assert mask.dtype == np.bool_, label
            assert_same(mask, want, label)
            packed = ops.dropout_mask(shape, p, seed=seed, offset=offset, packed=True)
            assert_same(packed, np.packbits(want.ravel(), bitorder="little"), f"{label} packed")
            ones = np.ones(shape, np.float32)
            assert_same(ops.dropout(ones, p, seed=seed, offset=offset) != 0, want, label)


def test_a_mask_is_written_to_the_array_given():
    want = dropout_mask((3, 43), 0.3, seed=4, offset=1)
    packed = np.packbits(want.ravel(), bitorder="little")
    for expected in (want, packed):
        out, how = np.empty_like(expected), {"packed": expected is packed}
        assert ops.dropout_mask((3, 43), 0.3, seed=4, offset=1, out=out, **how) is out
        assert_same(out, expected)
        for other in (np.zeros(expected.size + 1, out.dtype), out[None], out.T[:, None]):
            with pytest.raises(ValueError, match=r"'out' has shape .* of 'shape'"):
                ops.dropout_mask((3, 43), 0.3, seed=4, offset=1, out=other, **how)
        with pytest.raises(TypeError, match=r"'out' has dtype float32, expected (bool|uint8)"):
            ops.dropout_mask((3, 43), seed=4, out=out.astype(np.float32), **how)
        assert_same(out, expected, "refused calls")


def test_a_mask_for_pytorch():
    torch = pytest.importorskip("torch")
    for packed, dtype in ((False, torch.bool), (True, torch.uint8)):
        want = ops.dropout_mask((5, 8), 0.3, seed=4, packed=packed)
        out = torch.zeros(want.shape, dtype=dtype)
        assert ops.dropout_mask((5, 8), 0.3, seed=4, packed=packed, out=out) is out
        assert_same(out.numpy(), want)


def test_threshold_is_exact():
    """An element whose fraction equals p is kept, and dropped when p is one step larger."""
    u = uniform_bits(1000, 21, 5)
    for e in (0, 1, 31, 127, 128, 500, 999):
        for step in (-1, 0, 1):
            p = (int(u[e]) + step) / 2**32
            mask = ops.dropout_mask((1000,), p, seed=21, offset=5)
            assert mask[e] == (step <= 0), (e, step)
            assert_same(mask, dropout_mask((1000,), p, seed=21, offset=5))
        p = (int(u[e]) + 0.5) / 2**32  # half a step rounds up
        assert not ops.dropout_mask((1000,), p, seed=21, offset=5)[e]


@each_dtype
@pytest.mark.parametrize("p", [0.5, 0.1, 1 / 3])
def test_kept_values_are_scaled_by_one_rounded_factor(p, dtype):
    compute = computing(dtype)
    x = np.random.default_rng(0).standard_normal(5001).astype(dtype)
    keep = dropout_mask(x.shape, p, seed=9)
    scaled = (x.astype(compute) * compute.type(dropout_scale(p))).astype(dtype)
    want = np.where(keep, scaled, np.zeros(1, dtype))
    assert_same(ops.dropout(x, p, seed=9), want)
    assert_same(ops.dropout_backward(x, p, seed=9), want, "backward")


@each_dtype
def test_dropout_of_nothing_and_of_everything(dtype):
    x = np.random.default_rng(0).standard_normal(4099).astype(dtype)
    x[:5] = [math.inf, -math.inf, math.nan, 0.0, -0.0]
    assert_same(ops.dropout(x, 0.0, seed=1), x, "p = 0")
    for p in (1.0, 1 - 2.0**-34):  # rounds to 1
        y = ops.dropout(x, p, seed=1)
        assert_same(y, np.zeros_like(x), f"p = {p}")
        assert_same(ops.dropout_backward(x, p, seed=1), np.zeros_like(x), f"p = {p}")


@pytest.mark.parametrize("p", [0.5, 0.1, 0.9, 0.01])
def test_dropout_is_random(p):
    """Keep rate, independence of streams and of neighbours, within five standard deviations."""
    n = 1 << 20

    def near(count, trials, rate, label):
        deviation = abs(count - trials * rate) / math.sqrt(trials * rate * (1 - rate))
        assert deviation < 5, f"{label}: {deviation:.1f} standard deviations off"

    keep = 1 - p
    mask = ops.dropout_mask((n,), p, seed=12, offset=5)
    near(mask.sum(), n, keep, "keep rate")
    for seed, offset in ((13, 5), (12, 6), (12 + 2**32, 5), (12, 5 + 2**32), (5, 12)):
        other = ops.dropout_mask((n,), p, seed=seed, offset=offset)
        near((mask & other).sum(), n, keep * keep, f"stream {seed}, {offset}")
    for lag in (1, 2, 3, 7, 8, 31, 32, 33, 64, 96, 127, 128, 129, 256, 1024, 4096):
        near((mask[lag:] & mask[:-lag]).sum(), n - lag, keep * keep, f"lag {lag}")
