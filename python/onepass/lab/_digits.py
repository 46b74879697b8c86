"""The data of most experiments."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from onepass import data

Array = npt.NDArray[Any]


def digits(seed: int = 0, samples: int | None = None) -> tuple[Array, Array, Array, Array]:
    """1,797 images of 8×8 pixels, as 64 features, in two parts.

    The test part is a quarter, with the same share of every digit. Features have mean 0 and
    deviation 1 on the training part.

    Args:
        seed: of the split.
        samples: of the training part, the first so many; None for all 1,347 or 1,348.

    Returns:
        X, y of the training part, X, y of the test part; X float32 (N, 64), y int64 (N,).

    Example:
        >>> from onepass import lab
        >>> X, y, X_test, y_test = lab.digits(seed=1, samples=600)
        >>> X.shape, X_test.shape
        ((600, 64), (449, 64))
    """
    X, y = data.load("digits")
    X_train, X_test, y_train, y_test = data.train_test_split(X, y, test_size=0.25, seed=seed)
    scale = data.Standardize()
    X_train = scale.fit_transform(X_train).astype(np.float32)
    X_test = scale.transform(X_test).astype(np.float32)
    return X_train[:samples], y_train[:samples], X_test, y_test


def mislabelled(y: Array, share: float, rng: np.random.Generator, classes: int = 10) -> Array:
    """A copy of the labels ``y``, a ``share`` of which, chosen at random, are of another class.

    Args:
        y: integers, 0 <= y < classes.
        share: round(share · len(y)) labels are changed, each to one of the other classes.
        rng: decides which labels, and to what.
        classes: how many there are.

    Example:
        >>> import numpy as np
        >>> from onepass.lab import mislabelled
        >>> y = np.arange(10)
        >>> int(np.sum(mislabelled(y, 0.2, np.random.default_rng(0)) != y))
        2
    """
    wrong = rng.permutation(len(y))[: round(share * len(y))]
    changed: Array = y.copy()
    changed[wrong] = (y[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return changed
