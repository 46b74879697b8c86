"""Seeded splits, stratified by class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass.data._loader import permutation

Indices = NDArray[np.int64]
STREAM = 2**64 - 1  # instead of an epoch: splits and loaders draw different random numbers


def split_indices(
    y: Any, test_size: float = 0.25, *, stratify: bool | None = None, seed: int = 0
) -> tuple[Indices, Indices]:
    """Indices of a training part and of a held-out part, each in random order.

    Each class gives ``test_size`` of its samples to the held-out part, rounded so that the
    total is right (largest remainders first), and keeps at least one for training.

    Args:
        y: (N,) targets; if ``stratify`` is False, only their number matters.
        test_size: share of the held-out part, in (0, 1).
        stratify: split each class of y by itself; None does so if y holds integers, booleans or
            text.
        seed: the seed of the random order, 0 <= seed < 2**64.

    Returns:
        ``(train, test)``, int64.

    Raises:
        ValueError: ``test_size`` out of range, or one of the parts would be empty.

    Example:
        >>> import numpy as np
        >>> from onepass.data import split_indices
        >>> y = np.array([0, 1] * 10)
        >>> train, test = split_indices(y, 0.2)
        >>> np.bincount(y[test]).tolist()
        [2, 2]
    """
    target = np.asarray(y)
    size = target.shape[0]
    count = held_out("split_indices", "test_size", test_size, size)
    if stratify is None:
        stratify = target.ndim == 1 and target.dtype.kind in "biuUS"
    shuffled = permutation(size, numbers.seed("split_indices", "seed", seed), STREAM)
    if not stratify:
        return shuffled[count:], shuffled[:count]
    _, labels = np.unique(target, return_inverse=True)
    quota = _quotas(np.bincount(labels), test_size, count)
    if not quota.any():
        raise ValueError(
            f"split_indices: 'y' has one sample of each class among {size}, expected at least two "
            "of some class (or stratify=False)"
        )
    taken = np.zeros(size, dtype=bool)
    for label, count in enumerate(quota):
        taken[shuffled[labels[shuffled] == label][:count]] = True
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


def train_test_split(
    X: Any, y: Any, test_size: float = 0.25, *, stratify: bool | None = None, seed: int = 0
) -> tuple[Any, Any, Any, Any]:
    """Split data into ``(X_train, X_test, y_train, y_test)``; see :func:`split_indices`.

    Example:
        >>> import numpy as np
        >>> from onepass.data import train_test_split
        >>> X_train, X_test, y_train, y_test = train_test_split(np.eye(8), np.arange(8) % 2)
        >>> X_test.shape
        (2, 8)
    """
    if len(X) != len(y):
        raise ValueError(f"train_test_split: 'y' has {len(y)} samples, expected {len(X)} as in 'X'")
    train, test = split_indices(y, test_size, stratify=stratify, seed=seed)
    return X[train], X[test], y[train], y[test]


def _quotas(counts: NDArray[np.int64], share: float, total: int) -> Indices:
    """Held-out samples a class: floor(share * count), then largest remainders up to the total."""
    exact = counts * share
    quota: Indices = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(-(exact - quota), kind="stable")
    room = by_remainder[quota[by_remainder] + 1 < counts[by_remainder]]
    quota[room[: total - int(quota.sum())]] += 1
    return quota
