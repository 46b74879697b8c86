"""Data that stay where they are: rows are read when a batch needs them.

`Rows` look like an array with the samples along axis 0: they have a shape, a dtype, and rows by
position. A memory-mapped array (``np.load(…, mmap_mode="r")``) needs no such disguise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass._array import beside
from onepass.data._given import array_of

IN_MEMORY = ("__array_interface__", "__array_struct__", "__cuda_array_interface__", "__dlpack__",
             "iloc", "toarray", "mask")  # fmt: skip


class Rows:
    """The samples of ``source``, read by position."""

    def __init__(self, source: Any, shape: Sequence[int], dtype: Any) -> None:
        self.source = source
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """The rows of a slice, or at these positions, as an array.

        Raises:
            IndexError: a mask, a single number, or anything else.
        """
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1 and start < stop:
                return self.between(start, stop)
            return self.at(np.arange(start, stop, step))
        places = np.asarray(index)
        if places.ndim != 1 or places.dtype.kind not in "iu":
            raise IndexError(
                f"rows of a file or data set are taken by a slice or by positions (n,), not by "
                f"{places.dtype} of shape {places.shape} (np.flatnonzero makes positions of a mask)"
            )
        return self.at(places)

    def between(self, start: int, stop: int) -> NDArray[Any]:
        """The rows from ``start`` to ``stop``, read at once: a chunk of a file is opened once."""
        return np.asarray(self.source[start:stop])

    def at(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """The rows at these positions, one at a time: files do not take them in any order."""
        rows = [np.asarray(self.source[int(place)]) for place in places]
        return np.stack(rows) if rows else np.empty((0, *self.shape[1:]), self.dtype)


class Part(Rows):
    """The samples of an array or of other rows at some places, as it would have them in memory."""

    def __init__(self, source: Any, places: NDArray[np.int64]) -> None:
        super().__init__(source, (len(places), *source.shape[1:]), source.dtype)
        self.places = places

    def between(self, start: int, stop: int) -> NDArray[Any]:
        """Those from there to there of the part."""
        return np.asarray(self.source[self.places[start:stop]])

    def at(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """Those at these places of the part."""
        return np.asarray(self.source[self.places[places]])


class Pairs:
    """A data set of samples ``(x, y)``, or of ``x`` alone: ``len(source)`` and ``source[i]``.

    Args:
        owner: the call, for messages.

    Raises:
        TypeError: a sample is something else. ValueError: there is none.
    """

    def __init__(self, owner: str, source: Any) -> None:
        self.source, self._owner = source, owner
        if not len(source):
            raise ValueError(f"{owner}: 'X' is a data set of no samples, expected at least one")
        first = source[0]
        self.has_targets = isinstance(first, (tuple, list))
        self._first: list[NDArray[Any]] = []
        self._first = self._sample(first, 0)

    def columns(self) -> list[Rows]:
        """Its x, and its y where it has them, as rows."""
        return [Column(self, number, part) for number, part in enumerate(self._first)]

    def read(self, places: Any) -> list[NDArray[Any]]:
        """The x, and the y, of the samples at these places."""
        samples = [self._sample(self._item(int(place)), int(place)) for place in places]
        return [np.stack(parts) for parts in zip(*samples, strict=True)]

    def _item(self, place: int) -> Any:
        try:
            return self.source[place]
        except Exception as error:
            add_note(error, self._owner, f"sample {place}")
            raise

    def _sample(self, sample: Any, place: int) -> list[NDArray[Any]]:
        pair = isinstance(sample, (tuple, list))
        if pair != self.has_targets or (pair and len(sample) != 2):
            told = f"{len(sample)} parts" if pair else f"a {type(sample).__name__}"
            raise TypeError(
                f"{self._owner}: 'X' has {told} as sample {place}, expected "
                f"{'a pair (x, y)' if self.has_targets else 'an array'}"
            )
        parts = [self._array(value, place) for value in (sample if pair else [sample])]
        for number, (part, first) in enumerate(zip(parts, self._first, strict=False)):
            if part.shape != first.shape:
                raise ValueError(
                    f"{self._owner}: 'X' has the shape {part.shape} in sample {place}, expected "
                    f"{first.shape} as in sample 0"
                )
            if part.dtype == first.dtype:
                continue
            if not np.can_cast(part.dtype, first.dtype, "safe"):
                raise ValueError(
                    f"{self._owner}: 'X' has {part.dtype} in sample {place}, expected "
                    f"{first.dtype} as in sample 0 (give all samples one dtype)"
                )
            parts[number] = part.astype(first.dtype)
        return parts

    def _array(self, value: Any, place: int) -> NDArray[Any]:
        tensor = hasattr(value, "detach")
        array = array_of(self._owner, f"sample {place} of X", value) if tensor else value
        array = np.asarray(array)
        if array.dtype.kind not in "biuf":
            raise TypeError(
                f"{self._owner}: 'X' has a {type(value).__name__} in sample {place}, expected real "
                "numbers"
            )
        return array


class Column(Rows):
    """The x, or the y, of `Pairs`."""

    def __init__(self, pairs: Pairs, number: int, first: NDArray[Any]) -> None:
        super().__init__(pairs, (len(pairs.source), *first.shape), first.dtype)
        self.number = number

    def between(self, start: int, stop: int) -> NDArray[Any]:
        """The x, or the y, from there to there."""
        return self.at(np.arange(start, stop))

    def at(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """The x, or the y, at these positions."""
        if not len(places):
            return np.empty((0, *self.shape[1:]), self.dtype)
        part: NDArray[Any] = self.source.read(places)[self.number]
        return part


def rows_or_array(owner: str, name: str, value: Any) -> Any:
    """An array as `array_of` has it, or `Rows` of what lies in a file, as h5py's data sets do."""
    if isinstance(value, Rows):
        return value
    dtype = getattr(value, "dtype", None)
    outside = isinstance(dtype, np.dtype) and dtype.kind in "biuf" and hasattr(value, "__len__")
    if outside and not any(hasattr(value, sign) for sign in IN_MEMORY):
        shape = getattr(value, "shape", ())
        if len(shape) and hasattr(value, "__getitem__"):
            return Rows(value, shape, dtype)
    return array_of(owner, name, value)


