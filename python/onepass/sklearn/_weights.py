"""The weights of samples: those that the user passes, times those of their classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass.data._weights import checked_weights

Floats = NDArray[np.float64]


def of_samples(owner: str, sample_weight: Any, count: int) -> Floats | None:
    """``sample_weight`` in float64; None where there is none.

    Raises:
        TypeError, ValueError: not one number >= 0 for each sample, or all are 0.
    """
    if sample_weight is None:
        return None
    weight = np.asarray(sample_weight)
    if weight.shape != (count,):
        raise ValueError(
            f"{owner}: 'sample_weight' has shape {weight.shape}, expected ({count},), one for each "
            "sample of X"
        )
    found = checked_weights(owner, "sample_weight", weight)
    refuse_nothing(owner, "sample_weight", found)
    return found


def refuse_nothing(owner: str, name: str, weight: Floats) -> None:
    """Refuse weights that leave no sample.

    Raises:
        ValueError: all are 0.
    """
    if not weight.any():
        raise ValueError(f"{owner}: {name!r} leaves the weight zero for all samples of y")


def of_classes(owner: str, given: Any, classes: Any, index: Any, weight: Floats | None) -> Any:
    """The weight of each class, in the order of ``classes``.

    Args:
        given: "balanced", or a dict of classes; those that it lacks have the weight 1.
        index: of the class of each sample.
        weight: of each sample, or None.

    Raises:
        TypeError, ValueError: neither, a class that y does not have, or a weight that is none.
    """
    if isinstance(given, str) and given == "balanced":
        counts = np.bincount(index, weight, minlength=len(classes))
        there = counts > 0
        return counts.sum() / (there.sum() * np.where(there, counts, 1))
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{owner}: 'class_weight' is {given!r}, expected None, 'balanced' or a dict of classes"
        )
    known = classes.tolist()
    strange = [key for key in given if key not in known]
    if strange:
        raise ValueError(
            f"{owner}: 'class_weight' has the class {strange[0]!r}, expected those of y: {known}"
        )
    values = [given.get(name, 1.0) for name in known]
    return checked_weights(owner, "class_weight", values)
