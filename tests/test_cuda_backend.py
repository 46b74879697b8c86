"""The CUDA backend in the simulator of tests/cuda_sim: the kernels that the library ships, by g++.

Every row of tests/cases against its float64 reference, elementwise kernels bit for bit against the
CPU backend, everything in three thread orders. Shapes are those of the rows up to a size that a
simulator gets through; --all-cases gives every dtype every shape with all options.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math

import numpy as np
import pytest
import staged
from cases import BFLOAT16, CASES, DTYPES, computing
from cases.optimizers import VARIANTS
from cuda_simulator import ELEMENTWISE, ORDERS, RUNNABLE, on, simulable
from helpers import (
    Extent,
    assert_all_close,
    assert_all_same,
    assert_close,
    assert_same,
    each_dtype,
    sweep,
)
from norm_range import EPILOGUES, TOP, arrays, compare, reference, wide
from norm_range import run as extreme
from onepass import _C, ops, optim
from small_ranks import by_shares


def small_sweep(case, dtype):
    shapes = [s for s in case.shapes if simulable(s, case.family)]
    assert shapes
    return sweep(case, shapes=shapes, dtype=dtype)


each_case = pytest.mark.parametrize("case", RUNNABLE, ids=[c.name for c in RUNNABLE])
each_elementwise = pytest.mark.parametrize("case", ELEMENTWISE, ids=[c.name for c in ELEMENTWISE])


@each_dtype
@each_case
def test_against_reference(simulator, case, dtype):
    for label, shape, options in small_sweep(case, dtype):
        inputs = case.inputs(shape, dtype, options)
        want = case.expect(inputs, options)
        with on(simulator):
            got = case.run(inputs, options)
        assert_all_close(got, want, case.tolerance, dtype, label)


LOSSES = [case for case in RUNNABLE if case.name in _C.pointwise_loss]


@each_dtype
@pytest.mark.parametrize("case", LOSSES, ids=[c.name for c in LOSSES])
def test_losses_of_elements_have_the_bits_of_the_cpu(simulator, case, dtype):
    """Also the sums, in every order of threads, of views that lie anywhere."""
    for _, shape, options in small_sweep(case, dtype):
        for step in (1, 2):
            x, target, weight = case.inputs(shape, dtype, options)
            x = np.repeat(x, 2, -1)[..., ::2] if step == 2 and x.ndim else x
            want = case.run((x, target, weight), options)
            for order in ORDERS:
                with on(simulator, order):
                    got = case.run((x, target, weight), options)
                assert_all_same(map(np.asarray, got), map(np.asarray, want), f"{shape} {options}")


ALONG_CLASSES = ["softmax", "log_softmax", "softmax_backward", "log_softmax_backward"]


@pytest.mark.parametrize("name", [*ALONG_CLASSES, "cross_entropy"])
def test_the_error_of_a_long_sum_over_classes_is_bounded(simulator, name):
    """Where positions lie beside each other one thread adds all classes: the bound of a sum holds
    there too, though in float32 alone the error would grow with their number."""
    (case,) = (c for c in RUNNABLE if c.name == name)
    options = {} if name == "cross_entropy" else {"axis": 1}
    inputs = case.inputs((1, 32769, 2), "float32", options)
    want = case.expect(inputs, options)
    with on(simulator):
        got = case.run(inputs, options)
    assert_all_close(got, want, case.tolerance, "float32", name)


def test_what_is_no_probability_gets_nan_on_a_device(simulator):
    x = np.float32([0.5, 1.5, 0.25, -1])
    with on(simulator):
        losses, gradient = ops.bce_loss(x[:3].copy(), np.float32([1, 1, 2]), reduction="none")
    assert np.isnan(losses).tolist() == [False, True, True]
    assert np.isnan(gradient).tolist() == [False, True, True]


@each_dtype
@each_elementwise
def test_elementwise_kernels_give_the_bits_of_the_cpu(simulator, case, dtype):
    for label, shape, options in small_sweep(case, dtype):
        want = case.run(case.inputs(shape, dtype, options), options)
        inputs = case.inputs(shape, dtype, options)
        with on(simulator):
            got = case.run(inputs, options)
        assert_all_same(got, want, label)


@each_case
def test_the_order_of_threads_does_not_matter(simulator, case):
    """Each option on one of two shapes, or on both with --all-cases."""
    shapes = [s for s in case.shapes if simulable(s) and math.prod(s) > 0]
    shapes = sorted(shapes, key=math.prod)[-2:]
    for place, options in enumerate(case.options):
        for shape in shapes if Extent.whole else [shapes[~place % len(shapes)]]:
            results = []
            for order in ORDERS:
                inputs = case.inputs(shape, "float32", options)
                with on(simulator, order):
                    results.append(case.run(inputs, options))
            for result in results[1:]:
                assert_all_same(result, results[0], f"{case.name}{shape} {options}")


# ------------------------------------------------------------------------ lists, layouts, kinds


@pytest.mark.parametrize("count", [1, 90, 700])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_list_of_any_length_is_one_call(simulator, count, dtype):
    """The table of tensors travels with the launch, with a larger one, or is written by kernels."""
    rng = np.random.default_rng(count)
    sizes = rng.integers(0, 40, count)

    def run():
        arrays = np.random.default_rng(1)
        p, g, m = ([arrays.standard_normal(n).astype(dtype) for n in sizes] for _ in range(3))
        v = [np.abs(a) + np.asarray(0.1, dtype) for a in m]
        options = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}
        ops.adamw_(p, g, m, v, step=3, **options)
        return p, m, v

    want = run()
    with on(simulator):
        got = run()
        norm = float(ops.global_norm(got[0]))
    for g, w in zip(got, want, strict=True):
        assert_all_same(g, w, f"{count} tensors")
    assert norm == pytest.approx(float(ops.global_norm(want[0])), rel=1e-6)


@pytest.mark.parametrize("p", [0.5, 1 / 3, 0.0, 1.0])
@pytest.mark.parametrize("packed", [False, True])
def test_masks_give_the_bits_of_the_cpu(simulator, p, packed):
    """Of parts of a warp and of several blocks, behind any address; nothing around is touched."""
    sizes = (0, 1, 7, 8, 9, 31, 33, 1016, 1023, 1024, 1025, 5000, 8 * 8192 + 1000)
    for n, lead, order in itertools.product(sizes, (0, 1, 4, 16), ORDERS):
        want = ops.dropout_mask(n, p, seed=2, offset=2**40, packed=packed)
        memory = np.full(want.size + 32, 0xA5, np.uint8)
        aligned = -memory.ctypes.data % 16
        out = memory[aligned + lead :][: want.size].view(want.dtype)
        with on(simulator, order):
            ops.dropout_mask(n, p, seed=2, offset=2**40, packed=packed, out=out)
        assert_all_same([out], [want], f"{n} elements, {lead} bytes off")
        out[:] = 0
        assert (memory == 0xA5).sum() == memory.size - want.size


@each_dtype
def test_layouts_give_the_bits_of_the_cpu(simulator, dtype):
    """Views: misaligned alike and differently, strided, reversed, broadcast, transposed."""
    base = (np.random.default_rng(0).standard_normal((2, 70, 60)) * 2).astype(dtype)
    views = [
        lambda a: a.ravel()[1:4000],
        lambda a: a.ravel()[3:4001],
        lambda a: a.ravel()[5:21],
        lambda a: a[:, ::2, 1:],
        lambda a: a[0, ::-1, ::-3],
        lambda a: a.transpose(2, 0, 1),
    ]
    for i, x_of in enumerate(views):
        for like_x in (True, False):
            results = []
            for backend in (contextlib.nullcontext(), on(simulator)):
                x, out = x_of(base.copy()), x_of(np.zeros_like(base))
                if not like_x:  # aligned and laid out unlike x
                    out = np.zeros(out.shape, out.dtype)
                with backend:
                    ops.gelu(x, out=out)
                    ops.dropout(out, 0.3, seed=2, offset=5, out=out)
                results.append(out.copy())
            assert_all_same([results[1]], [results[0]], f"view {i}")


def test_mixed_dtypes_in_one_call(simulator):
    """16-bit and float32 and float64 parameters in one list: two launches, the bits of the CPU."""

    def run():
        rng = np.random.default_rng(3)
        p = [rng.standard_normal(n).astype(d) for d in DTYPES for n in (33, 1025, 2)]
        g = [rng.standard_normal(a.size).astype(a.dtype) for a in p]
        b = [np.zeros(a.size, computing(a.dtype)) for a in p]
        ops.sgd_(p, g, b, step=1, lr=0.1, momentum=0.9)
        return p, b

    want = run()
    with on(simulator):
        got = run()
    for a, w in zip(got, want, strict=True):
        assert_all_same(a, w)


@pytest.mark.parametrize("cls", [optim.LARS, optim.LAMB, optim.Adafactor])
def test_norms_of_each_tensor_give_the_bits_of_the_cpu(simulator, cls):
    """What LARS, LAMB and diagnostics add up: parameters of all dtypes and layouts, some of many
    tiles, one at the end of float64's range, in one list and any order of threads."""

    def run():
        rng = np.random.default_rng(3)
        params = [rng.standard_normal(n).astype(d) for d in DTYPES for n in (0, 1, 33, 1025, 4099)]
        params += [rng.standard_normal(70001).astype(np.float32)[1:], 1e200 * np.ones(3000)]
        params += [rng.standard_normal((40, 60))[::2, ::-1], rng.standard_normal(()), np.zeros(5)]
        grads = [rng.standard_normal(p.shape).astype(p.dtype) for p in params]
        grads[7] = None
        opt = cls(params, lr=0.5, weight_decay=0.1, diagnostics=True)
        for _ in range(2):
            opt.step(grads, grad_scale=4.0, zero_grad=True)
            for g in grads:
                if g is not None:
                    assert not g.any()
                    g[...] = rng.standard_normal(g.shape)
        state = opt.state_dict()["state"]
        states = [entry[key] for entry in state.values() for key in entry if key != "step"]
        return params, states, [np.float64(each) for each in opt.per_parameter]

    want = run()
    for order in ORDERS:
        with on(simulator, order):
            got = run()
        for a, w in zip(got, want, strict=True):
            assert_all_same(a, w, str(order))


