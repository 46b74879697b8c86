"""The riders of every optimizer's step: unscaling, clipping, the check for overflow, zeroing."""

import itertools
import math

import numpy as np
import pytest
from cases import DTYPES, Derived, as_float64
from cases.reductions import global_norm
from helpers import (
    assert_all_close,
    assert_all_same,
    assert_same,
    each_dtype,
    each_sweep,
    each_variant,
)
from onepass import optim
from small_steps import assert_unchanged, everything, gradients, start

# ------------------------------------------------------------------------------ clipping, unscaling


@each_variant
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_unscale_then_clip_values_then_clip_the_norm(variant, dtype):
    controls = [
        {"max_norm": n, "max_value": v, "grad_scale": s}
        for n, v, s in itertools.product((None, 0.5, 1e6), (None, 0.3, 50.0), (None, 8.0, 0.3))
    ]
    rng, params = start(dtype)
    opt, want = variant.make(params, lr=0.1), variant.trajectory(params, lr=0.1)
    for control in controls:
        grads = gradients(rng, params, lambda i: i != 3)
        before = [None if g is None else g.copy() for g in grads]
        norm = want.step(grads, **control)
        info = opt.step(grads, **control)
        assert_all_close(params, want.params, Derived(), dtype, str(control))
        if control["max_norm"] is None:
            assert info.grad_norm is None
        else:
            assert float(info.grad_norm) == pytest.approx(norm, rel=1e-6)
        for g, b in zip(grads, before, strict=True):
            assert_same(g, b, "gradients are only read")


def test_clipping_is_what_torch_does():
    """coefficient = min(1, max_norm/(norm + 1e-6)), visible where the norm is near 1e-6."""
    p, g = [np.zeros(4)], [np.full(4, 1e-6)]
    optim.SGD(p, lr=1.0).step(g, max_norm=1e-6)
    np.testing.assert_allclose(p[0], -1e-6 * (1e-6 / (2e-6 + 1e-6)), rtol=1e-12)


@each_dtype
def test_norm_of_scaled_16_bit_gradients(dtype):
    """A loss scale of 2¹⁴: gradients near the top of float16, their norm beyond it."""
    rng, params = start(dtype)
    grads = [np.asarray(rng.uniform(0.5, 1, p.shape) * 2.0**14).astype(dtype) for p in params]
    want = global_norm([as_float64(g) for g in grads]) / 2.0**14
    info = optim.SGD(params, lr=0.0).step(grads, grad_scale=2.0**14, max_norm=1.0)
    assert float(info.grad_norm) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_clipping_huge_gradients_still_moves(dtype):
    """The coefficient is then below the normal numbers of float32, which a step flushes."""
    size, top = 100, 1e38 if dtype == "float32" else 6e4
    p, g = [np.zeros(size, dtype)], [np.full(size, top, dtype)]
    scale = 1.0 if dtype == "float32" else 1e-33
    optim.SGD(p, lr=1.0).step(g, max_norm=1.0, grad_scale=scale)
    np.testing.assert_allclose(p[0].astype(float), -0.1, rtol=1e-3)


# --------------------------------------------------------------------------------- zeroed gradients


@each_variant
@pytest.mark.parametrize("nonfinite", ["propagate", "skip"])
def test_zero_grad(variant, nonfinite):
    for dtype, bad in itertools.product(DTYPES, (None, math.inf)):
        rng, params = start(dtype)
        opt = variant.make(params, lr=0.1)
        with np.errstate(all="ignore"):
            grads = gradients(rng, params, lambda i: i != 1)
        if bad is not None:
            grads[4][1000] = bad
        info = opt.step(grads, zero_grad=True, nonfinite=nonfinite, max_norm=1.0)
        assert info.skipped == (bad is not None and nonfinite == "skip")
        assert grads[1] is None
        for g in grads:
            assert g is None or not g.any()


@each_variant
def test_a_step_that_raises_leaves_the_gradients(variant):
    rng, params = start("float32")
    opt = variant.make(params, lr=0.1)
    grads = gradients(rng, params)
    opt.step(grads, zero_grad=True, nonfinite="raise")
    assert not any(g.any() for g in grads)
    grads = gradients(rng, params)
    grads[2].flat[0] = math.nan
    before = [g.copy() for g in grads]
    with pytest.raises(FloatingPointError, match=r"parameter 2 .*nothing was changed"):
        opt.step(grads, zero_grad=True, nonfinite="raise")
    assert_all_same(grads, before)


