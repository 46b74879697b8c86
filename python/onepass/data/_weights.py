"""Weights of samples or classes, as users pass them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass._array import to_numpy
from onepass.data._given import array_of

LEAST, MOST = 1e-30, 1e30


def checked_weights(
    owner: str, name: str, weights: Any, axes: tuple[int, ...] = (1,)
) -> NDArray[np.float64]:
    """``weights``, an array or a list, in float64.

    Args:
        owner, name: of the argument, for messages.
        axes: how many axes they may have.

    Raises:
        TypeError: they are not numbers, or have another number of axes. ValueError: one is
            negative, not finite, or so small or large that a product in float32 would lose it.
    """
    listed = isinstance(weights, (list, tuple))
    array = to_numpy(np.asarray(weights) if listed else array_of(owner, name, weights, text=True))
    if array.dtype.kind not in "biuf" or array.ndim not in axes:
        along = "along one axis" if axes == (1,) else "with the axes of y or the first of them"
        raise TypeError(
            f"{owner}: {name!r} is a {type(weights).__name__} of dtype {array.dtype} and shape "
            f"{array.shape}, expected an array of numbers {along}"
        )
    array = array.astype(np.float64)
    _refuse(owner, name, array, (array >= 0) & np.isfinite(array), "finite numbers >= 0")
    fits = (array == 0) | ((array >= LEAST) & (array <= MOST))
    expected = f"0 or numbers between {LEAST} and {MOST}, which float32 can multiply"
    _refuse(owner, name, array, fits, expected)
    return array


def _refuse(owner: str, name: str, array: Any, right: Any, expected: str) -> None:
    wrong = np.argwhere(~right)
    if len(wrong):
        place = tuple(map(int, wrong[0]))
        shown = place[0] if len(place) == 1 else place
        raise ValueError(f"{owner}: {name!r} has {array[place]} at {shown}, expected {expected}")
