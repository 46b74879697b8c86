"""Dropout: the normative mask, drawn from Philox in plain NumPy, and its rows."""

from __future__ import annotations

import functools
import math

import numpy as np
from onepass import ops

from ._case import (
    BENCH,
    EXACT,
    SHAPES,
    Case,
    Tolerance,
    functional,
    has_torch,
    normal,
    quiet,
    roundings,
    tensor_of,
    torch,
    without_grad,
)

_LOW = np.uint64(0xFFFFFFFF)


def philox(counter, key):
    """Philox4x32-10 of Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.

    counter: four uint64 arrays that hold 32-bit words; key: two ints. Returns four such arrays.
    """
    c0, c1, c2, c3 = (np.asarray(c, np.uint64) for c in counter)
    k0, k1 = key
    for _ in range(10):
        left = np.uint64(0xD2511F53) * c0
        right = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (right >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            right & _LOW,
            (left >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            left & _LOW,
        )
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


@functools.lru_cache(maxsize=64)
def uniform_bits(size, seed, offset, first=0):
    """u(e) of the elements first … first + size - 1 as integers: 32-bit fractions times 2³²."""
    e = np.arange(first, first + size, dtype=np.uint64)
    row, word = (
        (e // np.uint64(128) - np.uint64(first // 128)).astype(np.intp),
        (e // np.uint64(32) % np.uint64(4)).astype(int),
    )
    bit = e % np.uint64(32)
    groups = np.arange(first // 128, -(-(first + size) // 128), dtype=np.uint64)
    u = np.zeros(size, np.uint64)
    for k in range(32):  # bit plane k is the k-th most significant bit of u
        words = philox(
            (
                groups & _LOW,
                (groups >> np.uint64(32)) | np.uint64(k << 24),
                np.full_like(groups, offset & 0xFFFFFFFF),
                np.full_like(groups, offset >> 32),
            ),
            (seed & 0xFFFFFFFF, seed >> 32),
        )
        plane = np.stack(words, axis=-1)[row, word]
        u = (u << np.uint64(1)) | ((plane >> bit) & np.uint64(1))
    u.flags.writeable = False
    return u


def dropout_mask(shape, p=0.5, *, seed, offset=0, first=0, packed=False):
    """True where kept: u(first + e) >= round(p·2³²), u(e) the 32-bit fraction of element e."""
    kept = uniform_bits(math.prod(shape), seed, offset, first) >= np.uint64(round(p * 2**32))
    return np.packbits(kept, bitorder="little") if packed else kept.reshape(shape)


def dropout_scale(p):
    threshold = round(p * 2**32)
    return 1 / (1 - threshold / 2**32) if threshold < 2**32 else 0.0


@quiet
def dropout(x, p=0.5, *, seed, offset=0, first=0):
    keep = dropout_mask(x.shape, p, seed=seed, offset=offset, first=first)
    return np.where(keep, x * dropout_scale(p), 0.0)


def map_mask(x, p, seed, offset, first):
    """Of x[n, c] what a batch of which it is x[first + n, c] has."""
    keep = dropout_mask(x.shape[:2], p, seed=seed, offset=offset, first=first * x.shape[1])
    return keep.reshape(*x.shape[:2], *[1] * (x.ndim - 2))


@quiet
def feature_dropout(x, p=0.5, *, seed, offset=0, first=0):
    return np.where(map_mask(x, p, seed, offset, first), x * dropout_scale(p), 0.0)


def alpha_scales(p):
    """a, b, and what dropped elements become."""
    q, limit = round(p * 2**32) / 2**32, -1.7580993408473766
    if q == 1:
        return 0.0, 0.0, 0.0
    a = 1 / math.sqrt((limit**2 * q + 1) * (1 - q))
    return a, -a * limit * q, a * limit * (1 - q)


@quiet
def alpha_dropout(x, p=0.5, *, seed, **where):
    a, b, dropped = alpha_scales(p)
    return np.where(dropout_mask(x.shape, p, seed=seed, **where), a * x + b, dropped)


@quiet
def alpha_dropout_backward(dy, p=0.5, *, seed, **where):
    a, _, _ = alpha_scales(p)
    return np.where(dropout_mask(dy.shape, p, seed=seed, **where), a * dy, 0.0)


@quiet
def feature_alpha_dropout(x, p=0.5, *, seed, offset=0, first=0):
    a, b, dropped = alpha_scales(p)
    return np.where(map_mask(x, p, seed, offset, first), a * x + b, dropped)


@quiet
def feature_alpha_dropout_backward(dy, p=0.5, *, seed, offset=0, first=0):
    a, _, _ = alpha_scales(p)
    return np.where(map_mask(dy, p, seed, offset, first), a * dy, 0.0)


SWEEP = [
    {"p": 0.5, "seed": 1},
    {"p": 0.1, "seed": 2**64 - 3, "offset": 7},
    {"p": 0.7, "seed": 2**33 + 5, "offset": 2**64 - 1, "first": 2**41 + 77},
    {"p": 0.0, "seed": 3},
    {"p": 1.0, "seed": 3},
]


# Runs of one element and of two, around a word's 32, and across pieces and tiles of 1024.
MAPS = [
    *[(3, 5), (2, 0, 4), (0, 3, 2), (1, 1, 1), (300, 4, 2), (65, 7, 3), (9, 31, 7), (3, 5, 31)],
    *[(2, 33, 32), (4, 9, 33), (5, 3, 7, 9), (2, 3, 4, 5, 6), (3, 40, 100), (2, 3, 4097)],
    (1, 2, 33001),
]
MAPS_BENCH = [(32, 64, 56, 56), (64, 256, 14, 14), (8, 512, 7, 7)]
SCALED = "the scale is rounded once, the product once"


def _rival(name):
    def rivals(inputs, keywords):
        if not has_torch():
            return {}
        function = getattr(torch, name.removesuffix("_backward"))
        return {"torch": without_grad(function, tensor_of(inputs[0]), keywords["p"], True)}

    return rivals


def _rivals(inputs, keywords):
    if not has_torch():
        return {}
    return {"torch": without_grad(functional.dropout, tensor_of(inputs[0]), keywords["p"])}


def rows():
    for name in ("dropout", "dropout_backward"):
        yield Case(
            name,
            "dropout",
            getattr(ops, name),
            lambda rng, shape, dtype, **_: (normal(rng, shape, dtype),),
            dropout,
            None,  # PyTorch draws other bits
            Tolerance(roundings(2), why=SCALED),
            lambda s: 2 * s,
            [*SHAPES, (5, 4097)],
            BENCH,
            _rivals,
            SWEEP,
            {"p": 0.5, "seed": 1},
            out=True,
            alias=(0,),
        )
    affine = Tolerance(
        roundings(4),
        roundings(8),
        why="a and b are rounded, from about six roundings in double; a product and a sum, whose "
        "terms may cancel",
        sums=2,
    )
    scaled = Tolerance(roundings(2), why=SCALED)
    alpha_scaled = Tolerance(roundings(2), why=SCALED, sums=4)  # a in double: six roundings
    for name, reference, tolerance in (
        ("feature_dropout", feature_dropout, scaled),
        ("feature_dropout_backward", feature_dropout, scaled),
        ("alpha_dropout", alpha_dropout, affine),
        ("alpha_dropout_backward", alpha_dropout_backward, alpha_scaled),
        ("feature_alpha_dropout", feature_alpha_dropout, affine),
        ("feature_alpha_dropout_backward", feature_alpha_dropout_backward, alpha_scaled),
    ):
        maps = name.startswith("feature")
        yield Case(
            name,
            "dropout",
            getattr(ops, name),
            lambda rng, shape, dtype, **_: (normal(rng, shape, dtype),),
            reference,
            None,  # PyTorch draws other bits
            tolerance,
            lambda s: 2 * s,
            MAPS if maps else [*SHAPES, (5, 4097)],
            MAPS_BENCH if maps else BENCH,
            _rival(name),
            SWEEP,
            {"p": 0.5, "seed": 1},
            out=True,
            alias=(0,),
        )
    yield Case(
        "dropout_mask",
        "mask",
        ops.dropout_mask,
        lambda rng, shape, dtype, **_: (shape,),
        dropout_mask,
        None,
        EXACT,
        lambda s: 1,
        SHAPES,
        BENCH,
        lambda inputs, keywords: {},
        [*SWEEP, {"p": 0.3, "seed": 8, "packed": True}],
        {"p": 0.5, "seed": 1},
        no_rival="PyTorch has no function that draws the mask alone",
    )
