"""Colours, noise, blur and holes against a plain loop in float64, pixel by pixel."""

import colorsys
import math

import numpy as np
import pytest
from onepass.data import augment
from small_augment import (
    call,
    check,
    draws,
    every,
    gaussian_mean,
    images,
)


def grey_of(rgb):
    return 0.2989 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


def jittered(x, kind, which, f):
    """One image from 0 to 1, changed by one of the four."""
    out = np.zeros(x.shape)
    grey = [grey_of(x[:, i, j]) for i, j in np.ndindex(x.shape[1:])] if len(x) == 3 else x.ravel()
    mean = sum(float(g) for g in grey) / len(grey)
    for c, i, j in np.ndindex(x.shape):
        v = float(x[c, i, j])
        if which == "brightness":
            v = f * v
        elif which == "contrast":
            v = f * v + (1 - f) * mean
        elif len(x) == 3 and which == "saturation":
            v = f * v + (1 - f) * grey_of(x[:, i, j])
        elif len(x) == 3:
            h, s, value = colorsys.rgb_to_hsv(*map(float, x[:, i, j]))
            v = colorsys.hsv_to_rgb((h + f) % 1, s, value)[c]
        out[c, i, j] = min(max(v, 0.0), 1.0)
    return out


FACTORS = [
    ("brightness", 0.6), ("brightness", 1.7), ("contrast", 0.3), ("contrast", 1.9),
    ("saturation", 0.2), ("saturation", 1.8), ("hue", 0.31), ("hue", -0.17),
]  # fmt: skip


@every(
    "change",
    FACTORS,
    lambda size, kind, channels, change: channels != 7 or change[0] in ("brightness", "contrast"),
)
def test_colours(size, kind, channels, change):
    which, f = change
    X = images(size, channels, kind)
    X[0, :, 0, 0] = X[0, 0, 0, 0]  # grey, which has no hue
    X[1, :, 0, 0] = 0
    top = 255 if kind == "uint8" else 1
    want = [top * jittered(x.astype("f8") / top, kind, which, f) for x in X]
    check(call(augment.ColorJitter(**{which: (f, f)}), X)[0], np.array(want), kind, roundings=32)


def test_the_four_changes_come_in_any_order():
    """Brightness up and limited, then contrast down, is another image than the reverse."""
    X = np.repeat(images((4, 4), 1, count=1), 64, axis=0)
    got, _ = call(augment.ColorJitter(brightness=(1.8, 1.8), contrast=(0.4, 0.4)), X)
    first = jittered(jittered(X[0], "", "brightness", 1.8), "", "contrast", 0.4)
    second = jittered(jittered(X[0], "", "contrast", 0.4), "", "brightness", 1.8)
    near = [[np.allclose(image, want, atol=1e-12) for want in (first, second)] for image in got]
    assert (np.sum(near, axis=1) == 1).all()
    assert 18 < np.sum(near, axis=0)[0] < 46


def test_factors_are_drawn_from_their_ranges():
    X = np.full((2000, 1, 1, 1), 0.4)
    f = call(augment.ColorJitter(brightness=0.5), X)[0].ravel() / 0.4
    assert 0.5 <= f.min() < 0.51
    assert 1.49 < f.max() <= 1.5
    assert abs(f.mean() - 1) < 0.03
    assert augment.ColorJitter(1.5).brightness == (0, 2.5)
    assert augment.ColorJitter(hue=0.2).hue == (-0.2, 0.2)


@pytest.mark.parametrize("transform", [augment.ColorJitter(0.1), augment.GaussianNoise()])
def test_images_beyond_0_to_1_are_refused_where_they_would_be_cut(transform):
    for bad in (images() * 255, images() - 0.5):
        with pytest.raises(ValueError, match=r"'X' lies within .* expected images from 0 to 1"):
            call(transform, bad)
    call(transform, images() * (1 + 1e-6))


@every()
@pytest.mark.parametrize("clip", [True, False])
def test_noise(size, kind, channels, clip):
    X = images(size, channels, kind)
    count, top = math.prod(X.shape[1:]), 255 if kind == "uint8" else 1
    z = draws("GaussianNoise", 3).normal(count).reshape(X.shape)
    want = X.astype("f8") + top * (0.05 + 0.3 * z)
    want = np.clip(want, 0, top) if clip else want
    # The logarithm of float32 near 1 has its rounding, in a radius of about a half.
    check(call(augment.GaussianNoise(0.05, 0.3, clip), X)[0], want, kind, roundings=2048)


def test_the_noise_is_normal_and_independent():
    stats = pytest.importorskip("scipy.stats")
    for kind in (np.float32, np.float64):
        z = draws("GaussianNoise", 4).normal(50001, kind)
        assert z.shape == (4, 50001)
        assert z.dtype == kind
        assert stats.kstest(z.ravel().astype("f8"), "norm").pvalue > 1e-3
        assert abs(np.corrcoef(z) - np.eye(4)).max() < 0.02
        assert abs(np.corrcoef(z[:, :-1].ravel(), z[:, 1:].ravel())[0, 1]) < 0.01
        assert np.isfinite(z).all()


@every()
@pytest.mark.parametrize("kernel", [(3, 3), (5, 1), (1, 23)])
def test_blur(size, kind, channels, kernel):
    X = images(size, channels, kind)
    transform = augment.GaussianBlur(kernel, (0.4, 2.2))
    sigma = draws("GaussianBlur", 3).uniform(1, 0.4, 2.2)[:, 0]
    want = [[gaussian_mean(c, *kernel, (s, s)) for c in x] for x, s in zip(X, sigma, strict=True)]
    check(call(transform, X)[0], np.array(want), kind, roundings=16)


@every()
@pytest.mark.parametrize("length", [1, 2, 3, 40])
def test_holes(size, kind, channels, length):
    X = np.repeat(images(size, channels, kind, 1), 900, axis=0)
    fill = 9 if kind == "uint8" else 0.5
    got, _ = call(augment.Cutout(length, fill=fill), X)
    assert got.dtype == kind
    options = []
    for i, j in np.ndindex(size):
        image = X[0].copy()
        top, left = i - length // 2, j - length // 2
        image[:, max(top, 0) : top + length, max(left, 0) : left + length] = fill
        options.append(image)
    match = np.array([[(image == o).all() for o in options] for image in got])
    assert match.any(axis=1).all()
    assert match.any(axis=0).all()
    many, _ = call(augment.Cutout(1, n_holes=3, fill=fill), X)
    holes = (many != X).any(axis=1).sum(axis=(1, 2))
    assert holes.max() == min(3, size[0] * size[1])