def samples_or_array(owner: str, X: Any) -> Any:
    """An array or `Rows` of X whose targets are apart; samples by number are x alone.

    Raises:
        ValueError: they are pairs.
    """
    if not is_data_set(X):
        return rows_or_array(owner, "X", X)
    pairs = Pairs(owner, X)
    if pairs.has_targets:
        raise ValueError(f"{owner}: 'X' has pairs (x, y), expected no y beside it, or x alone")
    return pairs.columns()[0]


def is_data_set(X: Any) -> bool:
    """Whether ``X`` has samples by number, as a Dataset of PyTorch or a list of samples has."""
    if isinstance(X, list) and X and all(map(_is_sample, X)):
        return True
    if isinstance(X, (list, tuple)):
        return bool(X) and all(
            isinstance(x, (list, tuple)) and len(x) == 2 and hasattr(x[0], "shape") for x in X
        )
    if hasattr(X, "shape") or hasattr(X, "iloc") or isinstance(X, (dict, str, bytes, set, type)):
        return False
    return hasattr(X, "__getitem__") and hasattr(X, "__len__")


def _is_sample(x: Any) -> bool:
    return bool(getattr(x, "shape", ())) and not hasattr(x, "iloc")


def part_of(array: Any, places: NDArray[np.int64]) -> Any:
    """The samples of an array at these places; of what lies in a file, only when they are read."""
    if isinstance(array, (Rows, np.memmap)):
        return Part(array, places)
    return array[beside_samples(array, places)]


def add_note(error: BaseException, owner: str, where: str) -> None:
    """Say beside the message of an error in which call and where it happened."""
    if hasattr(error, "add_note"):
        error.add_note(f"{owner}: in {where}")
    elif len(error.args) == 1 and isinstance(error.args[0], str):  # Python 3.10
        error.args = (f"{error.args[0]} ({owner}: in {where})",)


def beside_samples(array: Any, values: NDArray[Any]) -> Any:
    """Positions, or weights, of the samples of ``array``: beside it on its device."""
    return values if isinstance(array, Rows) else beside(array, values)
