"""Batches in an order that depends on (seed, epoch) alone.

The order comes from raw Philox words, which NumPy keeps from release to release. It does not
promise that for ``Generator.permutation``. So a run resumed after an upgrade sees the same batches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass._keywords import suggest_keywords
from onepass.data._ahead import ahead
from onepass.data._given import array_of, pair_of
from onepass.data._rows import (
    Column,
    Pairs,
    Rows,
    add_note,
    beside_samples,
    is_data_set,
    rows_or_array,
    samples_or_array,
)
from onepass.data._shares import Share, bounds, is_by_sample, share_of
from onepass.data._weights import checked_weights

SAMPLING = ("epoch", "replacement", "cyclic")
LAST_BATCH = ("balance", "keep", "drop")
MOST = 257  # threads
SHOWN = 8  # samples that a message lists


class DataLoader:
    """Iterate over ``X`` (and ``y``) in batches; every ``iter()`` is the next epoch.

    Args:
        X: array whose axis 0 counts the samples; or a DataFrame, by position. A memory-mapped array
            (``np.load(path, mmap_mode="r")``) or a data set of h5py is read batch by batch. So are
            the samples ``X[i]`` of any object with ``__getitem__`` and ``__len__``, such as a
            Dataset of PyTorch, and of a list whose x are arrays: pairs (x, y), then without ``y``,
            or x alone. All have the shape and the dtype of the first.
        y: array or Series of as many targets, or None.
        batch_size: samples in a batch.
        shuffle: draw a new order for every epoch; else the given order.
        drop_last: the same as ``last_batch="drop"``, as PyTorch has it.
        seed: this and the number of the epoch alone decide the order.
        sampling: ``"epoch"``, each sample once an epoch; ``"replacement"``, as many independent
            uniform draws as there are samples (``shuffle`` has no effect); ``"cyclic"``, the
            same order in every epoch (with ``shuffle``, drawn once from ``seed``).
        last_batch: where ``batch_size`` does not divide the number of samples, ``"keep"`` makes the
            last batch smaller, ``"drop"`` leaves it out, and ``"balance"`` spreads the samples
            evenly over as many batches: their sizes differ by at most one.
        sample_weight: array or list of a weight >= 0 for each sample, or for each target of those
            that y has for a sample; or None.
        transform: ``X, y = transform(X, y, seed=…, epoch=…, index=…)`` of each batch, a function of
            these alone, so that a resumed run sees the same; ``index`` has the samples' places in
            the data. Those of ``onepass.data.augment`` are. It is for training: a Trainer's
            ``evaluate``, ``predict`` and validation leave it out. Where several ranks train
            together, each transforms the whole batch, and keeps its share; one whose attribute
            ``by_sample`` is True, because no sample depends on others, gets the share alone.
        num_workers: threads that read and transform batches ahead, two for each; batches and their
            order are the same for any number. 0 does it when a batch is asked for. None: 1 with a
            transform, else 0; always 0 for arrays on a device, because a stream belongs to its
            thread. With more than one, a data set or function of your own is called by several
            threads at once.

    Attributes:
        epoch: the epoch of the next ``iter()``, from 0; you may set it, to a count below 2⁶⁴.

    Yields:
        ``(X_batch, y_batch)``, or ``X_batch`` where ``y`` is None, or ``(X_batch, y_batch,
        weights)``. Without shuffling they are views of the data.

    Raises:
        TypeError: X or y is not an array, weights are not numbers, or a flag is neither True nor
            False. ValueError: no samples, different lengths, a weight that is negative or not
            finite, a batch size below 1, an unknown ``sampling``, or no batch at all with
            ``drop_last``. While it iterates, what the data set or the transform raises, with a note
            of the batch and its samples.

    Example:
        >>> import numpy as np
        >>> from onepass.data import DataLoader
        >>> loader = DataLoader(np.arange(5.0), np.arange(5), batch_size=2)
        >>> [y.tolist() for _, y in loader]
        [[0, 1], [2, 3], [4]]
        >>> loader.epoch
        1
    """

    @suggest_keywords
    def __init__(
        self,
        X: Any,
        y: Any = None,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        sampling: str = "epoch",
        *,
        last_batch: str | None = None,
        sample_weight: Any = None,
        transform: Any = None,
        num_workers: int | None = None,
    ) -> None:
        if y is None and is_data_set(X):
            X, y = (*Pairs("DataLoader", X).columns(), None)[:2]
        self.X = X = samples_or_array("DataLoader", X)
        self.y = y = None if y is None else rows_or_array("DataLoader", "y", y)
        self.size = _length("X", X)
        if self.size == 0:
            raise ValueError(
                f"DataLoader: 'X' has shape {tuple(X.shape)}, expected at least one sample along "
                "axis 0"
            )
        if y is not None and _length("y", y) != self.size:
            raise ValueError(
                f"DataLoader: 'y' has {len(y)} samples, expected {self.size} as in 'X'"
            )
        self.batch_size = numbers.integer("DataLoader", "batch_size", batch_size, 1)
        self.seed = numbers.seed("DataLoader", "seed", seed)
        numbers.one_of("DataLoader", "sampling", sampling, SAMPLING)
        self.shuffle = numbers.flag("DataLoader", "shuffle", shuffle)
        drop = numbers.flag("DataLoader", "drop_last", drop_last)
        if last_batch is not None:
            numbers.one_of("DataLoader", "last_batch", last_batch, LAST_BATCH)
            if drop and last_batch != "drop":
                raise ValueError(
                    f"DataLoader: 'last_batch' is {last_batch!r}, expected 'drop' (or nothing) "
                    "with drop_last=True"
                )
        self.last_batch = last_batch or ("drop" if drop else "keep")
        if self.last_batch == "drop" and self.size < self.batch_size:
            option = "drop_last=True" if drop else "last_batch='drop'"
            raise ValueError(
                f"DataLoader: 'batch_size' is {batch_size}, expected at most {self.size}, the "
                f"number of samples, with {option}"
            )
        if isinstance(transform, type):
            raise TypeError(
                f"DataLoader: 'transform' is the class {transform.__name__}, expected one made of "
                f"it: {transform.__name__}(…)"
            )
        if transform is not None and not callable(transform):
            raise TypeError(
                f"DataLoader: 'transform' is {transform!r}, expected a function (X, y, *, seed, "
                "epoch, index) -> (X, y)"
            )
        self.transform = transform
        self._on_device = not all(isinstance(a, (np.ndarray, Rows, type(None))) for a in (X, y))
        if num_workers is not None:
            numbers.integer("DataLoader", "num_workers", num_workers, 0, MOST)
            if num_workers and self._on_device:
                raise ValueError(
                    f"DataLoader: 'num_workers' is {num_workers}, expected 0 for arrays on a "
                    "device, where each thread has a stream of its own"
                )
        self.num_workers = num_workers
        self.sample_weight = sample_weight
        if sample_weight is not None:
            if y is None:
                raise ValueError("DataLoader: 'sample_weight' is given, expected None without y")
            self.sample_weight = _weights(y, sample_weight)
        self.sampling = sampling
        self.epoch = 0

    @property
    def epoch(self) -> int:
        return self._epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._epoch = numbers.integer("DataLoader", "epoch", value, 0, 2**64)

    @property
    def drop_last(self) -> bool:
        """Whether a smaller last batch is left out."""
        return self.last_batch == "drop"

    def __len__(self) -> int:
        """Batches in an epoch."""
        full, rest = divmod(self.size, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def ends(self, count: int) -> bool:
        """Whether batch number ``count``, from 1, is the last of an epoch."""
        return count == len(self)

    def __iter__(self) -> Generator[Any, None, None]:
        """Batches of the epoch ``self.epoch``; advances ``self.epoch``."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self.batches(epoch)

    def untransformed(self) -> DataLoader:
        """This loader, to evaluate by: without its transform."""
        if self.transform is None:
            return self
        plain = copy.copy(self)
        plain.transform = None
        return plain

    def __repr__(self) -> str:
        return (
            f"DataLoader({self.size} samples, batch_size={self.batch_size}, "
            f"shuffle={self.shuffle}, last_batch={self.last_batch!r}, seed={self.seed}, "
            f"sampling={self.sampling!r})"
        )

    @property
    def smallest_batch(self) -> int:
        """Samples in the smallest batch of an epoch."""
        return min(self._bounds(i + 1) - self._bounds(i) for i in (0, len(self) - 1))

    def order(self, epoch: int) -> NDArray[np.int64] | None:
        """The indices of the samples in epoch ``epoch``; None for the given order."""
        if self.sampling == "replacement":
            return draw(self.size, self.seed, epoch)
        if not self.shuffle:
            return None
        return permutation(self.size, self.seed, 0 if self.sampling == "cyclic" else epoch)

    def batches(self, epoch: int, start: int = 0) -> Generator[Any, None, None]:
        """Batches of epoch ``epoch`` from number ``start`` on; leaves ``self.epoch`` alone."""
        return self._each(epoch, start, lambda read, span: read(span))

    def shares(self, epoch: int, start: int, rank: int, size: int) -> Generator[Share, None, None]:
        """The rows that rank ``rank`` of ``size`` has of the batches of epoch ``epoch`` from number
        ``start`` on; others it does not read.

        But a transform that mixes samples, or does not say that it does not, gets whole batches.
        """
        alone = is_by_sample(self.transform)

        def share(read: Callable[[slice], Any], span: slice) -> Share:
            if not alone:
                return share_of(read(span), rank, size)
            total = span.stop - span.start
            first, end = bounds(total, rank, size)
            place = span.start + first  # a transform gets one row at least
            own = Share(first, total, read(slice(place, place + max(end - first, 1))))
            return own.between(first, end)

        return self._each(epoch, start, share)

    def _each(
        self, epoch: int, start: int, taken: Callable[[Callable[[slice], Any], slice], Any]
    ) -> Generator[Any, None, None]:
        """What is ``taken(read, span)`` of each batch, ``span`` being its places in the order."""
        order = self.order(numbers.integer("DataLoader", "epoch", epoch, 0))
        arrays = [a for a in (self.X, self.y, self.sample_weight) if a is not None]
        orders = [None if order is None else beside_samples(array, order) for array in arrays]

        def read(span: slice) -> Any:
            batch = self._read(arrays, orders, span)
            if self.transform is not None:
                index = _places(order, span)
                batch[:2] = self._transformed(*batch[:2], epoch=epoch, index=index)
            return batch[0] if self.y is None else tuple(batch)

        def make(number: int) -> Any:
            span = slice(self._bounds(number), self._bounds(number + 1))
            try:
                return taken(read, span)
            except Exception as error:
                samples = _listed(_places(order, span))
                add_note(error, "DataLoader", f"batch {number} of epoch {epoch}, samples {samples}")
                raise

        workers = self.num_workers
        if workers is None:
            workers = int(self.transform is not None and not self._on_device)
        return ahead(make, range(start, len(self)), workers)

    def first(self, count: int) -> Any:
        """The X of the first ``count`` samples, as they come in a batch."""
        batch = self._read(
            [self.X, *([] if self.y is None else [self.y])], [None, None], slice(0, count)
        )
        if self.transform is None:
            return batch[0]
        return self._transformed(*batch, epoch=0, index=np.arange(count))[0]

    def _transformed(self, x: Any, y: Any = None, *, epoch: int, index: Any) -> tuple[Any, ...]:
        """X, and y where there are any, after the transform, which may write into what it gets."""
        x, y = (part.copy() if getattr(part, "base", None) is not None else part for part in (x, y))
        result = self.transform(x, y, seed=self.seed, epoch=epoch, index=index)
        x, y = pair_of("DataLoader", "transform", result)
        x = array_of("DataLoader", "X of 'transform'", x)
        if self.y is None:
            return (x,)
        y = array_of("DataLoader", "y of 'transform'", y)
        if len(x) != len(y) or (self.sample_weight is not None and len(x) != len(index)):
            raise ValueError(
                f"DataLoader: 'transform' returned {len(x)} samples and {len(y)} targets, expected "
                f"as many, {len(index)} as before"
            )
        return x, y

    def _read(self, arrays: list[Any], orders: list[Any], span: slice) -> list[Any]:
        """The samples of a batch, of each array."""
        taken = [span if order is None else order[span] for order in orders]
        x, y = self.X, self.y
        pairs = isinstance(x, Column) and isinstance(y, Column) and x.source is y.source
        if pairs and span.start < span.stop:
            both = x.source.read(_places(orders[0], span))  # a pair is read once
            return [*both, *(a[t] for a, t in zip(arrays[2:], taken[2:], strict=True))]
        return [array[part] for array, part in zip(arrays, taken, strict=False)]

    def _bounds(self, number: int) -> int:
        """The place in the order where batch ``number`` begins."""
        if self.last_batch != "balance":
            return min(number * self.batch_size, self.size)
        size, larger = divmod(self.size, len(self))
        return number * size + min(number, larger)