@each_variant
def test_zeroing_changes_nothing_else(variant):
    rng, params = start("float32")
    other = [p.copy() for p in params]
    one, two = (variant.make(p, lr=0.1) for p in (params, other))
    for control in ({}, {"max_norm": 0.5}, {"max_value": 0.1, "grad_scale": 2.0}):
        grads = gradients(rng, params)
        one.step([g.copy() for g in grads], **control)
        two.step(grads, zero_grad=True, **control)
        assert_all_same(params, other, str(control))


# ----------------------------------------------------------------------------------------- overflow


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@each_sweep
def test_a_skipped_step_changes_nothing(variant, sweep, bad):
    """Also on the very first step, where the buffers have never been written."""
    for first, dtype in itertools.product((0, 3), DTYPES):
        rng, params = start(dtype)
        quiet_rng, twin = start(dtype)
        opt, same = (variant.record.cls(p, **sweep) for p in (params, twin))
        for step in range(6):
            if step == first:
                for at, place in ((1, 32), (4, 0), (4, 1024), (6, 5)):
                    grads = [np.ones(p.shape, dtype) for p in params]
                    grads[at].flat[place] = bad
                    before = everything(opt, params)
                    info = opt.step(grads, nonfinite="skip", max_norm=1.0, max_value=2.0)
                    assert info.skipped
                    assert info.nonfinite_param == at
                    assert_unchanged(opt, params, before, f"skip at {at}")
                    with pytest.raises(FloatingPointError, match=rf"\b{at}\b"):
                        opt.step(grads, nonfinite="raise")
                    assert_unchanged(opt, params, before, f"raise at {at}")
            grads = gradients(rng, params)
            info = opt.step(grads, nonfinite="skip")
            assert not info.skipped
            assert info.nonfinite_param is None
            same.step([g.copy() for g in gradients(quiet_rng, twin)])
            assert_all_same(params, twin, f"step {step} after the skip")


@each_variant
def test_the_first_offender_is_named(variant):
    _, params = start("float32")
    opt = variant.make(params, lr=0.1)
    grads = [np.ones_like(p) for p in params]
    grads[0] = None
    grads[6][1, 2] = math.nan
    grads[2][0] = math.inf
    assert opt.step(grads, nonfinite="skip").nonfinite_param == 2
    assert opt.step(grads, nonfinite="propagate").nonfinite_param is None
    # The sign of an infinite average is finite, so with Lion it is the average that shows.
    held = [params[2], *opt.state_dict()["state"][2].values()]
    assert not all(np.isfinite(values).all() for values in held)
    assert np.isfinite(params[1]).all()


@each_variant
def test_propagate_is_ieee(variant):
    """One NaN spoils its own element, or its parameter where the step depends on that one's norm;
    with a norm over everything it spoils all."""
    _, params = start("float32")
    opt = variant.make(params, lr=0.1)
    grads = [np.ones_like(p) for p in params]
    grads[1][5] = math.nan
    info = opt.step(grads)
    assert not info.skipped
    # Adafactor divides by max(1, rms), which leaves NaN out, as PyTorch's does.
    all_of_it = variant.needs_norms and variant.name != "adafactor"
    spoilt = range(params[1].size) if all_of_it else [5]
    assert np.flatnonzero(np.isnan(params[1])).tolist() == list(spoilt)
    assert all(np.isfinite(p).all() for i, p in enumerate(params) if i != 1)
    info = opt.step(grads, max_norm=1.0)
    assert math.isnan(float(info.grad_norm))
    assert info.nonfinite_param is None
    assert np.isnan(params[0]).all()


@each_variant
def test_overflow_of_the_division_counts(variant):
    """The check follows the division by grad_scale: what overflows there is not finite."""
    _, params = start("float32")
    opt = variant.make(params, lr=0.1)
    grads = [np.full(p.shape, 1e30, np.float32) for p in params]
    before = everything(opt, params)
    assert opt.step(grads, grad_scale=1e-20, nonfinite="skip").skipped
    assert_unchanged(opt, params, before, variant.name)
    info = opt.step(grads, nonfinite="skip", max_norm=1.0)  # large, but finite
    assert not info.skipped
    assert float(info.grad_norm) > 1e30