def test_rows_and_columns_give_the_bits_of_the_cpu(simulator):
    """Of Adafactor: matrices of many bands and strips, small ones by the dozen, vectors of many
    blocks, views, 16-bit and float64 in one list, steps that are skipped."""

    def run():
        rng = np.random.default_rng(3)
        shapes = [
            (130, 300),
            (12, 3, 3),
            (4300, 1),
            (1, 1030),
            (2, 70, 5),
            (2500,),
            (),
            (0, 3),
            (1, 1),
        ]
        params = [np.asarray(rng.standard_normal(s)).astype(np.float32) for s in shapes]
        params += [rng.standard_normal((33, 40)).astype(d) for d in DTYPES]
        params += [rng.standard_normal((4, 7, 6, 5)).transpose(0, 3, 1, 2)[::-1, :, ::2]]
        grads = [np.asarray(rng.standard_normal(p.shape)).astype(p.dtype) for p in params]
        opt = optim.Adafactor(params, lr=0.5, weight_decay=0.1)
        for _ in range(2):
            opt.step(grads, max_value=0.75, grad_scale=2.0)
        grads[1][0, 0, 0] = np.nan
        assert opt.step(grads, nonfinite="skip").skipped
        state = opt.state_dict()["state"]
        states = [entry[key] for entry in state.values() for key in entry if key != "step"]
        return params, states

    want = run()
    for order in ORDERS:
        with on(simulator, order):
            got = run()
        for a, w in zip(got, want, strict=True):
            assert_all_same(a, w, str(order))