def _places(order: NDArray[np.int64] | None, span: slice) -> NDArray[np.int64]:
    """The samples of a batch, by their places in the data."""
    return np.arange(span.start, span.stop) if order is None else order[span]


def _listed(index: NDArray[np.int64]) -> str:
    few = ", ".join(map(str, index[:SHOWN].tolist()))
    return few + (f", … ({len(index)} of them)" if len(index) > SHOWN else "")


def permutation(size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of ``range(size)``: the order that sorts ``size`` random 64-bit keys."""
    return np.argsort(_words(size, seed, epoch), kind="stable").astype(np.int64, copy=False)


def draw(size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """``size`` independent draws from ``range(size)``, uniform to within size / 2**53."""
    unit = (_words(size, seed, epoch) >> np.uint64(11)) * 2.0**-53
    index: NDArray[np.int64] = (unit * size).astype(np.int64)
    return index


def _words(size: int, seed: int, epoch: int) -> NDArray[np.uint64]:
    key = np.array([seed & (2**64 - 1), epoch], dtype=np.uint64)
    words: NDArray[np.uint64] = np.random.Philox(key=key).random_raw(size)
    return words


def _weights(y: Any, sample_weight: Any) -> Any:
    """A weight for each target, in the library of y."""
    weight = checked_weights("DataLoader", "sample_weight", sample_weight, (*range(1, y.ndim + 1),))
    if weight.shape != tuple(y.shape)[: weight.ndim]:
        raise ValueError(
            f"DataLoader: 'sample_weight' has shape {weight.shape}, expected "
            f"{tuple(y.shape)[: weight.ndim]}, a weight for each target"
        )
    if not weight.sum() > 0:
        raise ValueError("DataLoader: 'sample_weight' has the sum 0, expected a positive weight")
    return beside_samples(y, weight)


def _length(name: str, array: Any) -> int:
    shape = array.shape
    if len(shape) == 0:
        raise ValueError(
            f"DataLoader: {name!r} is a scalar, expected an array with the samples along axis 0"
        )
    return int(shape[0])
