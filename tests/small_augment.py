"""Shared by the tests of augmentation: images, calls, comparison, plain loops."""

import itertools
import math

import numpy as np
import pytest
from onepass.data.augment._draws import Draws

SIZES = [(8, 8), (5, 7), (1, 1), (1, 6), (9, 2)]
KINDS = ["uint8", "float16", "float32", "float64"]
CHANNELS = [1, 3, 7]


def images(size=(5, 7), channels=3, kind="float64", count=3, seed=0):
    values = np.random.default_rng(seed).random((count, channels, *size))
    return (values * 255).astype("u1") if kind == "uint8" else values.astype(kind)


def call(transform, X, y=None, seed=5, epoch=1, index=None):
    return transform(X, y, seed=seed, epoch=epoch, index=range(len(X)) if index is None else index)


def draws(name, count, seed=5, epoch=1):
    return Draws(name, seed, epoch, np.arange(count, dtype=np.uint64))


def check(got, want, kind, roundings=8):
    """``want`` in double; storing rounds once, so whole numbers may differ by one near a half."""
    assert got.shape == want.shape
    if kind == "uint8":
        near = np.abs(want - np.floor(want) - 0.5) < 1e-3
        exact = np.clip(np.floor(want + 0.5), 0, 255)
        assert (np.abs(got - exact) <= near).all()
        return
    worst = np.finfo("f4" if kind == "float16" else kind).eps * roundings
    worst += np.finfo("f2").eps if kind == "float16" else 0
    np.testing.assert_allclose(got.astype("f8"), want, rtol=worst, atol=worst)


CASES = [(s, k, c) for s, k, c in itertools.product(SIZES, KINDS, CHANNELS)
         if c == 3 or s == (5, 7)]  # fmt: skip


def every(name=None, values=(), only=lambda size, kind, channels, value: True):
    """Sizes, dtypes and channels, times the values of ``name``; of these, those of ``only``."""
    if name is None:
        return pytest.mark.parametrize(("size", "kind", "channels"), CASES)
    cases = [(*case, value) for case in CASES for value in values if only(*case, value)]
    return pytest.mark.parametrize(("size", "kind", "channels", name), cases)


def mirrored(i, size):
    """Position i of an image that is mirrored without its outermost pixel, over and over."""
    if size == 1:
        return 0
    i %= 2 * (size - 1)
    return min(i, 2 * (size - 1) - i)


def gaussian_mean(image, across, down, sigma):
    def weights(size, s):
        w = [math.exp(-0.5 * ((k - size // 2) / s) ** 2) for k in range(size)]
        return [v / sum(w) for v in w]

    out = np.zeros(image.shape)
    one, two = weights(across, sigma[0]), weights(down, sigma[1])
    for i, j in np.ndindex(image.shape):
        for a, wa in enumerate(two):
            for b, wb in enumerate(one):
                row = mirrored(i + a - down // 2, image.shape[0])
                column = mirrored(j + b - across // 2, image.shape[1])
                out[i, j] += wa * wb * float(image[row, column])
    return out
