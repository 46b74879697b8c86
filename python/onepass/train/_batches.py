"""Batches from outside: a PyTorch DataLoader, or any iterable of (x, y)."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice
from typing import Any

import numpy as np

from onepass._array import to_numpy
from onepass.data._given import array_of
from onepass.data._shares import Share, share_of


class Batches:
    """An iterable of pairs (x, y), as the training loop reads a DataLoader.

    Args:
        source: each ``iter(source)`` is an epoch of pairs of arrays, tensors or lists,
            ``len(source)`` of them where it has a length. A method ``set_epoch`` is called with the
            epoch first, as for samplers of PyTorch. Without a length each batch is read one step
            ahead.

    Raises:
        TypeError: it can be read only once.
    """

    X: Any = None  # not known, as all of these
    y: Any = None
    sample_weight: Any = None
    size: Any = None
    batch_size: Any = None
    shuffle: Any = None
    last_batch: Any = None
    seed: Any = None
    sampling: Any = None
    transform: Any = None
    smallest_batch = sys.maxsize

    def __init__(self, call: str, source: Any) -> None:
        kind = type(source).__name__
        wanted = "expected arrays, or an object whose iter() gives batches (x, y) of a new epoch"
        if not isinstance(source, (list, tuple)) and iter(source) is source:
            raise TypeError(f"{call}: 'X' is a {kind}, which can be read only once, {wanted}")
        self.source, self._call = source, call
        self._at_end = False

    def __len__(self) -> int:
        """Batches in an epoch; 0 where the source does not say."""
        try:
            return len(self.source)
        except TypeError:
            return 0

    def ends(self, count: int) -> bool:
        """Whether the batch read last, number ``count``, is the last of its epoch."""
        return count == len(self) or self._at_end

    def __iter__(self) -> Generator[Any, None, None]:
        return self.batches(0)

    def batches(self, epoch: int, start: int = 0) -> Generator[Any, None, None]:
        """The batches of an epoch from number ``start`` on."""
        set_epoch = getattr(self.source, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)
        self._at_end = False
        batches = self._checked(start)
        if len(self):
            yield from batches
            return
        ahead = next(batches, None)
        while ahead is not None:
            batch, ahead = ahead, next(batches, None)
            self._at_end = ahead is None
            yield batch

    def shares(self, epoch: int, start: int, rank: int, size: int) -> Generator[Share, None, None]:
        """The rows of those batches that rank ``rank`` of ``size`` has."""
        with closing(self.batches(epoch, start)) as batches:
            for batch in batches:
                yield share_of(batch, rank, size)

    def _checked(self, start: int) -> Iterator[Any]:
        count = start
        for pair in islice(iter(self.source), start, None):
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise TypeError(
                    f"{self._call}: 'X' gave a {type(pair).__name__} as batch {count}, expected a "
                    "pair (x, y)"
                )
            names = (f"x of batch {count}", f"y of batch {count}")
            count += 1
            yield tuple(_array(self._call, *part) for part in zip(names, pair, strict=True))
        if count == 0:
            raise ValueError(
                f"{self._call}: 'X' is a {type(self.source).__name__} that gave no batch, expected "
                "batches (x, y) in every epoch"
            )
        if len(self) and count != len(self):
            raise ValueError(
                f"{self._call}: 'X' gave {count} batches, expected {len(self)}, which is its len()"
            )


def is_batches(X: Any) -> bool:
    """Whether ``X`` is not an array of samples, but gives batches."""
    if isinstance(X, (list, tuple)):  # of pairs, not of rows
        return (
            bool(X)
            and all(isinstance(x, (list, tuple)) and len(x) == 2 for x in X)
            and all(getattr(part, "shape", ()) != () for x in X for part in x)
        )
    return not hasattr(X, "shape") and not isinstance(X, (dict, str)) and hasattr(X, "__iter__")


def _array(call: str, name: str, value: Any) -> Any:
    """An array from a batch: tensors of PyTorch, DataFrames, lists of numbers as NumPy's.

    Raises:
        TypeError: anything else, such as a dict, or an array of another kind: sparse, masked, of
            complex numbers or objects.
    """
    if isinstance(value, (list, tuple)):
        try:
            value = np.asarray([to_numpy(v) if hasattr(v, "dtype") else v for v in value])
        except ValueError as error:
            raise TypeError(
                f"{call}: {name!r} is a {type(value).__name__} of values that have no one shape, "
                f"expected an array ({error})"
            ) from None
    if not hasattr(value, "dtype") and not hasattr(value, "iloc"):
        raise TypeError(
            f"{call}: {name!r} is a {type(value).__name__}, expected an array, a tensor or a list "
            "of numbers; a model with several inputs takes them as columns of one array"
        )
    return array_of(call, name, value)
