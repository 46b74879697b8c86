"""Every row of cases.CASES against its float64 reference, every element, in every dtype; then the
edges that a random input does not meet."""

import itertools
import math

import numpy as np
import pytest
import reference as ref
from cases import BFLOAT16, BY_NAME, CASES, DTYPES, SIGNIFICAND, Tolerance, as_float64, computing
from helpers import (
    CASE_IDS,
    DTYPE_IDS,
    assert_all_close,
    assert_all_same,
    assert_close,
    assert_same,
    bits,
    from_torch,
    mapped,
    sweep,
    to_torch,
)
from onepass import ops

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)
each_case = pytest.mark.parametrize("case", CASES, ids=CASE_IDS)


@each_dtype
@each_case
def test_against_reference(case, dtype):
    for label, shape, options in sweep(case):
        inputs = case.inputs(shape, dtype, options)
        want = case.expect(inputs, options)
        got = case.run(inputs, options)
        assert_all_close(got, want, case.tolerance, dtype, label)


@each_dtype
@each_case
def test_results_keep_the_dtype(case, dtype):
    shape = next(s for s in case.shapes if math.prod(s) > 1)
    results = case.run(case.inputs(shape, dtype, case.options[0]), case.options[0])
    first = results[0][0] if isinstance(results[0], list) else results[0]
    if case.name not in ("cross_entropy", "global_norm", "dropout_mask"):
        assert first.dtype == dtype
    for vector in results[1:]:  # running statistics, dbias, dweight, optimizer state
        vector = vector[0] if isinstance(vector, list) else vector
        if vector is not None and vector.shape != first.shape and vector.ndim == 1:
            assert vector.dtype == computing(dtype), case.name


@each_dtype
@each_case
def test_torch_tensors_give_the_same_bits(case, dtype):
    torch = pytest.importorskip("torch")

    def back(value):
        if isinstance(value, list):
            return [back(v) for v in value]
        return from_torch(value) if isinstance(value, torch.Tensor) else value

    for label, shape, options in sweep(case, shapes=case.shapes[2:6]):
        want = case.run(case.inputs(shape, dtype, options), options)
        got = case.run(mapped(to_torch, case.inputs(shape, dtype, options)), options)
        if case.name not in ("global_norm", "dropout_mask"):
            first = got[0][0] if isinstance(got[0], list) else got[0]
            assert isinstance(first, torch.Tensor), f"{label}: outputs come back as {type(first)}"
        assert_all_same(back(list(got)), list(want), label)


@each_case
def test_calls_repeat(case):
    shape = case.shapes[-1]
    for options in case.options:
        first = case.run(case.inputs(shape, "float32", options), options)
        again = case.run(case.inputs(shape, "float32", options), options)
        assert_all_same(again, first, f"{case.name} {options}")


# ------------------------------------------------------------------------------------ activations

INF = math.inf
LIMITS = {  # f(-Inf), f(Inf), f'(-Inf), f'(Inf)
    ("identity", ""): (-INF, INF, 1, 1),
    ("relu", ""): (0, INF, 0, 1),
    ("leaky_relu", ""): (-INF, INF, 0.01, 1),
    ("sigmoid", ""): (0, 1, 0, 0),
    ("tanh", ""): (-1, 1, 0, 0),
    ("gelu", "none"): (0, INF, 0, 1),
    ("gelu", "tanh"): (0, INF, 0, 1),
    ("silu", ""): (0, INF, 0, 1),
}


def test_every_activation_has_its_limits_here():
    assert {name for name, _ in LIMITS} == set(ref.ACTIVATIONS)