def test_norms_of_more_tiles_than_threads_of_a_block(simulator):
    p, g = (np.random.default_rng(i).standard_normal(270_001).astype(np.float32) for i in (1, 2))
    found = []
    for backend in (contextlib.nullcontext(), on(simulator)):
        opt = optim.SGD([p], lr=0.0, diagnostics=True)
        with backend:
            opt.step([g])
        found.append(opt.per_parameter)
    assert found[0] == found[1]
    assert found[0].param_norm[0] == pytest.approx(np.linalg.norm(p.astype(float)), rel=1e-12)


RIDDEN = [v for v in VARIANTS if staged.riders_of(v)]
CODED = [v for v in RIDDEN if staged.may_be_coded(v)]


@pytest.mark.parametrize("variant", RIDDEN, ids=[v.label for v in RIDDEN])
@each_dtype
def test_stages_around_an_update_give_the_bits_of_the_cpu(simulator, variant, dtype):
    """All riders at once and one, states of fewer bits; views, late and zeroed gradients."""

    def run(riders, own, views):
        rng = np.random.default_rng(5)
        shapes = [(33,), (7, 5), (3, 4, 2), (2, 1031), (), (1025,), (0,)]
        params = [np.asarray(rng.standard_normal(s)).astype(dtype) for s in shapes]
        params += [v(rng.standard_normal((70, 60)).astype(dtype)) for v in views]
        opt = variant.make(params, lr=0.1, seed=9, **riders, **own)
        for t in range(2):
            grads = [np.asarray(rng.standard_normal(p.shape)).astype(dtype) for p in params]
            grads[1] = grads[1] if t else None
            opt.step(grads, grad_scale=2.0, max_value=0.4, zero_grad=t == 1)
            if t == 1:
                grads[2].flat[3] = np.inf
                opt.step(grads, nonfinite="skip")
        states = opt.state_dict()["state"].values()
        return [*params, *(a for s in states for k, a in s.items() if k != "step")]

    narrow = [{"stochastic_rounding": True}, {"master_weights": True}] * (dtype.itemsize == 2)
    wide = [{"state_dtype": "bfloat16"}] * (dtype.itemsize < 8 and BFLOAT16 is not None)
    views = [lambda a: a[::2, 1:], lambda a: a.T, lambda a: a.ravel()[3:4001]]
    coded = [{"state_dtype": "int8"}] * (dtype.itemsize < 8 and variant in CODED)
    for own in ({}, *narrow, *wide, *coded):
        all_of_it = staged.riders_of(variant)
        one = "ema_decay" if own or "cautious" not in all_of_it else "cautious"
        for riders in (all_of_it, {one: staged.RIDERS[one]}):
            want = run(riders, own, views)
            with on(simulator):
                got = run(riders, own, views)
            for g, w in zip(got, want, strict=True):
                assert_all_same([np.asarray(g)], [np.asarray(w)], f"{riders} {own}")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_any_magnitude_are_limited_to_the_bits_of_the_cpu(simulator, dtype):
    kind = np.finfo(dtype)
    sizes = np.array([[1.0], [0.0], [kind.max / 4], [kind.tiny * 8], [1e30], [1e-30], [np.inf]])

    def run(limit):
        p = (np.random.default_rng(3).uniform(-1, 1, (7, 131)) * sizes).astype(dtype)
        optim.SGD([p], lr=0.0, max_weight_norm=limit).step([np.zeros(p.shape, dtype)])
        return p

    for limit in (1.0, float(kind.max) / 64, float(kind.tiny) * 2):
        with np.errstate(invalid="ignore"):
            want = run(limit)
            with on(simulator):
                got = run(limit)
        assert_same(got, want)


