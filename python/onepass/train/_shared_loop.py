"""The training loop of several ranks, or of pieces of batches: the same steps as in one process.

Each rank goes forward and backward over its rows of a batch. The gradient of its loss is multiplied
by the divisor of that loss, so gradients, divisors and losses are sums, which one reduction adds up
over the ranks before the step; the step divides once. So what a step is, whether it is skipped or
clipped, and every number of the history are the same on all ranks: only afterwards do they decide.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from onepass.data._loader import DataLoader
from onepass.data._shares import Share
from onepass.nn._batch_norm import BatchNorm
from onepass.nn._shares import place, streams_of
from onepass.parallel._collectives import broadcast_object
from onepass.train import _closure
from onepass.train._agreement import refuse_differences, share_model
from onepass.train._blas import cores_of_rank
from onepass.train._loaders import Loader
from onepass.train._loop import Loop
from onepass.train._ranks import Ranks, SharedTotals
from onepass.train._replicas import Replicas, synchronised
from onepass.train._run import Run
from onepass.train._shared_gradients import InTree, Summed, gradients_of
from onepass.train._spoilt import SpoiltBatchError, not_finite
from onepass.train._totals import Totals
from onepass.train._weights import divisor_of


class Passed(NamedTuple):
    """What forward and backward of a piece give: the penalties are those of batches."""

    loss: Any
    divisor: float | None
    output: Any
    penalties: list[float | None]


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
        self._stopped = False
        self._all_fail = False  # the error that comes now is one of all ranks
        self._begun_batches: list[tuple[Share, SharedTotals]] = []
        self._gradients: Summed | InTree | None = None
        self._replicas: Replicas | None = None

    def train(self, loader: Loader, validation: Loader | None) -> None:
        run, comm = self.run, self._ranks.comm
        refuse_differences(run, comm)
        share_model(run, comm)
        norms = [m for m in run.model.modules() if isinstance(m, BatchNorm)]
        self._joins_evaluation = any(norm.running_mean is None for norm in norms)
        cores = cores_of_rank()
        with cores, synchronised(run.model, self._ranks) as self._replicas:
            try:
                super().train(loader, validation)
            finally:
                place(run.model, 0)
                run.place, self._replicas = None, None

    def _follow_parts(self) -> None:
        super()._follow_parts()
        if self._replicas is not None and self._penalties.are_of_batches:
            raise ValueError(
                "Trainer: 'regularizers' has a penalty of batches, expected those of parameters "
                "alone with 'reproducible' and batch norms"
            )

    # Steps.

    def _begin_step(self) -> None:
        super()._begin_step()
        self._all_fail = False
        self._begun_batches = []
        if self._gradients is None or self._gradients.optimizer is not self.run.optimizer:
            self._gradients = gradients_of(self.run.optimizer, self._ranks)
        self._gradients.begin_step()

    def _forward_backward(self, batch: Share) -> None:
        run, ranks, replicas = self.run, self._ranks, self._replicas
        self._batch = share = batch._replace(rows=tuple(map(run.moved, batch.rows)))
        of_batches = self._penalties.are_of_batches
        totals = SharedTotals(ranks, run.metrics, 2 * len(self._penalties) * of_batches)
        self._begun_batches.append((share, totals))
        totals.begin_batch()
        pieces = ranks.split(share)
        assert self._gradients is not None
        if replicas is None:
            weights = self._weights_of_penalties(pieces, share.total) if of_batches else None
            dropping = streams_of(run.model)
            masks = [stream.peek() for stream in dropping]
            for number, piece in enumerate(pieces):
                if number:  # all pieces have the masks of one call
                    for stream, at in zip(dropping, masks, strict=True):
                        stream.set(*at)
                weight = None if weights is None else weights[number]
                passed = self._passed(run.model, piece, weight)
                self._note(number, piece, passed, totals)
                self._gradients.end_piece(None)
        else:
            found = replicas.run(lambda number, model: self._passed(model, pieces[number], None))
            for number, (piece, passed) in enumerate(zip(pieces, found, strict=True)):
                self._note(number, piece, passed, totals)
                self._gradients.end_piece(replicas.parameters(number, run.optimizer))
        self._gradients.end_batch()

    def _passed(self, model: Any, piece: Share, weight: float | None) -> Passed:
        """Forward and backward of a piece, which may have no rows.

        Args:
            weight: of its penalties of batches; None without any.
        """
        x, target, *more = piece.rows
        place(model, piece.first)
        output = model(x)
        if len(x):
            loss, dy, divisor = self._loss_of(output, target, *more)
        else:  # layers that normalise over all ranks are called nevertheless
            loss, dy, divisor = 0.0, output * 0, 0.0
        share = self._share(divisor)
        dy = dy if share == 1 else dy * share
        if weight is None:
            model.backward(dy, **self._options)
            return Passed(loss, divisor, output, [])
        self.run.place = piece.first, piece.total
        self._penalties.before_backward(self.run, weight)
        model.backward(dy, **self._options)
        return Passed(loss, divisor, output, self._penalties.of_batch(self.run, x, weight))

    def _note(self, number: int, piece: Share, passed: Passed, totals: SharedTotals) -> None:
        """Count a piece among those of its batch."""
        x, target, *_ = piece.rows
        if len(x):
            totals.add(number, passed.loss, passed.divisor, passed.output, target)
        part = len(x) / piece.total
        penalties = [((v or 0.0) * part, float(v is not None)) for v in passed.penalties]
        totals.note(number, [value for pair in penalties for value in pair])

    def _share(self, divisor: float | None) -> float:
        """What makes of the mean of a piece its sum, in a scale that all ranks have."""
        if divisor is None:
            return 1.0
        return divisor / self._begun_batches[0][0].total

    def _weights_of_penalties(self, pieces: list[Share], total: int) -> list[float]:
        """What the penalty of each piece is multiplied by: a mean over its rows.

        That of a batch has the weight of its loss, whose divisor is that of all ranks.
        """
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
            self._count_batch(
                self.run.position - count + number + 1, share, *totals.whole(tables[number])
            )
        if _closure.needed(self.run.optimizer):  # its step divides nothing
            for parameter in self._parameters():
                if parameter.grad is not None:
                    parameter.grad /= self._weight or 1.0
            self._weight = 1.0

    def _parameters(self) -> Iterator[Any]:
        return (p for group in self.run.optimizer.param_groups for p in group["params"])

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
            values = values or [None] * len(self._penalties)
            self._penalties.after_batch(run, values, None if totals.summed else divisor, batch)

    def _not_finite(self, where: str, share: Share) -> FloatingPointError:
        """The error of the first rank whose own values explain it, on all ranks."""
        x, target, *_ = share.rows
        own = not_finite(self.run.batch_loss, where, share.first, X=x, y=target)
        comm = self._ranks.comm
        spoilt = np.zeros(comm.size, np.int64)
        spoilt[comm.rank] = isinstance(own, SpoiltBatchError)
        comm.sum_(spoilt)
        self._all_fail = True
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
                totals.begin_batch()
                for number, piece in enumerate(ranks.split(share)):
                    if len(piece.rows[0]):
                        totals.add(number, *run.judged(piece.rows))
                    elif self._joins_evaluation:
                        run.model(run.moved(piece.rows[0]))
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
        interrupted, self._stopped = map(bool, flags.tolist())
        self._interrupt.requested |= interrupted
        self._all_fail = interrupted
        return interrupted

    def _is_stopped(self) -> bool:
        # What ranks have agreed on: a handler or a thread may have set `stop` here since, which
        # the others hear of at the next hook.
        self.run.stop |= self._stopped
        return self._stopped

    def _abort(self, error: BaseException) -> None:
        """Where all ranks have the error, none leaves before rank 0 has written what it writes."""
        super()._abort(error)
        if self._all_fail:
            self._ranks.comm.barrier()

    def _to_call(self, callbacks: list[Any]) -> list[Any]:
        return [c for c in callbacks if not c.rank_0_only or self._ranks.rank == 0]


def loop_of(run: Run) -> Loop:
    """The loop of a run: the plain one where a single process trains on whole batches."""
    if run.comm.size == 1 and run.reproducible is None:
        return Loop(run)
    return SharedLoop(run, Ranks(run.comm, run.reproducible))
