"""Where an optimizer goes on a function of a few numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def path(
    make: Callable[[list[Array]], Any],
    gradient: Callable[[Array], Array],
    start: Sequence[float] | Array,
    steps: int,
    until: Callable[[Array], Any] | None = None,
) -> Array:
    """The points of a path, float64, the start first: (steps taken + 1, n).

    Args:
        make: an optimizer of the parameters it is given, ``lambda w: optim.SGD(w, lr=0.1)``.
        gradient: at a point.
        start: the first point, (n,).
        steps: at most so many.
        until: ends the path at the first point of which it is true.

    Example:
        >>> from onepass import lab, optim
        >>> lab.path(lambda w: optim.SGD(w, lr=0.25), lambda w: 2 * w, [8.0], steps=3)[:, 0]
        array([8., 4., 2., 1.])
    """
    w = np.array(start, np.float64)
    optimizer = make([w])
    points = [w.copy()]
    while len(points) <= steps and not (until and until(w)):
        optimizer.step([gradient(w)])
        points.append(w.copy())
    return np.array(points)
