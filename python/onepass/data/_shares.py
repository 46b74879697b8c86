"""The rows that each rank has of a batch, where several processes train together."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from onepass._array import to_numpy

BEGINNING = 4096  # bytes of a batch's first sample that tell it from another


class Share(NamedTuple):
    """Some rows of a batch, one behind the other.

    Attributes:
        first: the place of the first of them in the batch.
        total: rows of the batch.
        rows: of X, of y, and of weights where there are any.
        mark: a checksum of the batch, where whoever has the share has seen all of it; else 0.
        spare: one row of another share, where this one has none.
    """

    first: int
    total: int
    rows: tuple[Any, ...]
    mark: int = 0
    spare: tuple[Any, ...] = ()

    def between(self, begin: int, end: int) -> Share:
        """The rows from place ``begin`` to place ``end`` of the batch, which are among these."""
        own = slice(begin - self.first, end - self.first)
        rows = tuple(part[own] for part in self.rows)
        spare = self.spare
        if begin == end and len(self.rows[0]):
            spare = tuple(part[:1] for part in self.rows)
        return Share(begin, self.total, rows, self.mark, spare)


def bounds(total: int, part: int, parts: int) -> tuple[int, int]:
    """Where part number ``part`` of ``total`` rows begins and ends: sizes differ by at most one."""
    return part * total // parts, (part + 1) * total // parts


def share_of(batch: Sequence[Any], rank: int, size: int) -> Share:
    """The share of a rank of ``size`` in a batch."""
    total, mark = len(batch[0]), mark_of(*batch[:2]) if size > 1 else 0
    return Share(0, total, tuple(batch), mark).between(*bounds(total, rank, size))


def mark_of(x: Any, y: Any = None) -> int:
    """A checksum of a batch: of its targets, and of how its first sample begins."""
    begins = np.ascontiguousarray(to_numpy(x[:1])).tobytes()[:BEGINNING]
    whole = b"" if y is None else np.ascontiguousarray(to_numpy(y)).tobytes()
    return zlib.crc32(whole, zlib.crc32(begins))


def is_by_sample(transform: Any) -> bool:
    """Whether a transform of a share gives the same as the share of the transformed batch.

    Those of ``data.augment`` say it in ``by_sample``, as any transform may; of one that does not,
    nobody knows.
    """
    if isinstance(transform, partial) and transform.func is placed:
        transform = transform.args[0]
    return transform is None or bool(getattr(transform, "by_sample", False))


def placed(
    transform: Any, places: Any, X: Any, y: Any, *, seed: int, epoch: int, index: Any
) -> Any:
    """A transform of samples whose places in the user's data these are."""
    return transform(X, y, seed=seed, epoch=epoch, index=places[index])
