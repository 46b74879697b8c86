"""The rows that each rank has of a batch, where several processes train together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple


class Share(NamedTuple):
    """Some rows of a batch, one behind the other.

    Attributes:
        first: the place of the first of them in the batch.
        total: rows of the batch.
        rows: of X, of y, and of weights where there are any.
    """

    first: int
    total: int
    rows: tuple[Any, ...]

    def between(self, begin: int, end: int) -> Share:
        """The rows from place ``begin`` to place ``end`` of the batch, which are among these."""
        own = slice(begin - self.first, end - self.first)
        return Share(begin, self.total, tuple(part[own] for part in self.rows))


def bounds(total: int, part: int, parts: int) -> tuple[int, int]:
    """Where part number ``part`` of ``total`` rows begins and ends: sizes differ by at most one."""
    return part * total // parts, (part + 1) * total // parts


def share_of(batch: Sequence[Any], rank: int, size: int) -> Share:
    """The share of a rank of ``size`` in a batch."""
    total = len(batch[0])
    return Share(0, total, tuple(batch)).between(*bounds(total, rank, size))


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
