"""Loaders from the data that fit, evaluate and predict are given."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass._array import beside, to_numpy
from onepass.data import DataLoader, split_indices
from onepass.data._split import held_out


def to_train(
    X: Any,
    y: Any,
    batch_size: int,
    shuffle: bool,
    drop_last: bool,
    seed: int,
    validation_data: tuple[Any, Any] | None,
    validation_split: float,
) -> tuple[DataLoader, DataLoader | None]:
    """The loaders for training and for validation."""
    numbers.in_range("fit", "validation_split", validation_split, 0, 1)
    if validation_data is not None and validation_split:
        raise ValueError("validation_data and validation_split are both given; expected one")
    if isinstance(X, DataLoader):
        if y is not None or validation_split:
            raise ValueError("X is a DataLoader; expected no y and no validation_split")
        if X.y is None:
            raise ValueError("the DataLoader has no y; expected DataLoader(X, y, …)")
        return X, _validation(validation_data)
    if y is None:
        raise ValueError("y is missing; expected fit(X, y, …), or a DataLoader alone")
    whole = DataLoader(X, y, batch_size, shuffle, seed=seed)
    if validation_split:
        held_out("fit", "validation_split", validation_split, whole.size)
        train, rest = split_indices(to_numpy(y), validation_split, seed=seed)
        validation_data = (_take(X, rest), _take(y, rest))
        X, y = _take(X, train), _take(y, train)
    loader = DataLoader(X, y, batch_size, shuffle, drop_last, whole.seed)
    return loader, _validation(validation_data)


def same_data(
    loader: DataLoader, accumulate: int, saved: Mapping[str, Any], *, resumes: bool
) -> dict[str, Any]:
    """The loader's description, which inside an epoch must be the saved one.

    Between two epochs another one is legal, and told where the run resumes a saved one: there an
    argument that was not repeated would make it another run without a word.
    """
    now = {
        name: getattr(loader, name)
        for name in ("size", "batch_size", "shuffle", "drop_last", "seed", "sampling")
    }
    now["accumulate"] = accumulate
    before = saved["data"]
    if before is None or before == now:
        return now
    name = next(key for key in now if now[key] != before[key])
    if saved["position"]:
        raise ValueError(
            f"the run stopped inside an epoch with {name}={before[name]!r} and would go on with "
            f"{now[name]!r}; expected the same data and batches"
        )
    if resumes:
        warnings.warn(
            f"the saved run had {name}={before[name]!r} and goes on with {now[name]!r}: it will "
            "not be the run that an uninterrupted one would have been",
            RuntimeWarning,
            stacklevel=5,
        )
    return now


def to_read(call: str, X: Any, y: Any, batch_size: int) -> DataLoader:
    """The loader for one pass over the data; ``call`` says whose they are."""
    if y is None and call != "predict":
        raise TypeError(f"{call}: y is None; expected an array with a target for each sample of X")
    shape = tuple(getattr(X, "shape", ()))
    if shape and shape[0] == 0:
        raise ValueError(f"{call}: X has shape {shape}: no samples; expected at least one")
    return DataLoader(X, y, batch_size)


def _take(array: Any, index: NDArray[np.int64]) -> Any:
    return array[beside(array, index)]


def _validation(pair: tuple[Any, Any] | None) -> DataLoader | None:
    if pair is None:
        return None
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError("validation_data: expected a pair (X, y)")
    return to_read("validation_data", pair[0], pair[1], 256)
