"""Labels that are wrong on purpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def mislabelled(y: Array, share: float, rng: np.random.Generator, classes: int = 10) -> Array:
    """A copy of the labels ``y``, a ``share`` of which, chosen at random, are of another class.

    Args:
        y: integers, 0 <= y < classes.
        share: round(share · len(y)) labels are changed, each to one of the other classes.

    Example:
        >>> import numpy as np
        >>> from onepass.lab import mislabelled
        >>> y = np.arange(10)
        >>> int(np.sum(mislabelled(y, 0.2, np.random.default_rng(0)) != y))
        2
    """
    wrong = rng.permutation(len(y))[: round(share * len(y))]
    changed = y.copy()
    changed[wrong] = (y[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return changed