@each_dtype
@pytest.mark.parametrize(("name", "form"), LIMITS)
def test_activation_at_special_values(name, form, dtype):
    """Each special value at each place of a vector and its tail; neighbours are not disturbed."""
    options = {"approximate": form} if form else {}
    forward, backward = getattr(ops, name), getattr(ops, f"{name}_backward")
    below, above, slope_below, slope_above = LIMITS[name, form]
    huge = 6e4 if dtype == np.float16 else 1e38
    tiny = {"float64": 1e-310, "float16": 1e-6}.get(dtype.name, 1e-40)
    table = [(-INF, below, slope_below), (INF, above, slope_above), (math.nan,) * 3]
    for x in (0.0, -0.0, huge, -huge, tiny, -tiny, 1.0, -1.0, 20.0, -20.0, 90.0, -90.0):
        x = as_float64(np.asarray(x).astype(dtype))
        y = ref.activation(name, x, **options)
        table.append((x, y, ref.activation_backward(name, np.float64(1), x, **options)))
    rng = np.random.default_rng(1)
    clean = rng.standard_normal(67).astype(dtype)
    dy = rng.standard_normal(67).astype(dtype)
    y_clean, dx_clean = forward(clean, **options), backward(dy, clean, **options)

    def close(got, want, row, label, x):
        allowed = BY_NAME[row].tolerance
        peak = allowed.peak * abs(x) if abs(x) < 100 else 0  # eps of x, where Φ cancels
        assert_close(got, want, Tolerance(allowed.rel + 1, peak), dtype, label)

    for special, y_want, slope in table:
        for at in (0, 7, 15, 16, 31, 40, 63, 64, 66):
            x = clean.copy()
            x[at] = special
            g = dy.copy()
            g[at] = 2
            label = f"{name} at {special}, place {at}"
            y, dx = forward(x, **options), backward(g, x, **options)
            with np.errstate(over="ignore"):
                fits = np.asarray(2 * slope).astype(dtype)
            close(y[at], y_want, name, label, special)
            close(dx[at], as_float64(fits), f"{name}_backward", f"{label}, gradient", special)
            others = np.arange(67) != at
            assert_same(y[others], y_clean[others], label)
            assert_same(dx[others], dx_clean[others], f"{label}, gradient")


@each_dtype
@pytest.mark.parametrize("name", ref.ACTIVATIONS)
def test_activation_keeps_nan_and_the_sign_of_zero(name, dtype):
    x = np.linspace(-5, 5, 35).astype(dtype)
    dy = np.full(35, math.nan, dtype)
    assert np.isnan(as_float64(getattr(ops, f"{name}_backward")(dy, x))).all()
    if name in ("identity", "leaky_relu", "tanh", "gelu", "silu"):  # odd around 0
        y = as_float64(getattr(ops, name)(np.array([0.0, -0.0], dtype)))
        assert np.signbit(y).tolist() == [False, True]


@each_dtype
def test_identity_and_relu_copy_every_bit(dtype):
    """All 16-bit patterns: subnormals are not flushed, nothing is rounded on the way."""
    if dtype.itemsize == 2:
        x = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    else:
        tiny = 2.0 ** (-1070 if dtype == np.float64 else -145)
        x = (np.arange(-40, 40) * tiny).astype(dtype)
    with np.errstate(invalid="ignore"):
        x = x[~np.isnan(x)]
    assert_same(ops.identity(x), x)
    assert_same(ops.relu(x[x > 0]), x[x > 0])


@pytest.mark.skipif(BFLOAT16 is None, reason="needs ml_dtypes")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding_to_16_bits_is_to_nearest_even(dtype):
    """Products whose float32 value lies on and beside the middle of two 16-bit numbers."""
    dtype = BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype)
    x = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    with np.errstate(invalid="ignore"):
        x = x[np.isfinite(x)]
    for slope in (0.5, 0.75, 1 / 3, 1.25, 2.0):
        with np.errstate(over="ignore"):
            product = x.astype(np.float32) * np.float32(slope)
            want = np.where(x.astype(np.float32) > 0, x.astype(np.float32), product).astype(dtype)
        assert_same(ops.leaky_relu(x, negative_slope=slope), want, f"slope {slope}")


# ---------------------------------------------------------------------------------------- dropout

RATES = [0.5, 0.25, 0.1, 0.9, 1 / 3, 2.0**-32, 1 - 2.0**-24, 0.0, 1.0]


