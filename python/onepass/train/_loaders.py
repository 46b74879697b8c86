"""Loaders for the data of fit, evaluate and predict."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeAlias

from onepass import _numbers as numbers
from onepass.data import DataLoader, split_indices
from onepass.data._rows import Column, Rows, is_data_set, part_of, rows_or_array, samples_or_array
from onepass.data._shares import placed
from onepass.data._split import held_out
from onepass.train._batches import Batches, is_batches
from onepass.train._weights import ClassWeight, of_samples

Loader: TypeAlias = DataLoader | Batches


def to_train(
    X: Any,
    y: Any,
    batch_size: int,
    shuffle: bool,
    last_batch: str,
    seed: int,
    *,
    validation_data: tuple[Any, Any] | None = None,
    validation_split: float = 0.0,
    sample_weight: Any = None,
    class_weight: ClassWeight = None,
    transform: Any = None,
    num_workers: int | None = None,
    ignored: int | None = None,
) -> tuple[Loader, Loader | None]:
    """The loaders for training and for validation; labels ``ignored`` are of no class."""
    numbers.in_range("fit", "validation_split", validation_split, 0, 1)
    if validation_data is not None and validation_split:
        raise ValueError(
            f"fit: 'validation_split' is {validation_split!r}, expected 0 with validation_data"
        )
    if isinstance(X, DataLoader) or (y is None and is_batches(X)):
        kind = type(X).__name__
        if y is not None or validation_split:
            raise ValueError(f"fit: 'X' is a {kind}, expected no y and no validation_split")
        if transform is not None or num_workers is not None:
            name = "num_workers" if transform is None else "transform"
            raise ValueError(
                f"fit: 'X' is a {kind}, expected its {name} in DataLoader(…, {name}=…)"
            )
        if sample_weight is not None or class_weight is not None:
            raise ValueError(
                f"fit: 'X' is a {kind}, expected its weights in DataLoader(…, sample_weight=…)"
            )
        return _ready("fit", X), _validation(validation_data)
    options = {"transform": transform, "num_workers": num_workers}
    if y is None and is_data_set(X):
        kind = type(X).__name__
        if validation_split or sample_weight is not None or class_weight is not None:
            raise ValueError(
                f"fit: 'X' is a {kind}, read batch by batch, expected no validation_split and no "
                "weights; pass validation_data, or a DataLoader with sample_weight"
            )
        loader = DataLoader(
            X, None, batch_size, shuffle, seed=seed, last_batch=last_batch, **options
        )
        return _ready("fit", loader), _validation(validation_data)
    if y is None:
        raise ValueError("fit: 'y' is None, expected an array of targets, or a DataLoader as X")
    X, y = samples_or_array("fit", X), rows_or_array("fit", "y", y)
    if isinstance(y, Rows) and (validation_split or class_weight is not None):
        y = y[:]
    whole = DataLoader(X, y, batch_size, shuffle, seed=seed)
    weight = of_samples(y, sample_weight, class_weight, ignored)
    if validation_split:
        held_out("fit", "validation_split", validation_split, whole.size)
        train, rest = split_indices(y, validation_split, seed=seed)
        validation_data = (part_of(X, rest), part_of(y, rest))
        X, y = part_of(X, train), part_of(y, train)
        if transform is not None:
            options["transform"] = partial(placed, transform, train)
        weight = None if weight is None else part_of(weight, train)
    loader = DataLoader(
        X,
        y,
        batch_size,
        shuffle,
        seed=whole.seed,
        last_batch=last_batch,
        sample_weight=weight,
        **options,
    )
    return loader, _validation(validation_data)


def to_read(call: str, X: Any, y: Any, batch_size: int) -> Loader:
    """The loader for one pass over the data; ``call`` names the caller in messages."""
    if y is None and call == "predict" and isinstance(X, DataLoader):
        return DataLoader(X.X, batch_size=X.batch_size)  # in the order of the data, every sample
    if y is None and (isinstance(X, DataLoader) or is_batches(X)):
        return _ready(call, X, trains=False)
    if y is None and is_data_set(X):
        loader = DataLoader(X, batch_size=batch_size)
        return loader if call == "predict" else _ready(call, loader)
    if y is None and call != "predict":
        raise TypeError(
            f"{call}: 'y' is None, expected an array with a target for each sample of X"
        )
    X = samples_or_array(call, X)
    y = None if y is None else rows_or_array(call, "y", y)
    shape = tuple(X.shape)
    if shape and shape[0] == 0:
        raise ValueError(f"{call}: 'X' has shape {shape}, expected at least one sample")
    return DataLoader(X, y, batch_size)


def _ready(call: str, loader: Any, *, trains: bool = True) -> Loader:
    """A DataLoader with targets; anything else that gives batches, read as one.

    Its transform is for training.
    """
    if not isinstance(loader, DataLoader):
        return Batches(call, loader)
    if loader.y is None:
        if isinstance(loader.X, Column):
            raise ValueError(f"{call}: 'X' has samples of x alone, expected pairs (x, y), or 'y'")
        raise ValueError(f"{call}: 'X' is a DataLoader without y, expected DataLoader(X, y, …)")
    return loader if trains else loader.untransformed()


def _is_many(pair: Any) -> bool:
    """Whether it is a data set, and not X and y."""
    return is_data_set(pair) and not (isinstance(pair, (list, tuple)) and len(pair) == 2)


def _validation(pair: Any) -> Loader | None:
    if pair is None:
        return None
    if isinstance(pair, DataLoader) or is_batches(pair) or _is_many(pair):
        return to_read("validation_data", pair, None, 256)
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(
            f"fit: 'validation_data' is a {type(pair).__name__}, expected a pair (X, y), or a "
            "DataLoader"
        )
    return to_read("validation_data", pair[0], pair[1], 256)
