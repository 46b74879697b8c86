"""Predictions and targets as users have them: classes that are whole numbers stay such."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 2**63


def as_given(names: Sequence[str]) -> NDArray[Any]:
    """The classes as whole numbers where all names are such, else as text (``"007"`` is text)."""
    if all(_is_whole(name) for name in names):
        return np.array([int(name) for name in names], np.int64)
    return np.array(names)


def as_numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    """Targets of a regression; ValueError where they are none."""
    try:
        numbers = values.astype(np.float64)
    except ValueError as error:
        raise ValueError(f"evaluate: 'y' holds text, expected numbers ({error})") from None
    if not np.isfinite(numbers).all():
        raise ValueError("evaluate: 'y' holds a missing or infinite value, expected numbers")
    return numbers


def _is_whole(name: str) -> bool:
    try:
        return str(int(name)) == name and -LARGEST <= int(name) < LARGEST
    except ValueError:
        return False
