"""Pixels added around images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass.data.augment._transform import stored


def padded(
    X: NDArray[Any], rows: tuple[int, int], columns: tuple[int, int], mode: str, fill: float = 0.0
) -> NDArray[Any]:
    """``X`` with rows and columns added at its sides, as ``np.pad`` does."""
    if not any((*rows, *columns)):
        return X
    sides = ((0, 0), (0, 0), rows, columns)
    if mode != "constant":
        return np.pad(X, sides, mode)  # type: ignore[call-overload, no-any-return]
    return np.pad(X, sides, constant_values=stored(np.array(fill), X.dtype).item())
