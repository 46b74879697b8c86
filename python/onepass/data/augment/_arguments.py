"""Arguments that are pairs, or a number for one."""

from __future__ import annotations

from typing import Any

import numpy as np

from onepass import _numbers as numbers


def size_of(owner: str, value: Any) -> tuple[int, int]:
    """``size``: a whole number, or (height, width)."""
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise ValueError(
            f"{owner}: 'size' is {value!r}, expected a whole number or (height, width)"
        )
    height, width = (numbers.integer(owner, "size", v, 1) for v in pair)
    return height, width


def interval(
    owner: str,
    name: str,
    value: Any,
    *,
    least: float = -np.inf,
    most: float = np.inf,
    above: float | None = None,
) -> tuple[float, float]:
    """``value``, a pair (low, high), as floats in ``least`` to ``most``, or ``above`` the least."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{owner}: {name!r} is {value!r}, expected a pair (low, high)")
    low, high = (numbers.in_range(owner, name, v, least, most=most, above=above) for v in value)
    if low > high or not np.isfinite(low) or not np.isfinite(high):
        raise ValueError(f"{owner}: {name!r} is {value!r}, expected a pair with low <= high")
    return low, high


def around(
    owner: str,
    name: str,
    value: Any,
    *,
    centre: float = 0.0,
    least: float = -np.inf,
    most: float = np.inf,
) -> tuple[float, float]:
    """A number v >= 0 as (centre - v, centre + v), a pair as it is."""
    if isinstance(value, (tuple, list)):
        return interval(owner, name, value, least=least, most=most)
    half = numbers.in_range(owner, name, value, 0)
    return interval(owner, name, (max(centre - half, least), centre + half), least=least, most=most)


def pair(owner: str, name: str, value: Any, **bounds: Any) -> tuple[float, float]:
    """(across, down), or a number for both; ``bounds`` as of `numbers.in_range`."""
    values = value if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2:
        raise ValueError(f"{owner}: {name!r} is {value!r}, expected a number or a pair")
    across, down = (numbers.in_range(owner, name, v, **bounds) for v in values)
    return across, down
