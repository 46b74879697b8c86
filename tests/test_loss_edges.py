"""Cross entropy where a target is 0 and a logit -Inf, and where rows are wide."""

import math

import numpy as np
import pytest
from cases import BFLOAT16
from helpers import assert_same
from onepass import nn, ops, optim
from onepass.train import Trainer

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


def test_whatever_is_no_array_of_real_numbers_is_refused_by_losses():
    """A complex target lost its imaginary part, and a masked one got the mean of its unmasked
    elements with the gradient of all."""
    x = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    mask = x > 0
    wrong = {
        "complex": (x, x + 1j), "complex outputs": (x + 1j, x), "objects": (x, x.astype(object)),
        "masked": (x, np.ma.array(x, mask=mask)), "masked outputs": (np.ma.array(x, mask=mask), x),
        "a number": (x, 5.0), "a list": (x, x.tolist()), "nothing": (x, None), "text": (x, "a"),
        "a buffer": (x, memoryview(x)), "whole outputs": (x.astype(int), x),
        "big-endian": (x.astype(">f4"), x), "words": (x, x.astype(str)),
    }  # fmt: skip
    for loss in (nn.MSELoss(), nn.CrossEntropyLoss()):
        for y, target in wrong.values():
            with pytest.raises(TypeError, match=f"^{type(loss).__name__}: '(y|target)'"):
                loss(y, target)  # a case that passes shows up as y and target here
    with pytest.raises(ValueError, match=r"'y' has shape \(3,\), expected \(N, C\)"):
        nn.CrossEntropyLoss()(x[0], np.arange(3))


@pytest.mark.parametrize("y_dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint64"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_gradient_of_the_squared_error_is_like_the_outputs(y_dtype, dtype, reduction):
    rng = np.random.default_rng(0)
    y, target = rng.integers(0, 9, (5, 3)).astype(y_dtype), rng.integers(0, 9, (5, 3)).astype(dtype)
    loss, dy = nn.MSELoss(reduction=reduction)(y, target)
    exact = y.astype(np.float64) - target.astype(np.float64)
    assert dy.dtype == y.dtype
    scale = 2 / 15 if reduction == "mean" else 2
    np.testing.assert_allclose(dy, scale * exact, rtol=2e-3 if y_dtype == "float16" else 1e-6)
    square = {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction](exact**2)
    # In the type that y computes in, as the functions return it; for "none" in that of y.
    np.testing.assert_allclose(loss, square, rtol=1e-15 if y_dtype == "float64" else 1e-7)


def test_a_mean_over_nothing_is_nan_as_in_pytorch():
    empty = np.zeros((0, 3), np.float32)
    for loss, target in ((nn.MSELoss(), empty), (nn.CrossEntropyLoss(), np.zeros(0, np.int64))):
        value, dy = loss(empty, target)
        assert np.isnan(value)
        assert dy.shape == (0, 3)


def test_class_weights_of_another_library_or_range():
    logits = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    labels = np.arange(6) % 3
    with pytest.raises(ValueError, match=r"'weight' has 1e\+300 at 0, expected .* float32"):
        nn.CrossEntropyLoss(weight=[1e300, 1, 1])(logits, labels)
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.float64):
        ours = nn.CrossEntropyLoss(weight=torch.tensor([1, 2, 3], dtype=dtype))(logits, labels)
        want = nn.CrossEntropyLoss(weight=[1, 2, 3])(logits, labels)
        assert_same(ours[1], want[1])
    with pytest.raises(TypeError, match="'weight' is a ndarray and 'y' a Tensor"):
        nn.CrossEntropyLoss(weight=[1.0, 2, 3])(torch.tensor(logits), torch.tensor(labels))