@each_dtype
@pytest.mark.parametrize("amsgrad", [False, True])
def test_subnormal_moments_give_the_bits_of_the_cpu(simulator, dtype, amsgrad):
    """Optimizers take subnormal float32 values for zero, on every device."""
    least = float(np.finfo(np.float32).tiny)

    def run():
        rng = np.random.default_rng(0)
        p, g, m, v, top = (rng.standard_normal(1027) for _ in range(5))
        g[::3] = 0
        m[::2] *= least * 0.6
        v = np.where(np.arange(1027) % 5 < 3, np.abs(v) * least * 0.5, np.abs(v))
        top = np.abs(top) * least * 0.5
        p, g = p.astype(dtype), (g * 1e-3).astype(dtype)
        states = [[a.astype(computing(dtype))] for a in (m, v, top)]
        options = {"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-38, "weight_decay": 0.0}
        ops.adamw_([p], [g], *states[: 2 + amsgrad], step=2, **options)
        return p, *(s[0] for s in states)

    want = run()
    with on(simulator):
        got = run()
    assert_all_same(got, want)


@pytest.mark.parametrize("shape", [(6, 2), (6, 1100), (3, 2, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_at_both_ends_of_the_range(simulator, dtype, shape):
    """Cross entropy: a difference of logits overflows, but a small share of it does not."""
    far = np.finfo(dtype).max
    logits = np.zeros(shape, dtype)
    logits[:, 0], logits[:, 1], logits[1::2] = far, -far, 1.0
    target = np.full(shape, 0.125 / shape[1], dtype)
    want, gradient = ops.cross_entropy(logits, target, reduction="none")
    with on(simulator):
        loss, dlogits = ops.cross_entropy(logits, target, reduction="none")
    assert np.isfinite(loss).all()
    limit = (64 + shape[1]) * np.finfo(dtype).eps  # of additions one after the other
    np.testing.assert_allclose(loss, want, limit)
    limit *= np.abs(gradient).max()
    np.testing.assert_allclose(dlogits, gradient, rtol=0, atol=limit)


# A warp's row, a block's, and those of larger blocks: each size of group that shares a row.
ROWS_OF_LABELS = [(9, 301), (3, 1501), (2, 9001), (2, 33001)]


@pytest.mark.parametrize("shape", ROWS_OF_LABELS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_labelled_rows_of_every_length(simulator, shape, dtype):
    """Cross entropy with labels: each thread's share may be -Inf alone, and whole rows may."""
    rng = np.random.default_rng(11)
    logits = (4 * rng.standard_normal(shape)).astype(dtype)
    labels = rng.integers(0, shape[1], shape[0])
    labels[-1] = -100
    logits[0, : shape[1] - 2] = -np.inf
    labels[0] = shape[1] - 1
    weight = rng.uniform(0.5, 2, shape[1]).astype(np.float32)
    want, gradient = ops.cross_entropy(logits, labels, weight=weight, reduction="none")
    assert np.isfinite(want).all()
    logits[-1] = np.nan  # ignored, and not read
    with on(simulator):
        loss, dlogits = ops.cross_entropy(logits, labels, weight=weight, reduction="none")
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(loss, want, rtol=8 * eps)
    # A share of 16-bit storage is rounded once; float32's sums differ in their order.
    limit = (8 + shape[1] / 256) * np.finfo(np.float32).eps + eps * (dtype == "float16")
    limit *= np.abs(gradient).max()
    np.testing.assert_allclose(dlogits.astype(float), gradient.astype(float), rtol=0, atol=limit)
    assert not dlogits[-1].any()


@pytest.mark.parametrize("shape", ROWS_OF_LABELS, ids=str)
@pytest.mark.parametrize("odd", [-np.inf, np.inf, np.nan])
def test_labelled_rows_without_an_answer(simulator, shape, odd):
    """Nothing but -Inf, or a +Inf or NaN among numbers: NaN, as on the CPU."""
    logits = np.zeros(shape, np.float32)
    logits[0, : None if odd == -np.inf else 1] = odd
    labels = np.full(shape[0], shape[1] - 1)
    want, _ = ops.cross_entropy(logits, labels, reduction="none")
    with on(simulator):
        loss, dlogits = ops.cross_entropy(logits, labels, reduction="none")
    np.testing.assert_array_equal(np.isnan(loss), np.isnan(want))
    assert np.isnan(loss[0])
    assert np.isnan(dlogits[0]).any()
    assert np.isfinite(dlogits[1:]).all()


def test_small_probabilities_keep_their_digits(simulator):
    """Far below the maximum too: seven units in the last place, of float32."""
    logits = np.linspace(-80, -40, 1500, dtype=np.float32)[None]
    logits[0, 7] = 0
    with on(simulator):
        _, dlogits = ops.cross_entropy(logits, np.array([7]), reduction="sum")
    want = np.exp(logits[0].astype(np.float64))
    want /= want.sum()
    others = np.arange(1500) != 7
    np.testing.assert_allclose(dlogits[0, others], want[others], rtol=7 * 2.0**-23, atol=0)


def test_a_labelled_row_whose_logits_are_far_apart(simulator):
    """The difference to the maximum overflows, its product with the label's weight does not."""
    far = np.finfo(np.float32).max
    logits = np.zeros((2, 400), np.float32)
    logits[:, 0], logits[:, 1] = far, -far
    weight = np.full(400, 0.125, np.float32)
    labels = np.array([1, 0])
    with on(simulator):
        loss, _ = ops.cross_entropy(logits, labels, weight=weight, reduction="none")
    np.testing.assert_allclose(loss, [0.25 * far, 0], rtol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e-250, 1e250])
def test_a_norm_of_float32_and_float64_arrays(simulator, scale):
    """Two launches whose partial sums lie beside each other; squares that no double holds."""
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(900).astype(np.float32) * (scale == 1), rng.standard_normal(70)]
    arrays[1] *= scale
    want = np.sqrt(sum(np.sum((a.astype(np.float64) / scale) ** 2) for a in arrays)) * scale
    with on(simulator):
        assert float(ops.global_norm(arrays)) == pytest.approx(want, rel=1e-12, abs=0)


def test_subnormal_gradients_vanish_in_the_norm_of_a_device_alone(simulator):
    """A GPU's units take them for zero; the CPU does not."""
    gradient = np.full(100, np.finfo(np.float32).tiny / 3, np.float32)
    assert ops.global_norm([gradient]) == pytest.approx(10 * float(gradient[0]), rel=1e-12)
    with on(simulator):
        assert ops.global_norm([gradient]) == 0


@each_dtype
def test_masks_of_rows_give_the_bits_of_the_cpu(simulator, dtype):
    """Of any first element, in every kernel that draws: a warp's words, and a unit's."""
    x = np.random.default_rng(0).standard_normal((9, 5, 6, 7)).astype(dtype)
    w = np.ones(5, computing(dtype))
    how = {"dropout_p": 0.4, "seed": 3, "offset": 4}

    def run(first):
        norm, saved = ops.batch_norm(
            x, w, w, None, None, training=True, activation="relu", first=first, **how
        )
        rows, kept = ops.group_norm(x, 5, activation="relu", first=first, **how)
        return [
            ops.dropout(x, 0.4, seed=3, first=first),
            ops.dropout(x[:, ::2, :, 1:], 0.4, seed=3, first=first),
            ops.feature_dropout(x, 0.4, seed=3, first=first),
            ops.dropout_mask(5000, 0.4, seed=3, first=first),
            *(a != 0 for a in (norm, rows, *ops.batch_norm_backward(x, saved)[:1])),
            ops.group_norm_backward(x, kept)[0] != 0,
            ops.bias_act(x, w, activation="relu", first=first, **how),
            ops.bias_act_backward(x, x, w, activation="relu", first=first, **how)[0],
        ]

    for first in (0, 1, 31, 32, 100, 127, 128, 384, 2**40 + 77):
        want = run(first)
        with on(simulator, ORDERS[first % 3]):
            got = run(first)
        assert_all_same(got, want, f"first {first}")


@pytest.mark.parametrize("shape", [(9, 5), (4100, 5), (4, 2, 64, 68), (3, 8, 7, 7)], ids=str)
@each_dtype
def test_shares_of_a_batch(simulator, dtype, shape):
    """A batch norm of several ranks, also of some without a sample, on each path of the driver."""
    forward, backward = (
        next(case for case in CASES if case.name == name)
        for name in ("batch_norm", "batch_norm_backward")
    )
    for i, options in enumerate(o for o in forward.options if o["training"]):
        dy, *inputs = backward.inputs(shape, dtype, options)
        with on(simulator, ORDERS[i % 3]):
            got = by_shares([(0.3, 0.4), (0.0,), (1.0,)][i % 3], inputs[0], dy, *inputs[1:],
                            **options)  # fmt: skip
        want = forward.expect(tuple(inputs), options)
        want += backward.expect((dy, *inputs), options)
        more = math.sqrt(math.prod(shape) / shape[1])
        tolerances = [forward.tolerance] * 3 + [backward.tolerance] * 4
        for g, w, tolerance in zip(got, want, tolerances, strict=False):
            tolerance = dataclasses.replace(tolerance, least=more)
            assert_close(g, w, tolerance, dtype, f"{shape} {options}")


@wide
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shares_at_the_ends_of_the_range(simulator, dtype):
    for shape, last in [((33, 3), False), ((5, 6, 3), True)]:
        for magnitude in (1.0, *TOP[dtype]):
            given = arrays(shape, last, dtype, magnitude, 1.0)
            x, dy, w, b, _ = given
            mean, var = np.zeros(len(w), dtype), np.ones(len(w), dtype)
            with on(simulator):
                got = by_shares((0.5, 0.75), x, dy, w, b, mean, var, None, momentum=0.5,
                                channels_last=last)  # fmt: skip
            compare(got[:6], reference(*given, {}, last), dtype, last, f"{shape} {magnitude}")


SPLIT = [(2, 3, 91, 93), (4, 2, 64, 68), (4100, 5), (2060, 16), (90, 4, 7, 7), (3, 8, 7, 7)]


@pytest.mark.parametrize("shape", SPLIT, ids=str)
@each_dtype
def test_wide_and_split_shapes(simulator, dtype, shape):
    """Shapes beyond the rows': several blocks a channel, in planes, columns and odd planes."""
    for case in (case for case in CASES if case.family in ("norm", "channels")):
        for options in case.options:
            if not -len(shape) <= options.get("axis", 1) < len(shape):
                continue
            inputs = case.inputs(shape, dtype, options)
            want = case.expect(inputs, options)
            with on(simulator):
                got = case.run(inputs, options)
            label = f"{case.name}{shape} {options}"
            terms = math.prod(shape) / shape[options.get("axis", 1)]
            tolerance = dataclasses.replace(case.tolerance, least=math.sqrt(terms))
            assert_all_close(got, want, tolerance, dtype, label)


# ------------------------------------------------------------------------------------- the paths


@wide
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_at_the_ends_of_the_range(simulator, dtype):
    """As tests/test_norm_range.py has them for the CPU, on each path of the driver."""
    shapes = [((33, 3), False), ((8, 64), False), ((9000, 4), False), ((4, 2, 5, 5), False)]
    for shape, last in [*shapes, ((9, 1, 50, 40), False), ((5, 6, 3), True)]:
        for magnitude in (1.0, TOP[dtype][1], TOP[dtype][-1]):
            for gradient in (1.0, TOP[dtype][-1]):
                epilogues = ["plain", "residual, relu"]
                if gradient == 1:
                    epilogues += ["relu, dropout", "residual, sigmoid, dropout"]
                for name in epilogues:
                    given = arrays(shape, last, dtype, magnitude, gradient)
                    with on(simulator):
                        got = extreme(*given, EPILOGUES[name], last, name == "plain")
                    want = reference(*given, EPILOGUES[name], last)
                    compare(got, want, dtype, last, f"{shape} {magnitude} {gradient} {name}")


def test_the_path_of_a_shape(simulator):
    """Every element is in one block's share, no block is starved, small calls are one launch."""
    for outer in (1, 2, 32, 256, 65536):
        for channels in (1, 3, 64, 100, 513, 4096):
            for inner in (1, 2, 49, 196, 3136, 12544):
                for unit, again in [(1, 0), (2, 0), (4, 0), (1, 2), (2, 1), (4, 1), (4, 3)]:
                    path = simulator.channel_path(outer, channels, inner, unit, 4, again)
                    label = f"{outer, channels, inner, unit, again}: {path}"
                    width = path["width"]
                    assert width in (1, unit), label
                    if path["columns"]:
                        columns = channels * inner
                        together = path["lanes"] * width  # the columns of whole channels
                        assert inner == 1 or (inner % unit and inner <= 128), label
                        assert columns % width == 0, label
                        assert path["lanes"] <= max(32, inner), label
                        assert together % inner == 0, label
                        assert (path["groups"] - 1) * together < columns, label
                        assert path["groups"] * together >= columns, label
                        share = outer * together
                    else:
                        assert inner % width == 0, label
                        assert path["groups"] == channels, label
                        share = outer * inner
                    assert path["splits"] >= 1, label
                    assert path["whole"] or path["splits"] * 4096 < share + 4096, label
                    assert path["cluster"] == (path["splits"] if path["whole"] else 1), label
                    assert path["cluster"] in (1, 2, 4, 8), label
                    assert path["cluster"] == 1 or (again and width > 1), label
                    if share <= 16384:
                        assert path["whole"], label
                    if share * path["groups"] > 2**25:  # work for a whole GPU
                        assert path["groups"] * path["splits"] >= 128, label


@pytest.mark.parametrize("backward", [False, True])
def test_the_path_of_a_row(simulator, backward):
    """Short rows are held, all elements have a thread, long ones are whole or shared by many."""
    shapes = [(1, 8, n, 1) for n in (1, 7, 8, 33, 257, 1000, 4096, 4097, 8192, 16385, 2**20)]
    shapes += [(64, 32, 8, 49), (2, 32, 10, 4096), (1, 4096, 1, 1024), (128, 256, 1, 3136)]
    shapes += [(2, 1, 64, 200 * 200), (1, 1, 1, 1), (9, 70_000, 1, 64)]
    for samples, groups, channels, inner in shapes:
        for outer in (samples, 1000 * samples):
            for unit in (1, 2, 4, 8):
                double = unit == 2
                path = simulator.row_norm_path(
                    outer, groups, channels, inner, unit, double, backward
                )
                label = f"{outer, groups, channels, inner, unit}: {path}"
                length, rows, kind = channels * inner, outer * groups, path["kind"]
                assert path["width"] in (1, unit), label
                assert 1 <= path["parts"] <= max(1, min(outer // 4, 264)), label
                if kind == "held":
                    assert length % path["width"] == 0, label
                    assert not backward or inner == 1, label
                    assert length <= path["lanes"] * path["kept"] <= 2 * length + 16, label
                    assert path["lanes"] <= (256 if double else 512), label
                    assert path["kept"] % path["width"] == 0, label
                    continue
                assert (inner if inner > 1 else length) % path["width"] == 0, label
                assert path["lanes"] <= 32, label
                planes = channels if backward and inner > 1 else 1
                assert path["pieces"] == planes * path["splits"], label
                plane = length // planes
                assert path["splits"] == 1 or path["splits"] * 1024 < plane + 1024, label
                assert kind != "warps" or length <= 2048, label
                assert kind == "split" or path["apply_splits"] == 1, label
                if rows >= 264 or length <= 16384:
                    assert kind != "split", label
                elif length * rows > 2**25:  # work for a whole GPU
                    assert path["pieces"] * rows >= 1056, label
                    assert path["apply_splits"] * rows >= 264, label