@pytest.mark.parametrize("p", RATES)
def test_mask_is_the_normative_one(p):
    for shape in [(0,), (1,), (31,), (33,), (127,), (129,), (4095,), (4097,), (3, 43), (7, 3, 999)]:
        for seed, offset in ((0, 0), (1, 0), (2**64 - 1, 2**63 + 12345), (2**32, 2**32)):
            want = ref.dropout_mask(shape, p, seed=seed, offset=offset)
            label = f"{shape} p={p} seed={seed} offset={offset}"
            mask = ops.dropout_mask(shape, p, seed=seed, offset=offset)
            assert mask.dtype == np.bool_, label
            assert_same(mask, want, label)
            packed = ops.dropout_mask(shape, p, seed=seed, offset=offset, packed=True)
            assert_same(packed, np.packbits(want.ravel(), bitorder="little"), f"{label} packed")
            ones = np.ones(shape, np.float32)
            assert_same(ops.dropout(ones, p, seed=seed, offset=offset) != 0, want, label)


def test_threshold_is_exact():
    """An element whose fraction equals p is kept, and dropped when p is one step larger."""
    u = ref.uniform_bits(1000, 21, 5)
    for e in (0, 1, 31, 127, 128, 500, 999):
        for step in (-1, 0, 1):
            p = (int(u[e]) + step) / 2**32
            mask = ops.dropout_mask((1000,), p, seed=21, offset=5)
            assert mask[e] == (step <= 0), (e, step)
            assert_same(mask, ref.dropout_mask((1000,), p, seed=21, offset=5))


@each_dtype
@pytest.mark.parametrize("p", [0.5, 0.1, 1 / 3])
def test_kept_values_are_scaled_by_one_rounded_factor(p, dtype):
    compute = computing(dtype)
    x = np.random.default_rng(0).standard_normal(5001).astype(dtype)
    keep = ref.dropout_mask(x.shape, p, seed=9)
    scaled = (x.astype(compute) * compute.type(ref.dropout_scale(p))).astype(dtype)
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


# ------------------------------------------------------------------------------------- batch norm


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
                want = ref.BatchNorm(x.astype(np.float64), None, None, None, None, training=True)
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
            want = ref.BatchNorm(as_float64(x), None, None, None, None, training=True)
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
            want = ref.BatchNorm(as_float64(x), None, None, None, None, training=True, eps=eps)
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
    want = ref.BatchNorm(as_float64(x), None, None, None, None, training=True)
    dx = as_float64(ops.batch_norm_backward(dy, _norm(x)[1])[0])
    axes = tuple(i for i in range(x.ndim) if i != 1)
    terms = np.abs(as_float64(dy)).max(axis=axes, keepdims=True)
    terms = terms * want.invstd.reshape(terms.shape)
    exact = want.backward(as_float64(dy))[0]
    eps = 2.0 ** (1 - SIGNIFICAND[computing(dtype).name])
    assert (np.abs(dx - exact) <= 16 * eps * terms + 2.0 ** -SIGNIFICAND[dtype.name] * np.abs(exact)
            + 2.0**-24 * (dtype.itemsize == 2)).all()  # fmt: skip


@each_dtype
def test_saved_stays_valid(dtype):
    """A backward can be repeated, and later forwards do not reach into it."""
    rng = np.random.default_rng(8)
    x, dy = rng.standard_normal((2, 9, 5)).astype(dtype)
    _, saved = _norm(x, activation="relu", dropout_p=0.3, seed=1)
    first = ops.batch_norm_backward(dy, saved)
    _norm(x * 2, activation="tanh")
    assert_all_same(ops.batch_norm_backward(dy, saved), first)


# ---------------------------------------------------------------------------------- cross entropy


