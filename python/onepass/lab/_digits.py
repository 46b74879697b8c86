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
        samples: of the training part, the first so many; None for all 1,347 or 1,348.

    Returns:
        X, y of the training part, X, y of the test part; X float32 (N, 64), y int64 (N,).
    """
    X, y = data.load("digits")
    X_train, X_test, y_train, y_test = data.train_test_split(X, y, test_size=0.25, seed=seed)
    scale = data.Standardize()
    X_train = scale.fit_transform(X_train).astype(np.float32)
    X_test = scale.transform(X_test).astype(np.float32)
    return X_train[:samples], y_train[:samples], X_test, y_test
