"""Which part of each batch a process trains on, and the totals over the parts of all processes.

A batch is cut into pieces, whose sums are added up in the order of the pieces: one piece for each
rank, or ``reproducible`` pieces, of which each rank has as many. Piece k of n rows has rows
k·n//pieces up to (k + 1)·n//pieces, so the pieces of a rank lie side by side.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onepass import _numbers as numbers
from onepass.data._shares import Share, bounds
from onepass.parallel import Communicator
from onepass.parallel._collectives import gather
from onepass.train._run import Run
from onepass.train._settings import classes_of
from onepass.train._totals import NONE, Totals

PIECES = 8  # of reproducible=True
# Columns before those of the metrics. SAMPLES, MARK and END are not sums: the same in each row.
LOSS, DIVISOR, SUMMED, SAMPLES, MARK, END = range(6)


def pieces_of(
    reproducible: Any, size: int, owner: str = "Trainer", name: str = "reproducible"
) -> int | None:
    """How many pieces of a batch there are whatever the number of ranks; None: one for each.

    Args:
        owner, name: for messages.

    Raises:
        TypeError, ValueError: no such number, or one that ``size`` ranks cannot share.
    """
    if reproducible is None or reproducible is False:
        return None
    count = PIECES if reproducible is True else reproducible
    count = numbers.integer(owner, name, count, 1)
    if count & (count - 1):
        raise ValueError(
            f"{owner}: {name!r} is {count}, expected a power of two, such as {PIECES}: the "
            "number of pieces of a batch"
        )
    if size & (size - 1) or size > count:
        raise ValueError(
            f"{owner}: {name!r} is {reproducible!r}, with {size} ranks, expected a number of ranks "
            f"that is a power of two and at most {count}, the number of pieces of a batch"
        )
    return count


class Ranks:
    """The processes that train together, and the pieces of a batch that each has.

    Args:
        comm: their communicator.
        pieces: of a batch; None: one for each rank.
    """

    def __init__(self, comm: Communicator, pieces: int | None = None) -> None:
        self.comm = comm
        self.rank, self.size = comm.rank, comm.size
        self.pieces = pieces or comm.size
        self.are_pieces_fixed = pieces is not None
        self.own = range(*bounds(self.pieces, comm.rank, comm.size))

    def __reduce__(self) -> Any:
        return Ranks, (self.comm, self.pieces if self.are_pieces_fixed else None)

    def split(self, share: Share) -> list[Share]:
        """This rank's pieces of a batch."""
        if len(self.own) == 1:
            return [share]
        return [share.between(*bounds(share.total, k, self.pieces)) for k in self.own]

    def joined(self, batches: Sequence[Sequence[NDArray[Any]]]) -> NDArray[Any]:
        """The rows that all ranks have of some batches, in the order of the batches.

        Args:
            batches: this rank's arrays of each batch; none where it has no rows.
        """
        own = [array for arrays in batches for array in arrays]
        parts = gather(self.comm, np.concatenate(own) if own else np.empty((0,)))
        if len(batches) == 1:
            return np.concatenate(parts)
        lengths = np.array([sum(map(len, arrays)) for arrays in batches], np.int64)
        ends = [np.cumsum([0, *of_rank]) for of_rank in gather(self.comm, lengths)]
        return np.concatenate([
            part[end[batch] : end[batch + 1]]
            for batch in range(len(batches))
            for part, end in zip(parts, ends, strict=True)
        ])  # fmt: skip


