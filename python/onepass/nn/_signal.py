"""What a layer does to the signal that passes it, which initial values depend on.

Each class says so where it is defined: `Norm`, `Passing` and `Bending` are marks, and
``Module._wants`` says what weights in front are to keep.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from onepass import ops


class Wanted(NamedTuple):
    """What a layer wants of the weights in front of it."""

    label: str
    family: str = "xavier"
    gain: float = 1.0  # that keeps the mean square: √2 of ReLU
    slope: float = 0.0  # of a leaky ReLU


class Norm:
    """Mark of a norm, looked through: its weight begins at 1, its bias at 0."""


class Passing:
    """Mark of a layer without parameters that makes c·y of c·x, c > 0: looked through."""


class Bending:
    """Mark of an activation or gate: where the signal in front is 0, so is its gradient."""


def by_activation(name: str, label: str, options: dict[str, Any]) -> Wanted:
    """What the function ``name`` of ops wants."""
    if name == "selu":
        return Wanted(label, "lecun")
    if name == "leaky_relu":
        slope = float(options.get("negative_slope", 0.01))
        return Wanted(label, "kaiming", math.sqrt(2 / (1 + slope**2)), slope)
    if _is_like_relu(name):
        return Wanted(label, "kaiming", math.sqrt(2))
    return Wanted(label)


def by_maximum(pieces: int, label: str) -> Wanted:
    """What the largest of so many values wants."""
    return Wanted(label, "lecun", 1 / math.sqrt(_mean_square_of_maximum(pieces)))


@cache
def _is_like_relu(name: str) -> bool:
    """Whether it passes what is positive and stops most of what is negative."""
    below, above = getattr(ops, name)(np.array([-3.0, 3.0]))
    return bool(above >= 2 and abs(below) <= 1)


@cache
def _mean_square_of_maximum(pieces: int) -> float:
    """E max(z₁, …, z_k)² of normal z: ∫ z² k φ(z) Φ(z)^(k-1) dz."""
    z = np.linspace(-12, 12, 4801)
    phi = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    below = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in z])
    return float(np.sum(z**2 * pieces * phi * below ** (pieces - 1)) * (z[1] - z[0]))
