"""Helpers of the initialisers: fans, the generator of a seed, filling in place."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np

from onepass import _numbers as numbers
from onepass._array import Array
from onepass._kind import check_owned, namespace
from onepass._parameter import data_of
from onepass.nn._random import fills_later, init_generator

T = TypeVar("T")  # an array or a Parameter; initialisers return their argument


def fill(tensor: T, values: Array | float) -> T:
    """Write host values, rounded to the dtype of ``tensor``."""
    array = floats_of(tensor)
    array[...] = namespace(array).asarray(values, array.dtype)
    return tensor


def normal(tensor: T, mean: float, std: float, seed: int | None) -> T:
    if seed is None and fills_later():
        return fill(tensor, 1.0)
    return fill(tensor, mean + std * generator(seed).standard_normal(floats_of(tensor).shape))


def uniform(tensor: T, low: float, high: float, seed: int | None) -> T:
    if seed is None and fills_later():
        return fill(tensor, 1.0)
    return fill(tensor, generator(seed).uniform(low, high, floats_of(tensor).shape))


def uniform_of(tensor: T, variance: float, seed: int | None) -> T:
    """Uniform around 0 with this variance."""
    bound = math.sqrt(3 * variance)
    return uniform(tensor, -bound, bound, seed)


def floats_of(tensor: Any) -> Array:
    """``tensor``, or the array that it holds if it is a Parameter; must hold floats."""
    array = data_of(tensor)
    check_owned("nn.init", "tensor", array)
    return array


def generator(seed: int | None) -> np.random.Generator:
    """A new generator for the seed; for None the one that `manual_seed` seeds."""
    if seed is None:
        return init_generator()
    return np.random.Generator(np.random.PCG64(numbers.seed("nn.init", "seed", seed)))


def fans(tensor: Any) -> tuple[int, int]:
    """``(fan_in, fan_out)`` of an array (out, in, *kernel); an empty array counts as 1."""
    shape = floats_of(tensor).shape
    if len(shape) < 2:
        raise ValueError(
            f"nn.init: 'tensor' has shape {tuple(shape)}, expected at least 2 axes: fan_in and "
            "fan_out need them"
        )
    field = math.prod(shape[2:])
    return max(shape[1] * field, 1), max(shape[0] * field, 1)