def _loss_close(logits, target, **options):
    loss, dlogits = ops.cross_entropy(logits, target, **options)
    wide = {k: as_float64(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    want = ref.cross_entropy(as_float64(logits), as_float64(target), **wide)
    tolerance = BY_NAME["cross_entropy"].tolerance
    label = f"{options}"
    assert_close(np.asarray(loss), want[0], tolerance, logits.dtype, label)
    assert_close(dlogits, want[1], tolerance, logits.dtype, label)
    return loss, dlogits


@each_dtype
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_all_targets_ignored(dtype, label_smoothing):
    logits = np.random.default_rng(0).standard_normal((5, 7)).astype(dtype)
    target = np.full(5, -100)
    for reduction, want in (("mean", math.nan), ("sum", 0.0), ("none", [0.0] * 5)):  # as PyTorch
        loss, dlogits = ops.cross_entropy(
            logits, target, reduction=reduction, label_smoothing=label_smoothing
        )
        np.testing.assert_array_equal(as_float64(np.asarray(loss)), want)
        assert (dlogits == 0).all(), reduction


@each_dtype
def test_an_ignored_row_may_hold_anything(dtype):
    logits = np.zeros((4, 3), dtype)
    logits[1] = math.nan
    logits[2] = [math.inf, -math.inf, math.nan]
    loss, dlogits = ops.cross_entropy(logits, np.array([0, -100, -100, 1]))
    assert float(loss) == pytest.approx(math.log(3), rel=4 * 2.0 ** -SIGNIFICAND[dtype.name])
    assert (dlogits[1:3] == 0).all()
    assert np.isfinite(as_float64(dlogits)).all()


@each_dtype
def test_minus_infinity_masks_a_class(dtype):
    logits = np.random.default_rng(1).standard_normal((6, 9)).astype(dtype)
    logits[:, [2, 5]] = -math.inf
    logits[3, :8] = -math.inf  # one class left
    loss, dlogits = _loss_close(logits, np.array([0, 1, 3, 8, 7, 8]), reduction="none")
    assert (dlogits[:, 2] == 0).all()
    assert as_float64(loss)[3] == 0
    loss, _ = ops.cross_entropy(logits, np.array([2, 1, 3, 8, 7, 8]), reduction="none")
    assert as_float64(loss)[0] == math.inf  # an impossible target


@each_dtype
def test_huge_logits(dtype):
    huge = 6e4 if dtype == np.float16 else 1e37
    logits = np.array([[huge, -huge, 0], [-huge, -huge, -huge], [huge, huge, huge]], dtype)
    target = np.array([0, 1, 2])
    loss, dlogits = ops.cross_entropy(logits, target, reduction="none")
    limit = 8 * 2.0 ** -SIGNIFICAND[dtype.name]
    np.testing.assert_allclose(as_float64(loss), [0, math.log(3), math.log(3)], rtol=limit)
    want = np.full((3, 3), 1 / 3) - np.eye(3)
    want[0] = 0
    np.testing.assert_allclose(as_float64(dlogits), want, rtol=limit, atol=limit)


@pytest.mark.parametrize("label", [-1, 5, 2**40, -(2**63), 2**63 - 1])
def test_a_label_out_of_range_is_an_index_error(label):
    logits = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    out = np.full_like(logits, 7)
    target = np.array([0, 1, label, 2])
    with pytest.raises(IndexError, match=str(label)):
        ops.cross_entropy(logits, target, out=out)
    assert (out == 7).all()
    with pytest.raises(IndexError):
        ops.cross_entropy(logits, target, ignore_index=3)
    ops.cross_entropy(logits, target, ignore_index=label)  # and a name for it makes it legal


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_label_dtypes(dtype):
    logits = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    target = np.array([0, 4, 2, 1])
    want = ops.cross_entropy(logits, target)
    got = ops.cross_entropy(logits, target.astype(dtype))
    assert_all_same(map(np.asarray, got), map(np.asarray, want))


# -------------------------------------------------------------------------------------------- norm


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
    want = ref.global_norm([as_float64(a) for a in arrays])
    assert float(ops.global_norm(arrays)) == pytest.approx(want, rel=1e-6)
    assert bits(np.float64(ops.global_norm(arrays))) == bits(np.float64(ops.global_norm(arrays)))