def test_targets_may_be_true_and_false():
    """The commonest target of two classes: y = a > 0."""
    y = np.random.default_rng(0).standard_normal((6, 2)).astype(np.float32)
    truth = np.arange(6) % 3 > 0
    for ours, whole in [
        (nn.CrossEntropyLoss()(y, truth), nn.CrossEntropyLoss()(y, truth.astype(np.int64))),
        (nn.CrossEntropyLoss(weight=[1, 3])(y, truth),
         nn.CrossEntropyLoss(weight=[1, 3])(y, truth.astype(np.int64))),
        (nn.MSELoss()(y, y > 0), nn.MSELoss()(y, (y > 0).astype(np.float32))),
    ]:  # fmt: skip
        assert float(ours[0]) == float(whole[0])
        assert_same(ours[1], whole[1])
    model = nn.Sequential(nn.Linear(2, 2))
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.5),
                      metrics=["accuracy", "f1"], progress=False)  # fmt: skip
    history = trainer.fit(y, y[:, 0] > 0, max_epochs=30, class_weight="balanced")
    assert history["accuracy"][-1] == 1


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -1.0, 1e-300, 1e300, 1e-38])
@pytest.mark.parametrize("given", [list, np.array])
def test_class_weights_that_would_give_wrong_losses_are_refused(value, given):
    y, target = np.zeros((2, 3), np.float32), np.array([0, 1])
    with pytest.raises(ValueError, match=r"CrossEntropyLoss: 'weight' has \S+ at 1, expected 0 or"):
        nn.CrossEntropyLoss(given([1.0, value, 2.0]))(y, target)


@pytest.mark.parametrize("value", [np.inf, np.nan, -1.0, 1e-38])
def test_class_weights_in_float32_too(value):
    with pytest.raises(ValueError, match=r"CrossEntropyLoss: 'weight' has \S+ at 1, expected 0 or"):
        nn.CrossEntropyLoss(np.float32([1.0, value, 2.0]))


def test_class_weights_of_zero_and_of_very_different_sizes_are_taken():
    y, target = np.zeros((2, 3), np.float32), np.array([0, 1])
    loss, dy = nn.CrossEntropyLoss([0.0, 1e-20, 1e20])(y, target)
    assert float(loss) == pytest.approx(np.log(3))
    assert dy[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("index", [[0, 1, 2], [7, 5, 3], ["a", "b", "c"]])
@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.MSELoss()], ids=["entropy", "mse"])
def test_targets_of_pandas_are_taken_by_position(index, loss):
    pandas = pytest.importorskip("pandas")
    y = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    if isinstance(loss, nn.MSELoss):
        target = pandas.DataFrame(np.arange(12.0).reshape(3, 4), index=index)
    else:
        target = pandas.Series([2, 0, 3], index=index)
    ours, plain = loss(y, target), loss(y, target.to_numpy())
    assert float(ours[0]) == float(plain[0])
    np.testing.assert_array_equal(ours[1], plain[1])
    with pytest.raises(TypeError, match="'target' has other things than numbers"):
        loss(y, pandas.Series(["a", 1, 2]))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("loss", [ops.cross_entropy, ops.nll_loss])
@pytest.mark.parametrize("weight", [math.inf, -math.inf, math.nan, "largest", "least"])
def test_weights_of_classes_that_cannot_be_multiplied_are_refused(dtype, loss, weight):
    """They gave a loss of 0, or a gradient of NaN, in silence."""
    kind = np.finfo("float64" if dtype == "float64" else "float32")
    value = {"largest": kind.max, "least": kind.smallest_subnormal}.get(weight, weight)
    out = np.full((4, 3), 7, dtype)
    weights = np.array([1, value, 1], kind.dtype)
    with pytest.raises(ValueError, match=r"'weight' has \S+ at 1, expected 0 or a size from"):
        loss(np.zeros((4, 3), dtype), np.array([0, 1, 2, 0]), weight=weights, out=out)
    assert (out == 7).all()


@pytest.mark.parametrize("loss", [ops.cross_entropy, ops.nll_loss])
def test_weights_of_classes_at_the_ends_of_what_is_taken(loss):
    logits, labels = np.log([[0.2, 0.3, 0.5]] * 3), np.array([0, 1, 2])
    for least in (1e-299, 1e-100, 1e100, 1e299):
        weighted, gradient = loss(logits, labels, weight=np.array([1, 2, 4]) * least)
        want, plain = loss(logits, labels, weight=np.array([1.0, 2, 4]))
        np.testing.assert_allclose(weighted, want, rtol=1e-14)
        np.testing.assert_allclose(gradient, plain, rtol=1e-14)
    np.testing.assert_array_equal(loss(logits, labels, weight=np.array([0.0, 0, 1]))[1][:2], 0)