class SharedTotals:
    """Totals of batches of which each rank has some pieces.

    Args:
        run: whose metrics they are.
        more: numbers of each piece beside the sums of loss and metrics.
    """

    def __init__(self, ranks: Ranks, run: Run, more: int = 0) -> None:
        self._ranks, self._metrics, self._classes = ranks, run.metrics, classes_of(run)
        metrics = self._metrics
        self._names = [name for name, metric in metrics.items() if metric.parts is not None]
        self._keeps_outputs = len(self._names) < len(metrics)
        self._pieces = [Totals() for _ in ranks.own]
        self._outputs: list[list[Any]] = []  # of each batch
        self._targets: list[list[Any]] = []
        self._columns = END + 1 + 2 * len(self._names)
        self._seen = 0, 0, False  # samples and checksum of the batches, whether the last is there
        self._table = np.zeros((ranks.pieces, self._columns + more))

    def begin_batch(self, share: Share, *, ends: bool = False) -> None:
        """Before the pieces of a batch.

        Args:
            share: this rank's.
            ends: whether it is the last of its epoch.
        """
        samples, mark, _ = self._seen
        mark = zlib.crc32(struct.pack("<qI", share.total, share.mark), mark)
        self._seen = samples + share.total, mark, ends
        self._outputs.append([])
        self._targets.append([])

    def settle(self, pieces: Sequence[tuple[Any, Any]]) -> None:
        """Decide what one output a sample is by those of all ranks, where the first outputs do.

        Every rank calls it, before the pieces of a batch are added.

        Args:
            pieces: outputs and targets of this rank; None where it has none.
        """
        if not self._metrics or not self._classes.is_open():
            return
        votes = np.zeros(2, np.int64)
        for output, target in pieces:
            if output is not None and len(output):
                votes += self._classes.vote(output, target)
        self._ranks.comm.sum_(votes)
        self._classes.decide(*map(bool, votes))

    def add(self, piece: int, loss: Any, divisor: float | None, output: Any, target: Any) -> None:
        """Count number ``piece`` of this rank's pieces, which has rows."""
        totals = self._pieces[piece]
        value = 0.0 if divisor == 0 else float(loss)
        totals.add(self._metrics, value, divisor, output, target)
        if self._keeps_outputs:
            self._outputs[-1].append(totals.outputs.pop())
            self._targets[-1].append(totals.targets.pop())

    def note(self, piece: int, values: Sequence[float]) -> None:
        """Set the numbers beside the sums."""
        self._table[self._ranks.own[piece], self._columns :] = values

    def filled(self) -> NDArray[np.float64]:
        """A row for each piece, to be summed over the ranks: those of other ranks are zero."""
        for number, totals in zip(self._ranks.own, self._pieces, strict=True):
            pairs = [totals.sums.get(name, NONE) for name in self._names]
            sums = totals.sums.get("loss", NONE)
            self._table[number, : self._columns] = [
                *sums, totals.summed, *self._seen, *(value for pair in pairs for value in pair)
            ]  # fmt: skip
        return self._table

    def difference(self, table: NDArray[np.float64], where: str = "") -> str | None:
        """How the batches of a rank are others than those of rank 0, in words; None if they are
        the same.

        Args:
            table: that of ``filled``, summed over the ranks.
            where: " in epoch 1, batch 2".
        """
        size, pieces = self._ranks.size, self._ranks.pieces
        seen = table[[bounds(pieces, rank, size)[0] for rank in range(size)], SAMPLES : END + 1]
        others = np.flatnonzero((seen != seen[0]).any(axis=1))
        if not others.size:
            return None
        rank = int(others[0])
        (samples, mark, end), (other_samples, other_mark, _) = seen[[0, rank]].astype(int).tolist()
        if samples != other_samples:
            return f"rank 0 has {samples} samples and rank {rank} has {other_samples}{where}"
        if mark != other_mark:
            return f"rank 0 and rank {rank} have other samples{where}"
        last, on = (0, rank) if end else (rank, 0)
        return f"{where[4:]} is the last of the epoch on rank {last} and not on rank {on}"

    def whole(self, table: NDArray[np.float64]) -> tuple[Totals, NDArray[np.float64]]:
        """The totals of all ranks, and the sums of the other numbers.

        Every rank calls it: it gathers the outputs where a metric needs them.

        Args:
            table: that of ``filled``, summed over the ranks.
        """
        row = table.sum(axis=0)
        totals = Totals()
        totals.summed = bool(row[SUMMED])
        if totals.summed or row[DIVISOR]:
            divisor = 1.0 if totals.summed else float(row[DIVISOR])
            totals.sums["loss"] = float(row[LOSS]), divisor
        for number, name in enumerate(self._names):
            at = END + 1 + 2 * number
            totals.sums[name] = float(row[at]), float(row[at + 1])
        if self._keeps_outputs:
            totals.outputs = [self._ranks.joined(self._outputs)]
            totals.targets = [self._ranks.joined(self._targets)]
        return totals, row[self._columns :]
