"""Classes by name and as users have them: whole numbers stay whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass._suggest import suggestion

LARGEST = 2**63


def as_given(names: Sequence[str]) -> NDArray[Any]:
    """The classes as whole numbers where all names are such, else as text (``"007"`` is text)."""
    if all(_is_whole(name) for name in names):
        return np.array([int(name) for name in names], np.int64)
    return np.array(names)


def indices(values: NDArray[Any], names: Sequence[str]) -> NDArray[np.int64]:
    """The index of each value's class.

    Raises:
        ValueError: a class that is not among the names.
    """
    known = {name: index for index, name in enumerate(names)}
    different, places = np.unique(values, return_inverse=True)
    found = []
    for value in different:
        name = _name(value)
        if name not in known:
            raise ValueError(
                f"evaluate: 'y' holds the class {name!r}, expected one of "
                f"{', '.join(names)}{suggestion(name, names)}"
            )
        found.append(known[name])
    return np.array(found, np.int64)[places.reshape(-1)]


def as_numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    """Targets of a regression; ValueError where they are none."""
    try:
        numbers = values.astype(np.float64)
    except ValueError as error:
        raise ValueError(f"evaluate: 'y' holds text, expected numbers ({error})") from None
    if not np.isfinite(numbers).all():
        raise ValueError("evaluate: 'y' holds a missing or infinite value, expected numbers")
    return numbers


def _name(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _is_whole(name: str) -> bool:
    try:
        return str(int(name)) == name and -LARGEST <= int(name) < LARGEST
    except ValueError:
        return False
