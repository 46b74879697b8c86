"""The training loop of several ranks, or of pieces of batches: the same steps as in one process.

Each rank goes forward and backward over its rows of a batch. The gradient of its loss is multiplied
by the divisor of that loss, so gradients, divisors and losses are sums, which one reduction adds up
over the ranks before the step; the step divides once. So what a step is, whether it is skipped or
clipped, and every number of the history are the same on all ranks: only afterwards do they decide.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import closing
from typing import Any

import numpy as np

from onepass.data._loader import DataLoader
from onepass.data._shares import Share
from onepass.nn._random import streams
from onepass.nn._shares import place
from onepass.parallel._collectives import broadcast_object
from onepass.train._agreement import refuse_differences, share_model
from onepass.train._loaders import Loader
from onepass.train._loop import Loop
from onepass.train._ranks import Ranks, SharedTotals
from onepass.train._run import Run
from onepass.train._shared_gradients import InTree, Summed
from onepass.train._spoilt import SpoiltBatchError, not_finite
from onepass.train._totals import Totals
from onepass.train._weights import divisor_of


class SharedLoop(Loop):
    """Trains a run over this rank's rows of the batches of a loader.

    Args:
        ranks: of which this process is one.
    """

    def __init__(self, run: Run, ranks: Ranks) -> None:
        super().__init__(run)
        self._ranks = ranks

    def _forget(self) -> None:
        super()._forget()
        self._begun_batches: list[tuple[Share, SharedTotals]] = []
        self._gradients: Summed | InTree | None = None

    def train(self, loader: Loader, validation: Loader | None) -> None:
        run, comm = self.run, self._ranks.comm
        refuse_differences(run, comm)
        share_model(run, comm)
        self._streams = [*streams(run.model).values()]
        try:
            super().train(loader, validation)
        finally:
            place(run.model, 0)
            run.place = None

    # Steps.

    def _begin_step(self) -> None:
        super()._begin_step()
        self._begun_batches = []
        if self._gradients is None or self._gradients.optimizer is not self.run.optimizer:
            kind = InTree if self._ranks.are_pieces_fixed else Summed
            self._gradients = kind(self.run.optimizer, self._ranks)
        self._gradients.begin_step()

    def _forward_backward(self, batch: Share) -> None:
        run, ranks = self.run, self._ranks
        self._batch = share = batch._replace(rows=tuple(map(run.moved, batch.rows)))
        totals = SharedTotals(ranks, run.metrics, 2 * len(self._penalties))
        self._begun_batches.append((share, totals))
        totals.begin_batch(share.total)
        pieces = ranks.split(share)
        weights = self._weights_of_penalties(pieces, share.total)
        places = [stream.peek() for stream in self._streams]
        assert self._gradients is not None
        for number, piece in enumerate(pieces):
            if number:  # all pieces have the masks of one call
                for stream, at in zip(self._streams, places, strict=True):
                    stream.set(*at)
            self._one(number, piece, weights[number], totals)
            self._gradients.end_piece()
        self._gradients.end_batch()

    def _one(self, number: int, piece: Share, weight: float, totals: SharedTotals) -> None:
        """Forward and backward of a piece, which may have no rows."""
        run, (x, target, *more) = self.run, piece.rows
        place(run.model, piece.first)
        output = run.model(x)
        if len(x):
            loss, dy, divisor = self._loss_of(output, target, *more)
            totals.add(number, loss, divisor, output, target)
        else:  # layers that normalise over all ranks are called nevertheless
            divisor, dy = 0.0, output * 0
        share = self._share(divisor)
        dy = dy if share == 1 else dy * share
        if not self._penalties:
            run.model.backward(dy, **self._options)
            return
        run.place = piece.first, piece.total
        self._penalties.before_backward(run, weight)
        run.model.backward(dy, **self._options)
        values = self._penalties.of_batch(run, x, weight)
        part = len(x) / piece.total
        totals.note(number, [n for v in values for n in ((v or 0.0) * part, v is not None)])

    def _share(self, divisor: float | None) -> float:
        """What makes of the mean of a piece its sum, in a scale that all ranks have."""
        if divisor is None:
            return 1.0
        return divisor / self._begun_batches[0][0].total

    def _weights_of_penalties(self, pieces: list[Share], total: int) -> list[float]:
        """What the penalty of each piece is multiplied by: a mean over its rows.

        That of a batch has the weight of its loss, whose divisor is that of all ranks.
        """
        if not self._penalties.are_of_batches:
            return [0.0] * len(pieces)
        divisors = np.zeros(self._ranks.pieces)
        for number, piece in zip(self._ranks.own, pieces, strict=True):
            _, target, *weight = piece.rows
            divisor = divisor_of(self.run.loss, target)
            if weight:
                divisor = self._weighted.divisor(target, *weight)
            divisors[number] = math.inf if divisor is None else divisor if len(target) else 0.0
        self._ranks.comm.sum_(divisors)
        whole = float(divisors.sum())
        weight_of_batch = 1.0 if math.isinf(whole) else self._share(whole)
        return [weight_of_batch * len(piece.rows[0]) / total for piece in pieces]

    def _gather(self) -> None:
        """The sums over all ranks of the gradients, and of what was counted since the last step."""
        assert self._gradients is not None
        count = len(self._begun_batches)
        tables = np.stack([totals.filled() for _, totals in self._begun_batches])
        self._gradients.end_step(tables)
        for number, (share, totals) in enumerate(self._begun_batches):
            self._count_batch(self.run.position - count + number + 1, share, *totals.whole(tables[number]))

    def _count_batch(self, batch: int, share: Share, totals: Totals, penalties: Any) -> None:
        """As `_count`, of batch number ``batch`` on all ranks, and its penalties."""
        run, silent = self.run, self._penalties.silent
        loss, divisor = totals.sums.get("loss", (0.0, 0.0))
        run.batch_loss = loss / divisor if divisor else 0.0
        if not totals.summed:
            self._weight += divisor / self._begun_batches[0][0].total
        finite = math.isfinite(run.batch_loss)
        if not finite and run.nonfinite == "raise" and not silent:
            raise self._not_finite(f"epoch {run.epoch + 1}, batch {batch}", share)
        if (finite or run.nonfinite == "propagate") and not silent:
            run.sums.join(totals)
        if self._penalties:
            values = [v if there else None for v, there in penalties.reshape(-1, 2).tolist()]
            self._penalties.after_batch(run, values, None if totals.summed else divisor, batch)

    def _not_finite(self, where: str, share: Share) -> FloatingPointError:
        """The error of the first rank whose own values explain it, on all ranks."""
        x, target, *_ = share.rows
        own = not_finite(self.run.batch_loss, where, share.first, X=x, y=target)
        comm = self._ranks.comm
        spoilt = np.zeros(comm.size, np.int64)
        spoilt[comm.rank] = isinstance(own, SpoiltBatchError)
        comm.sum_(spoilt)
        if not spoilt.any():
            return own
        return SpoiltBatchError(broadcast_object(comm, str(own), int(spoilt.argmax())))

    def _again(self) -> float:
        self._forward_backward(self._batch)
        self._gather()
        return self.run.batch_loss

    # Epochs.

    def _batches(self, loader: Loader) -> Generator[Any, None, None]:
        ranks, run = self._ranks, self.run
        return loader.shares(run.epoch, run.position, ranks.rank, ranks.size)

    def _evaluated(self, validation: Loader) -> dict[str, float]:
        run, ranks = self.run, self._ranks
        totals = SharedTotals(ranks, run.metrics)
        epoch = 0
        if isinstance(validation, DataLoader):  # as iter() does
            epoch, validation.epoch = validation.epoch, validation.epoch + 1
        batches = validation.shares(epoch, 0, ranks.rank, ranks.size)
        with run.evaluating(validation), closing(batches):
            for share in batches:
                totals.begin_batch(share.total)
                for number, piece in enumerate(ranks.split(share)):
                    if len(piece.rows[0]):
                        totals.add(number, *run.judged(piece.rows))
        table = totals.filled()
        ranks.comm.sum_(table)
        return totals.whole(table)[0].values_of(run.metrics)

    def _take_logged(self) -> dict[str, float]:
        logged: dict[str, float] = broadcast_object(self._ranks.comm, self.run.take_logged())
        return logged

    def _is_interrupted(self) -> bool:
        """Whether a rank has a SIGINT to answer: all do. And all stop where one is to."""
        run = self.run
        flags = np.array([self._interrupt.requested, run.stop], np.int64)
        self._ranks.comm.sum_(flags)
        interrupted, run.stop = map(bool, flags.tolist())
        self._interrupt.requested |= interrupted
        return interrupted

    def _to_call(self, callbacks: list[Any]) -> list[Any]:
        return [c for c in callbacks if not c.rank_0_only or self._ranks.rank == 0]


def loop_of(run: Run) -> Loop:
    """The loop of a run: the plain one where a single process trains on whole batches."""
    if run.comm.size == 1 and run.reproducible is None:
        return Loop(run)
    return SharedLoop(run, Ranks(run.comm, run.reproducible))
