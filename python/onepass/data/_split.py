"""Seeded splits, stratified by class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass._array import to_numpy
from onepass._keywords import suggest_keywords
from onepass.data._given import array_of, rows_of
from onepass.data._loader import permutation

Indices = NDArray[np.int64]
STREAM = 2**64 - 1  # instead of an epoch: splits and loaders draw different random numbers


@suggest_keywords
def split_indices(
    y: Any, test_size: float = 0.25, *, stratify: bool | None = None, seed: int = 0
) -> tuple[Indices, Indices]:
    """Indices of a training part and of a held-out part, each in random order.

    The held-out part has ``round(test_size · N)`` samples. Where y is split by class, each class
    gives ``test_size`` of its samples, rounded so that the total is right (largest remainders
    first), and keeps at least one for training.

    Args:
        y: (N,) targets, also a Series (by position) or a list; if ``stratify`` is False, only their
            number matters.
        test_size: share of the held-out part, in (0, 1).
        stratify: split each class of y by itself. None does so if y holds text, booleans, or
            integers of which enough occur twice: whole numbers that hardly repeat are not classes.
        seed: the seed of the random order, 0 <= seed < 2**64.

    Returns:
        ``(train, test)``, int64, positions.

    Raises:
        TypeError: ``y`` is not an array of numbers or text.
        ValueError: ``y`` is one value, ``test_size`` out of range, one of the parts would be empty,
            or with ``stratify=True`` too many classes have one sample.

    Example:
        >>> import numpy as np
        >>> from onepass.data import split_indices
        >>> y = np.array([0, 1] * 10)
        >>> train, test = split_indices(y, 0.2)
        >>> np.bincount(y[test]).tolist()
        [2, 2]
    """
    if stratify is not None:
        stratify = numbers.flag("split_indices", "stratify", stratify)
    listed = isinstance(y, (list, tuple))
    given = array_of("split_indices", "y", np.asarray(y) if listed else y, text=True)
    target = to_numpy(given)
    size = _samples("split_indices", "y", target)
    count = held_out("split_indices", "test_size", test_size, size)
    shuffled = permutation(size, numbers.seed("split_indices", "seed", seed), STREAM)
    by_class = target.ndim == 1 and target.dtype.kind in "biuUS" if stratify is None else stratify
    quota = np.zeros(0, np.int64)
    if by_class:
        _, labels = numbered(target)
        quota = _quotas(np.bincount(labels), test_size, count)
        if stratify and quota.sum() < count:
            raise ValueError(
                f"split_indices: 'y' has {len(quota)} classes among {size} samples, too many of "
                f"them with one sample to hold out {count}, expected at least two of most classes "
                "(or stratify=False)"
            )
    if quota.sum() < count:
        return shuffled[count:], shuffled[:count]
    taken = np.zeros(size, dtype=bool)
    for label, share in enumerate(quota):
        taken[shuffled[labels[shuffled] == label][:share]] = True
    return shuffled[~taken[shuffled]], shuffled[taken[shuffled]]


def held_out(owner: str, name: str, share: float, size: int) -> int:
    """Samples in the held-out part; ValueError, naming the argument, if a part would be empty."""
    count = round(size * numbers.in_range(owner, name, share, 0, 1, above=0))
    if not 0 < count < size:
        raise ValueError(
            f"{owner}: {name!r} is {share!r}, expected a share that leaves neither part of {size} "
            "samples empty"
        )
    return count


@suggest_keywords
def train_test_split(
    X: Any, y: Any, test_size: float = 0.25, *, stratify: bool | None = None, seed: int = 0
) -> tuple[Any, Any, Any, Any]:
    """Split data into ``(X_train, X_test, y_train, y_test)``; see :func:`split_indices`.

    Row i of X belongs to row i of y by position, also in DataFrames and Series, which stay what
    they are.

    Args:
        X, y: arrays, DataFrames or Series of one length.
        test_size, stratify, seed: as of `split_indices`.

    Raises:
        TypeError, ValueError: as `split_indices`; X or y of no dimension, or not of one length.

    Example:
        >>> import numpy as np
        >>> from onepass.data import train_test_split
        >>> X_train, X_test, y_train, y_test = train_test_split(np.eye(8), np.arange(8) % 2)
        >>> X_test.shape
        (2, 8)
    """
    owner = "train_test_split"
    size = _samples(owner, "X", array_of(owner, "X", X))
    count = _samples(owner, "y", array_of(owner, "y", y, text=True))
    if size != count:
        raise ValueError(f"train_test_split: 'y' has {count} samples, expected {size} as in 'X'")
    train, test = split_indices(y, test_size, stratify=stratify, seed=seed)
    return rows_of(X, train), rows_of(X, test), rows_of(y, train), rows_of(y, test)


def _samples(owner: str, name: str, array: Any) -> int:
    if not array.ndim:
        raise ValueError(f"{owner}: {name!r} has shape (), expected samples along axis 0")
    return len(array)


def _quotas(counts: NDArray[np.int64], share: float, total: int) -> Indices:
    """Held-out samples a class: floor(share * count), then largest remainders up to the total."""
    exact = counts * share
    quota: Indices = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(-(exact - quota), kind="stable")
    room = by_remainder[quota[by_remainder] + 1 < counts[by_remainder]]
    quota[room[: total - int(quota.sum())]] += 1
    return quota


def numbered(target: NDArray[Any]) -> tuple[NDArray[Any], Indices]:
    """The classes, and the number of that of each row; rows that are equal are of one class."""
    if target.ndim > 1:
        known, labels = np.unique(target.reshape(len(target), -1), axis=0, return_inverse=True)
    else:
        known, labels = np.unique(target, return_inverse=True)
    index: Indices = labels.reshape(-1)
    return known, index
