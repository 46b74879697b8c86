"""Cross entropy at the edges: ignored rows, masked classes, huge logits, wrong labels."""

import math

import numpy as np
import pytest
from cases import BY_NAME, SIGNIFICAND, as_float64
from cases.losses import cross_entropy
from helpers import assert_all_same, assert_close, each_dtype
from onepass import ops


def _loss_close(logits, target, **options):
    loss, dlogits = ops.cross_entropy(logits, target, **options)
    wide = {k: as_float64(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    want = cross_entropy(as_float64(logits), as_float64(target), **wide)
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


def _in_longdouble(logits, target, weight, smoothing):
    """Losses of (N, C) logits, finite wherever they are finite numbers of any type."""
    x = logits.astype(np.longdouble)
    x -= x.max(axis=1, keepdims=True)
    classes = logits.shape[1]
    share = target.astype(np.longdouble) * (1 - smoothing) + np.longdouble(smoothing) / classes
    share *= weight
    sums = np.log(np.exp(x).sum(axis=1, keepdims=True))
    return (share * (sums - x)).sum(axis=1), np.exp(x - sums) * share.sum(1, keepdims=True) - share


@pytest.mark.parametrize("inner", [1, 3])
@pytest.mark.parametrize("classes", [2, 7, 2500])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_at_both_ends_of_the_range(dtype, smoothing, classes, inner):
    """A difference of logits overflows, but a small share of it does not."""
    rng = np.random.default_rng(0)
    far = np.finfo(dtype).max
    logits = (rng.standard_normal((4 * inner, classes)) * (far / 8)).astype(dtype)
    logits[0, :2], logits[1, :2], logits[2, :2] = (far, -far), (-far, far), (far, far)
    logits[3] = rng.standard_normal(classes)
    weight = (rng.random(classes) / 4).astype(dtype)
    labels = rng.integers(0, classes, 4 * inner)
    labels[:3] = 0, 0, 1
    probabilities = rng.random((4 * inner, classes)).astype(dtype)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    moved = lambda a: np.moveaxis(a.reshape(4, inner, classes), 2, 1) if inner > 1 else a  # noqa: E731
    flat = lambda a: np.moveaxis(a, 1, 2).reshape(-1, classes) if inner > 1 else a  # noqa: E731
    limit = 64 * np.finfo(dtype).eps
    for target, shares in ((labels, np.eye(classes)[labels]), (probabilities, probabilities)):
        want, gradient = _in_longdouble(logits, shares, weight.astype(np.longdouble), smoothing)
        if target is labels:
            target = labels.reshape(4, inner) if inner > 1 else labels
        else:
            target = np.ascontiguousarray(moved(target))
        x = np.ascontiguousarray(moved(logits))
        loss, dlogits = ops.cross_entropy(
            x, target, weight=weight, label_smoothing=smoothing, reduction="none", out=x
        )
        np.testing.assert_allclose(loss.ravel().astype(np.longdouble), want, limit)
        np.testing.assert_allclose(flat(dlogits), gradient.astype(dtype), limit, limit)


def test_a_mean_of_losses_that_exceed_the_dtype():
    far = np.finfo(np.float32).max
    logits = np.float32([[far, -far], [0, 0], [0, 0], [0, 0]])
    loss, _ = ops.cross_entropy(logits, np.array([1, 0, 0, 0]))
    assert float(loss) == pytest.approx(float(far) / 2)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 5, 1), ()])
def test_float_labels_are_told_apart_from_probabilities(shape):
    logits = np.zeros((4, 5), np.float32)
    for dtype in (np.float32, np.float64, np.float16):
        target = np.zeros(shape, dtype)
        with pytest.raises((TypeError, ValueError)) as error:
            ops.cross_entropy(logits, target)
        message = str(error.value)
        assert message.startswith(
            f"cross_entropy: 'target' has dtype {np.dtype(dtype)} and shape {shape}, expected "
            "integer class indices of shape (4,), or probabilities of shape (4, 5) like 'logits'"
        )
        assert message.endswith("makes integers of labels") == (shape == (4,))


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


def test_no_class_of_probabilities_is_ignored():
    """As in PyTorch: a share of a class cannot be left out, so the index would do nothing."""
    logits = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    out, shares = np.full_like(logits, 7), np.full_like(logits, 0.2)
    for index in (0, 4, 99):
        with pytest.raises(ValueError, match=f"'ignore_index' is {index}, expected a negative one"):
            ops.cross_entropy(logits, shares, ignore_index=index, out=out)
    assert (out == 7).all()
    assert ops.cross_entropy(logits, shares, ignore_index=-1)[0] > 0


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_label_dtypes(dtype):
    logits = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    target = np.array([0, 4, 2, 1])
    want = ops.cross_entropy(logits, target)
    got = ops.cross_entropy(logits, target.astype(dtype))
    assert_all_same(map(np.asarray, got), map(np.asarray, want))


@pytest.mark.parametrize("rows", [63, 64, 65, 200, 300])
@pytest.mark.parametrize("classes", [3, 60])
def test_more_rows_than_a_tile_holds(rows, classes):
    rng = np.random.default_rng(rows)
    logits, labels = rng.standard_normal((rows, classes)), rng.integers(0, classes, rows)
    loss, dlogits = ops.cross_entropy(logits, labels, reduction="none")
    want, gradient = _in_longdouble(logits, np.eye(classes)[labels], np.ones(classes), 0.0)
    np.testing.assert_allclose(loss, want.astype(np.float64), rtol=1e-13)
    np.testing.assert_allclose(dlogits, gradient.astype(np.float64), atol=1e-15)
