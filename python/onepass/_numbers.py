"""Checks of plain numbers given by the user."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np


def integer(name: str, value: Any, least: int | None = None, below: int | None = None) -> int:
    """``value`` as an int.

    Raises:
        TypeError: it is no whole number. ValueError: it is outside [least, below).
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}={value!r}; expected a whole number")
    if (least is not None and value < least) or (below is not None and value >= below):
        span = f"at least {least}" if below is None else f"{least} <= {name} < {below}"
        raise ValueError(f"{name}={value}; expected {span}")
    return int(value)


def flag(name: str, value: Any) -> bool:
    """``value`` as a bool; words and arrays, all of them true, are refused.

    Raises:
        TypeError: it is neither True nor False, 1 nor 0.
    """
    if not isinstance(value, (bool, np.bool_, int)) or value not in (0, 1):
        raise TypeError(f"{name}={value!r}; expected True or False")
    return bool(value)


def real(name: str, value: Any) -> float:
    """``value`` as a float; its range is the caller's to check.

    Raises:
        TypeError: it is no number.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r}; expected a number")
    return float(value)


def seed(name: str, value: Any) -> int:
    """``value`` as a seed, a number of 64 bits."""
    return integer(name, value, 0, 2**64)


def in_range(owner: str, name: str, value: Any, low: float, high: float = math.inf) -> float:
    """``value`` as a finite float in [low, high).

    Raises:
        TypeError: it is no number. ValueError: it is out of that range.
    """
    if type(value) is float and low <= value < high and value != -math.inf:
        return value  # at once: a schedule changes the learning rate every step
    expected = "a finite number" if low == -math.inf else f"a number >= {low:g}"
    expected += "" if high == math.inf else f" and < {high:g}"
    number = as_float(owner, name, value, expected)
    if not (low <= number < high and math.isfinite(number)):
        raise ValueError(f"{owner}: {name!r} is {value!r}, expected {expected}")
    return number


def as_float(owner: str, name: str, value: Any, expected: str) -> float:
    """``value``, a number or an array that holds one, as a float.

    Raises:
        TypeError: it is neither.
    """
    try:
        if not isinstance(value, str):
            return float(value)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{owner}: {name!r} is {value!r}, expected {expected}")
