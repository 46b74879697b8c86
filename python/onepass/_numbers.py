"""Checks of the numbers, flags and words that users pass.

Every message has one form, where ``owner`` is the class or function that the user called:
``{owner}: '{name}' is {value!r}, expected {what}``. A message about an array gives its type, shape
or dtype instead of its value; one about the contents of a file begins with the path.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def integer(
    owner: str, name: str, value: Any, least: int | None = None, below: int | None = None
) -> int:
    """``value`` as an int in [least, below).

    Raises:
        TypeError: it is not a whole number. ValueError: it is out of that range.
    """
    bounds = [f">= {least}"] * (least is not None) + [f"< {below}"] * (below is not None)
    expected = " ".join(["a whole number", " and ".join(bounds)]).rstrip()
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{owner}: {name!r} is {value!r}, expected {expected}")
    if (least is not None and value < least) or (below is not None and value >= below):
        raise ValueError(f"{owner}: {name!r} is {value!r}, expected {expected}")
    return int(value)


def flag(owner: str, name: str, value: Any) -> bool:
    """``value`` as a bool; words and arrays, all of which are true, are refused.

    Raises:
        TypeError: it is not True, False, 1 or 0.
    """
    if not isinstance(value, (bool, np.bool_, int)) or value not in (0, 1):
        raise TypeError(f"{owner}: {name!r} is {value!r}, expected True or False")
    return bool(value)


def one_of(owner: str, name: str, value: Any, known: Sequence[str]) -> None:
    """Refuses a word that is not in ``known``.

    Raises:
        ValueError: ``value`` is another word, or no word.
    """
    if not isinstance(value, str) or value not in known:
        *most, last = map(repr, known)
        expected = f"{', '.join(most)} or {last}" if most else last
        raise ValueError(f"{owner}: {name!r} is {value!r}, expected {expected}")


def seed(owner: str, name: str, value: Any) -> int:
    """``value`` as a seed, a number of 64 bits."""
    return integer(owner, name, value, 0, 2**64)


def in_range(
    owner: str,
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: float | None = None,
    most: float | None = None,
    or_none: bool = False,
) -> float:
    """``value`` as a finite float in [low, high).

    Args:
        above: the lower bound instead of ``low``, itself excluded.
        most: the upper bound instead of ``high``, itself included; inf allows inf.
        or_none: whether the message offers None; the caller keeps None away.

    Raises:
        TypeError: it is not a number. ValueError: it is out of that range.
    """
    plain = above is None and most is None
    if plain and type(value) is float and low <= value < high and value != -math.inf:
        return value  # at once: a schedule changes the learning rate every step
    bounds = []
    if above is not None or low > -math.inf:
        bounds.append(f">= {low:g}" if above is None else f"> {above:g}")
    if most is not None and most < math.inf:
        bounds.append(f"<= {most:g}")
    elif most is None and high < math.inf:
        bounds.append(f"< {high:g}")
    expected = f"a number {' and '.join(bounds)}" if bounds else "a finite number"
    expected += ", or None" if or_none else ""
    number = as_float(owner, name, value, expected)
    enough = number >= low if above is None else number > above
    little = number < high if most is None else number <= most
    if not (enough and little) or (number == -math.inf):
        if number == math.inf and bounds and "<" not in expected:
            expected = expected.replace(bounds[0], f"{bounds[0]} and finite")
        raise ValueError(f"{owner}: {name!r} is {value!r}, expected {expected}")
    return number


def as_float(owner: str, name: str, value: Any, expected: str) -> float:
    """``value``, a number or an array that holds one, as a float.

    Raises:
        TypeError: it is neither.
    """
    try:
        if not isinstance(value, (str, bytes, bool, np.bool_)):
            return float(value)
    except OverflowError:  # an int beyond every float
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{owner}: {name!r} is {value!r}, expected {expected}")


_CONSTANTS = (bool, int, float, str, type(None), np.generic)


def is_constant(value: Any) -> bool:
    """Whether the value of an option cannot change in place."""
    return isinstance(value, _CONSTANTS) or (
        isinstance(value, tuple) and all(map(is_constant, value))
    )
