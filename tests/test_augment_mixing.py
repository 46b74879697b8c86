"""Mixup and CutMix against a plain loop in float64, sample by sample."""

import math

import numpy as np
import pytest
from onepass import nn
from onepass.data import augment
from onepass.data.augment._draws import whole
from small_augment import (
    call,
    check,
    draws,
    every,
    images,
)


def partner_of(count, name, seed=5, epoch=1):
    words = draws(name, count, seed, epoch).words(1)[:, 0].tolist()
    order = sorted(range(count), key=words.__getitem__)
    return {i: order[(k + 1) % count] for k, i in enumerate(order)}


def taken(name, count, alpha):
    numbers = draws(name, count)
    numbers.words(1)
    return numbers, numbers.beta(alpha)


@every()
@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_mixup(size, kind, channels, alpha):
    X, y = images(size, channels, kind, 6), np.array([0, 3, 1, 1, 2, 0])
    got, targets = call(augment.Mixup(alpha, 4), X, y)
    partner, (_, kept) = partner_of(6, "Mixup"), taken("Mixup", 6, alpha)
    want, shares = np.zeros(X.shape), np.zeros((6, 4))
    for i, s in enumerate(kept):
        want[i] = s * X[i].astype("f8") + (1 - s) * X[partner[i]].astype("f8")
        shares[i, y[i]] += s
        shares[i, y[partner[i]]] += 1 - s
    check(got, want, kind, roundings=4)
    assert targets.dtype == ("float64" if kind == "float64" else "float32")
    np.testing.assert_allclose(targets, shares, atol=1e-6)
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)


@every()
def test_cutmix(size, kind, channels):
    X, y = images(size, channels, kind, 6), np.array([0.0, 3, 1, 1, 2, 0])
    got, targets = call(augment.CutMix(0.7), X, y)
    partner, (numbers, kept) = partner_of(6, "CutMix"), taken("CutMix", 6, 0.7)
    height, width = size
    u = numbers.uniform(2)
    row, column = whole(u[:, 0], height), whole(u[:, 1], width)
    want, shares = X.copy(), np.zeros(6)
    for n, s in enumerate(kept):
        half = [int(math.sqrt(1 - s) * side / 2) for side in size]
        area = 0
        for i, j in np.ndindex(size):
            if (row[n] - half[0] <= i < row[n] + half[0]
                    and column[n] - half[1] <= j < column[n] + half[1]):  # fmt: skip
                want[n, :, i, j] = X[partner[n], :, i, j]
                area += 1
        share = 1 - area / (height * width)
        shares[n] = share * y[n] + (1 - share) * y[partner[n]]
    assert got.dtype == kind
    np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(targets, shares, rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 3.0])
def test_shares_follow_the_beta_distribution(alpha):
    stats = pytest.importorskip("scipy.stats")
    kept = draws("Mixup", 4000).beta(alpha)
    assert ((kept >= 0) & (kept <= 1)).all()
    low = kept[kept < 0.5]  # numbers near 1 have few digits
    assert abs(len(low) / 4000 - 0.5) < 0.04
    assert stats.kstest(low, lambda x: 2 * stats.beta(alpha, alpha).cdf(x)).pvalue > 1e-3


@pytest.mark.parametrize("name", ["Mixup", "CutMix"])
def test_targets_of_every_kind_are_mixed(name):
    cls, X = getattr(augment, name), images(count=4)
    pairs = [
        call(cls(), X, np.float32([1, 0, 0, 0]))[1],
        call(cls(), X, np.float64([1, 0, 0, 0]))[1],
    ]
    assert [p.dtype for p in pairs] == ["float32", "float64"]
    np.testing.assert_allclose(*pairs, rtol=1e-6)
    classes = np.array([[0, 1], [1, 2], [2, 0], [1, 1]])  # two for each image
    shares = call(cls(num_classes=3), X, classes)[1]
    assert shares.shape == (4, 3, 2)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    one_hot = np.moveaxis(np.eye(3)[classes], -1, 1)
    np.testing.assert_allclose(call(cls(), X, one_hot)[1], shares)
    truth = call(cls(num_classes=2), X, np.array([True, False, True, True]))[1]
    np.testing.assert_allclose(truth.sum(axis=1), 1)
    assert call(cls(), X)[1] is None
    alone, target = call(cls(num_classes=3), X[:1], np.array([2]))
    np.testing.assert_allclose(alone, X[:1], rtol=1e-12)
    np.testing.assert_allclose(target, [[0, 0, 1]])
    for y, words in (
        (np.array([0, 1, 2, 3]), "holds 3"),
        (np.array([0, -100, 1, 1]), "holds -100"),
    ):
        with pytest.raises(ValueError, match=f"{name}: 'y' {words}, expected classes from 0 to 2"):
            call(cls(num_classes=3), X, y)
    with pytest.raises(ValueError, match=f"{name}: 'y' holds classes.*num_classes="):
        call(cls(), X, np.array([0, 1, 2, 1]))
    with pytest.raises(TypeError, match=f"{name}: 'y' has dtype <U1"):
        call(cls(), X, np.array(["a"] * 4))


@pytest.mark.parametrize("name", ["Mixup", "CutMix"])
def test_cross_entropy_of_mixed_targets_is_the_mix_of_both(name):
    """The loss is linear in its target: λ times the loss of one class, 1 - λ times the other's."""
    y, partner = np.array([0, 2, 1, 1, 0]), partner_of(5, name)
    X = images(count=5)
    targets = call(getattr(augment, name)(num_classes=3), X, y)[1]
    logits = np.random.default_rng(0).normal(size=(5, 3))
    for options in ({}, {"label_smoothing": 0.1}, {"weight": [0.5, 1.0, 2.0], "reduction": "sum"}):
        each = nn.CrossEntropyLoss(**{**options, "reduction": "none"})
        loss, dy = nn.CrossEntropyLoss(**options)(logits, targets)
        want, dwant = 0.0, np.zeros((5, 3))
        others = y[[partner[i] for i in range(5)]]
        for i in range(5):
            share = targets[i, y[i]] if others[i] != y[i] else 1.0
            for c, s in ((y[i], share), (others[i], 1 - share)):
                value, gradient = each(logits[i : i + 1], np.array([c]))
                want += s * float(value[0])
                dwant[i] += s * gradient[0]
        divisor = 1 if options.get("reduction") == "sum" else 5
        assert float(loss) == pytest.approx(want / divisor, rel=1e-12)
        np.testing.assert_allclose(dy, dwant / divisor, atol=1e-12)
