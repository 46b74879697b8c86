"""Cross entropy where a target is 0 and a logit -Inf, and where rows are wide."""

import numpy as np
import pytest
from cases import BFLOAT16
from helpers import assert_same
from onepass import ops

WIDE = [np.dtype(np.float16), *([BFLOAT16] if BFLOAT16 is not None else [])]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_class_that_cannot_be_takes_no_part_where_its_target_is_zero(dtype, weighted):
    """One-hot probabilities are labels: also with logits of -Inf at the other classes."""
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((6, 5)).astype(dtype), np.array([0, 1, 2, 3, 4, 1])
    logits[np.arange(6), (labels + 1) % 5] = -np.inf
    weight = np.linspace(0.5, 2.5, 5).astype(dtype) if weighted else None
    hot = np.eye(5, dtype=dtype)[labels]
    loss, gradient = ops.cross_entropy(logits, hot, weight=weight, reduction="sum")
    want, want_gradient = ops.cross_entropy(logits, labels, weight=weight, reduction="sum")
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(loss, want, 4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(gradient, want_gradient, 0, 8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("classes", [1024, 1025, 1500, 2048, 2049])
@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_wide_rows_of_sixteen_bit_logits(classes, dtype):
    rng = np.random.default_rng(classes)
    logits = (2 * rng.standard_normal((4, classes))).astype(dtype)
    labels = rng.integers(0, classes, 4)
    loss, gradient = ops.cross_entropy(logits, labels, reduction="sum")
    wide = logits.astype(np.float64)
    e = np.exp(wide - wide.max(axis=1, keepdims=True))
    share = e / e.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(float(loss), -np.log(share[range(4), labels]).sum(), 1e-5)
    share[range(4), labels] -= 1
    # Half a unit in the last place of the stored type, and float32's roundings before it.
    eps = 2.0**-11 if dtype == np.float16 else 2.0**-8
    smallest = 2.0**-24 if dtype == np.float16 else 0
    error = np.abs(gradient.astype(np.float64) - share)
    assert (error <= (eps + 1e-5) * np.abs(share) + smallest).all()


def test_an_output_that_cannot_be_written_is_refused():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((4, 4)).astype(np.float32)
    probabilities, weight = np.full((4, 4), 0.25, np.float32), np.ones(4, np.float32)
    labels = np.array([0, 1, 2, 3])
    frozen = np.zeros((4, 4), np.float32)
    frozen.setflags(write=False)
    buffer = np.zeros(20, np.float32)
    over_target, over_weight = buffer[:16].reshape(4, 4), buffer[16:]
    over_target[...] = probabilities
    over_weight[...] = weight
    for call, message in [
        (lambda: ops.cross_entropy(logits, labels, out=frozen), "'out' is read-only"),
        (
            lambda: ops.cross_entropy(
                logits, over_target, out=buffer[2:18].reshape(4, 4)
            ),
            "'out' overlaps|overlaps 'out'",
        ),
        (
            lambda: ops.cross_entropy(logits, labels, weight=over_weight,
                                      out=buffer[4:].reshape(4, 4)),
            "'out' overlaps|overlaps 'out'",
        ),
    ]:  # fmt: skip
        before = (frozen.copy(), buffer.copy())
        with pytest.raises(ValueError, match=message):
            call()
        assert_same(frozen, before[0])
        assert_same(buffer, before[1])
