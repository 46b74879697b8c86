"""Activations where a random input does not lead: limits, special values, every 16-bit number."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from cases import BFLOAT16, Tolerance, as_float64, label_of
from cases.activations import ACTIVATIONS, FORMS
from helpers import assert_close, assert_same, each_dtype, each_form
from onepass import ops


@each_dtype
@each_form
def test_activation_at_special_values(record, form, dtype):
    """Each special value at each place of a vector and its tail; neighbours are not disturbed."""
    name, options = record.name, form.options
    forward, backward = record.op, record.op_backward
    huge = 6e4 if dtype == np.float16 else 1e38
    tiny = {"float64": 1e-310, "float16": 1e-6}.get(dtype.name, 1e-40)
    table = [(-math.inf, form.below, form.slope_below), (math.inf, form.above, form.slope_above)]
    table.append((math.nan,) * 3)
    for x in (0.0, -0.0, huge, -huge, tiny, -tiny, 1.0, -1.0, 20.0, -20.0, 90.0, -90.0):
        x = as_float64(np.asarray(x).astype(dtype))
        slope = record.reference_backward(np.float64(1), x, **options)
        table.append((x, record.reference(x, **options), slope))
    rng = np.random.default_rng(1)
    clean = rng.standard_normal(67).astype(dtype)
    dy = rng.standard_normal(67).astype(dtype)
    y_clean, dx_clean = forward(clean, **options), backward(dy, clean, **options)

    def close(got, want, allowed, label, x):
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
            close(y[at], y_want, record.forward, label, special)
            close(dx[at], as_float64(fits), record.backward, f"{label}, gradient", special)
            others = np.arange(67) != at
            assert_same(y[others], y_clean[others], label)
            assert_same(dx[others], dx_clean[others], f"{label}, gradient")


@each_dtype
@pytest.mark.parametrize("record", ACTIVATIONS, ids=lambda record: record.name)
def test_activation_keeps_nan_and_the_sign_of_zero(record, dtype):
    x = np.linspace(-5, 5, 35).astype(dtype)
    dy = np.full(35, math.nan, dtype)
    assert np.isnan(as_float64(record.op_backward(dy, x))).all()
    if record.odd_at_0:
        y = as_float64(record.op(np.array([0.0, -0.0], dtype)))
        assert np.signbit(y).tolist() == [False, True]


NUMERICS = (Path(__file__).parents[1] / "docs" / "numerics.md").read_text()


@pytest.mark.parametrize(
    ("record", "form"),
    # float64 decides elsewhere what is above a threshold.
    [(record, form) for record, form in FORMS if "threshold" not in form.options],
    ids=lambda v: getattr(v, "name", None) or label_of(v.options),
)
def test_float32_is_as_exact_as_the_table_of_numerics_says(record, form):
    """The table is of every 101st float; this is a sample, of every exponent that matters."""
    label = " ".join(filter(None, [record.name, label_of(form.options).replace(",", ", ")]))
    row = re.search(rf"^\| {re.escape(label)} \| ([^,]+),", NUMERICS, re.M)
    assert row, f"docs/numerics.md has no row of {label}: python bench/ulps.py --every 101"
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.uniform(-15, 15, 6000), 2.0 ** rng.uniform(-24, 6.5, 6000)])
    x = np.concatenate([x, -x]).astype(np.float32)
    want = record.reference(as_float64(x), **form.options)
    _, exponent = np.frexp(want)
    error = np.abs(record.op(x, **form.options) - want) / 2.0 ** np.maximum(exponent - 24, -149)
    worst = int(error.argmax())
    assert error[worst] <= float(row[1]) + 0.01, f"{error[worst]} ulp at {x[worst]}"


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


@pytest.mark.parametrize("place", [0, 1023, 1024, 2500, 4098])
def test_a_large_element_leaves_the_sines_of_other_blocks_as_they_are(place):
    """Blocks without one take a shorter way, also in place."""
    x = np.linspace(-30, 30, 4099).astype(np.float32)
    dy = np.linspace(1, 2, 4099).astype(np.float32)
    y, dx = ops.sin(x), ops.sin_backward(dy, x)
    x[place] = -3e20
    y[place], dx[place] = np.sin(np.float64(x[place])), dy[place] * np.cos(np.float64(x[place]))
    got = ops.sin_backward(dy, x)
    assert abs(got[place] - dx[place]) <= 2**-23 * abs(dx[place])
    got[place] = dx[place]
    assert_same(got, dx)
    assert_same(ops.sin(x, out=x), y)
