"""The training loop of several ranks, or of pieces of batches: the same steps as in one process.

Each rank goes forward and backward over its rows of a batch. The gradient of its loss is multiplied
by the divisor of that loss, so gradients, divisors and losses are sums, which one reduction adds up
over the ranks before the step; the step divides once. So what a step is, whether it is skipped or
clipped, and every number of the history are the same on all ranks: only afterwards do they decide.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import closing, nullcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onepass._parameter import parameters_of
from onepass.data._loader import DataLoader
from onepass.data._shares import Share
from onepass.nn._shares import place, streams_of
from onepass.parallel._collectives import broadcast_object, first_text
from onepass.parallel._errors import of_all, tell
from onepass.train import _blas, _closure
from onepass.train._agreement import other_batches, refuse_differences, share_model
from onepass.train._batches import Batches
from onepass.train._blas import cores_of_rank, one_thread
from onepass.train._loaders import Loader
from onepass.train._loop import Loop
from onepass.train._ranks import Ranks, SharedTotals
from onepass.train._replicas import Norms, synchronised
from onepass.train._run import Run
from onepass.train._shared_gradients import InTree, Summed, gradients_of
from onepass.train._spoilt import not_finite, spoilt_sample
from onepass.train._stand_in import unseen
from onepass.train._warned import warn_of_rank
from onepass.train._weights import divisor_of

STOP = 1 << 20  # beside two flags: the sum of another call is not taken for theirs


class Passed(NamedTuple):
    """What forward and backward of a piece give.

    Attributes:
        penalties: the values of the penalties of batches; none of those of parameters, which the
            step adds once.
    """

    loss: Any
    divisor: float | None
    output: Any
    penalties: list[float | None]


class Begun(NamedTuple):
    """A batch of the step in progress.

    Attributes:
        totals, table: of this rank's pieces; the sum over ranks comes into the table.
        spoilt: which of this rank's samples makes the loss be not finite, if one does.
    """

    totals: SharedTotals
    table: NDArray[np.float64]
    spoilt: str | None


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
        self._begun_batches: list[Begun] = []
        self._gradients: Summed | InTree | None = None
        self._norms: Norms | None = None

    def train(self, loader: Loader, validation: Loader | None) -> None:
        run, comm = self.run, self._ranks.comm
        refuse_differences(run, comm, loader, validation)
        share_model(run, comm)
        fixed = self._ranks.are_pieces_fixed
        single = one_thread("Trainer: 'reproducible'") if fixed else nullcontext()
        with cores_of_rank(), single as unset, synchronised(run.model, self._ranks) as self._norms:
            warn_of_rank(comm, unset)
            try:
                super().train(loader, validation)
            finally:
                place(run.model, 0)
                run.place, self._norms = None, None

    def _follow_parts(self) -> None:
        super()._follow_parts()
        self._refuse_penalties()

    def _refuse_penalties(self) -> None:
        """Refuse penalties that copies of the model would not have."""
        assert self._norms is not None
        fixed = self._ranks.are_pieces_fixed
        if fixed and self._norms.are_joined and self._penalties.are_of_batches:
            raise ValueError(
                "Trainer: 'regularizers' has a penalty of batches, expected those of parameters "
                "alone with 'reproducible' and batch norms"
            )

    # Steps.

    def _begin_step(self) -> None:
        _blas.check(takes_over=True)
        super()._begin_step()
        self._all_fail = False
        self._begun_batches = []
        self._first_batch = self.run.position + 1
        self._first_total = 0
        if self._gradients is None or self._gradients.optimizer is not self.run.optimizer:
            self._gradients = gradients_of(self.run.optimizer, self._ranks)
        self._gradients.begin_step()

    def _forward_backward(self, batch: Share) -> None:
        run, norms, gradients = self.run, self._norms, self._gradients
        assert norms is not None
        assert gradients is not None
        if norms.follow():
            self._refuse_penalties()
        self._batch = share = batch._replace(rows=tuple(map(run.moved, batch.rows)))
        self._first_total = self._first_total or share.total
        totals = SharedTotals(self._ranks, run, 2 * self._penalties_of_batches())
        totals.begin_batch(share, ends=self._loader.ends(run.position + 1))
        pieces = self._ranks.split(share)
        with norms.open():
            passed = self._in_turn(pieces) if norms.replicas is None else self._together(pieces)
        totals.settle([(p.output, piece.rows[1]) for p, piece in zip(passed, pieces, strict=True)])
        for number, found in enumerate(passed):
            self._note(number, pieces[number], found, totals)
        spoilt = None
        if not all(math.isfinite(float(p.loss)) for p in passed):
            x, y, *_ = share.rows
            spoilt = spoilt_sample(share.first, X=x, y=y)
        begun = Begun(totals, totals.filled(), spoilt)
        self._begun_batches.append(begun)
        gradients.end_batch(begun.table)
        if gradients.by_batch:
            self._refuse_others(begun.table[None], run.position + 1)

    def _penalties_of_batches(self) -> int:
        return len(self._penalties) if self._penalties.are_of_batches else 0

    def _in_turn(self, pieces: list[Share]) -> list[Passed]:
        """Forward and backward of the pieces, one after the other."""
        run, gradients = self.run, self._gradients
        assert gradients is not None
        weights: list[float | None] = [None] * len(pieces)
        if self._penalties_of_batches():
            weights = [*self._weights_of_penalties(pieces)]
        dropping = streams_of(run.model)
        masks = [stream.peek() for stream in dropping]
        found = []
        for number, piece in enumerate(pieces):
            if number:  # all pieces have the masks of one call
                for stream, at in zip(dropping, masks, strict=True):
                    stream.set(*at)
            found.append(self._passed(run.model, piece, weights[number]))
            gradients.end_piece(None)
        return found

    def _together(self, pieces: list[Share]) -> list[Passed]:
        """The same in copies of the model, whose norms wait for each other."""
        assert self._norms is not None
        replicas, gradients = self._norms.replicas, self._gradients
        assert replicas is not None
        assert gradients is not None
        found = replicas.run(lambda number, model: self._passed(model, pieces[number], None))
        for number in range(len(pieces)):
            gradients.end_piece(replicas.parameters(number, self.run.optimizer))
        return found

    def _passed(self, model: Any, piece: Share, weight: float | None) -> Passed:
        """Forward and backward of a piece, which may have no rows.

        Args:
            weight: of its penalties of batches; None without any.
        """
        x, target, *more = piece.rows
        assert self._norms is not None
        if not len(x) and not self._norms.are_joined:
            return self._passed_by(model, piece)
        place(model, piece.first)
        output = model(x)
        if len(x):
            loss, dy, divisor = self._loss_of(output, target, *more)
        else:  # norms that are over all ranks are called nevertheless
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

    def _passed_by(self, model: Any, piece: Share) -> Passed:
        """What a piece without rows gives where no rank waits for it: not every module takes none.

        The model sees a row of another piece, which takes the masks of this call of dropout.
        """
        if streams_of(model):
            with unseen():
                model(self.run.moved(piece.spare[0]))
        return Passed(0.0, 0.0, None, [None] * self._penalties_of_batches())

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
        return 1.0 if divisor is None else divisor / self._first_total

    def _weights_of_penalties(self, pieces: list[Share]) -> list[float]:
        """What the penalty of each piece is multiplied by: a mean over its rows.

        That of a batch has the weight of its loss, whose divisor is that of all ranks.
        """
        divisors = np.zeros(self._ranks.pieces)
        for number, piece in zip(self._ranks.own, pieces, strict=True):
            _, target, *weight = piece.rows
            if not len(target):
                continue
            divisor = (
                self._weighted.divisor(target, *weight)
                if weight
                else divisor_of(self.run.loss, target)
            )
            divisors[number] = math.inf if divisor is None else divisor
        self._ranks.comm.sum_(divisors)
        whole = float(divisors.sum())
        weight_of_batch = 1.0 if math.isinf(whole) else self._share(whole)
        return [weight_of_batch * len(piece.rows[0]) / piece.total for piece in pieces]

    def _gather(self) -> None:
        """The sums over all ranks of the gradients, and of what was counted since the last step."""
        run, gradients, begun = self.run, self._gradients, self._begun_batches
        assert gradients is not None
        # As many tables where a rank has fewer batches: that is seen by what they hold.
        tables = np.zeros((max(run.accumulate, len(begun)), *begun[0].table.shape))
        tables[: len(begun)] = [table for _, table, _ in begun]
        gradients.end_step(tables)
        if not gradients.by_batch:
            self._refuse_others(tables, self._first_batch)
        for number, table in enumerate(tables[: len(begun)]):
            self._count_batch(self._first_batch + number, begun[number], table)
        if _closure.needed(run.optimizer):  # its step divides nothing
            for parameter in parameters_of(run.optimizer):
                if parameter.grad is not None:
                    parameter.grad /= self._weight or 1.0
            self._weight = 1.0

    def _refuse_others(self, tables: NDArray[np.float64], first: int) -> None:
        """Refuse batches, from number ``first`` on, that are not those of rank 0: on all ranks."""
        for number, table in enumerate(tables, first):
            where = f" in epoch {self.run.epoch + 1}, batch {number}"
            found = self._begun_batches[0].totals.difference(table, where)
            if found is not None:
                self._all_fail = True
                name = "X" if isinstance(self._loader, Batches) else "transform"
                raise other_batches(name, found)

    def _count_batch(self, batch: int, begun: Begun, table: NDArray[np.float64]) -> None:
        """As `_count`, of batch number ``batch`` on all ranks, and its penalties."""
        run, silent = self.run, self._penalties.silent
        totals, penalties = begun.totals.whole(table)
        loss, divisor = totals.sums.get("loss", (0.0, 0.0))
        run.batch_loss = loss / divisor if divisor else 0.0
        if not totals.summed:
            self._weight += divisor / self._first_total
        finite = math.isfinite(run.batch_loss)
        if not finite and run.nonfinite == "raise" and not silent:
            self._all_fail = True
            where = f"epoch {run.epoch + 1}, batch {batch}"
            first = first_text(self._ranks.comm, begun.spoilt)
            raise not_finite(run.batch_loss, where, first and first[1])
        if (finite or run.nonfinite == "propagate") and not silent:
            run.sums.join(totals)
        if self._penalties:
            values = [v if there else None for v, there in penalties.reshape(-1, 2).tolist()]
            values = values or [None] * len(self._penalties)
            self._penalties.after_batch(run, values, None if totals.summed else divisor, batch)

    def _again(self) -> float:
        self._forward_backward(self._batch)
        self._gather()
        return self.run.batch_loss

    # Epochs.

    def _batches(self, loader: Loader) -> Generator[Any, None, None]:
        ranks, run = self._ranks, self.run
        self._loader = loader
        return loader.shares(run.epoch, run.position, ranks.rank, ranks.size)

    def _evaluated(self, validation: Loader) -> dict[str, float]:
        run, ranks, norms = self.run, self._ranks, self._norms
        assert norms is not None
        totals = SharedTotals(ranks, run)
        epoch = 0
        if isinstance(validation, DataLoader):  # as iter() does
            epoch, validation.epoch = validation.epoch, validation.epoch + 1
        batches = validation.shares(epoch, 0, ranks.rank, ranks.size)
        with run.evaluating(validation), closing(batches), norms.open():
            for share in batches:
                totals.begin_batch(share)
                judged = {}
                for number, piece in enumerate(ranks.split(share)):
                    if len(piece.rows[0]):
                        judged[number] = run.judged(piece.rows)
                    elif norms.join_evaluation:
                        run.model(run.moved(piece.rows[0]))
                totals.settle([found[2:] for found in judged.values()])
                for number, found in judged.items():
                    totals.add(number, *found)
        table = totals.filled()
        ranks.comm.sum_(table)
        if (other := totals.difference(table)) is not None:
            raise other_batches("validation_data", other)
        return totals.whole(table)[0].values_of(run.metrics)

    def _take_logged(self) -> dict[str, float]:
        logged: dict[str, float] = broadcast_object(self._ranks.comm, self.run.take_logged())
        return logged

    def _is_interrupted(self) -> bool:
        """Whether a rank has a SIGINT to answer: all do. And all stop where one is to."""
        run = self.run
        comm = self._ranks.comm
        flags = np.array([self._interrupt.requested, run.stop, STOP], np.int64)
        comm.sum_(flags)
        if flags[2] != STOP * comm.size:
            raise RuntimeError(
                "Trainer: the ranks make different calls, expected the same on all: has an "
                "exception been caught on one rank alone? Such a program must end"
            )
        interrupted, self._stopped = map(bool, flags[:2].tolist())
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
        if self._all_fail:
            of_all(error)
        tell(self._ranks.comm, error)  # before a hook speaks with them
        super()._abort(error)
        if self._all_fail:
            self._ranks.comm.barrier()

    def _call_each(self, hook: str) -> None:
        """What hooks log into the row that is done is that of rank 0 for those that follow."""
        if hook != "on_epoch_end":
            super()._call_each(hook)
            return
        for callback in self._callbacks:
            if self._to_call([callback]):
                self._call_one(callback, hook)
            if callback.logs:
                self._share_row()
        self._share_row()

    def _share_row(self) -> None:
        """Give the history of all ranks the last row of rank 0."""
        history = self.run.history
        last = {name: column[-1] for name, column in history.items()}
        of_0: dict[str, float] = broadcast_object(self._ranks.comm, last)
        for name in last.keys() - of_0.keys():
            del history[name]
        for name, value in of_0.items():
            history.set_last(name, value)

    def _to_call(self, callbacks: list[Any]) -> list[Any]:
        return [c for c in callbacks if not c.rank_0_only or self._ranks.rank == 0]


def loop_of(run: Run) -> Loop:
    """The loop of a run: the plain one where a single process trains on whole batches."""
    if run.comm.size == 1 and run.reproducible is None:
        return Loop(run)
    return SharedLoop(run, Ranks(run.comm, run.reproducible))
