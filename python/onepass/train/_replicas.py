"""Copies of a model with the same parameters, where norms need all pieces of a batch at once.

A rank with several pieces of a batch takes them through the model side by side, each in a thread
and a copy of its own. A batch norm adds its sums up over the pieces of all ranks: there each thread
waits for the others. Else one of them computes at a time: together they take the time and the cores
of one after the other.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from onepass import nn
from onepass._array import copy_into
from onepass._interruptions import to_the_end
from onepass._parameter import parameters_of
from onepass.nn._batch_norm import BatchNorm
from onepass.nn._facts import edits
from onepass.nn._shares import streams_of
from onepass.ops._shared_batch_norm import fill_rows
from onepass.parallel import Communicator
from onepass.train._ranks import Ranks

T = TypeVar("T")


@contextmanager
def synchronised(model: Any, ranks: Ranks) -> Iterator[Norms]:
    """Inside, the batch norms of ``model`` normalise by the batch of all ranks, where `Norms.open`
    says so.

    Raises:
        ValueError: a norm of another kind follows the batch; one that uses the batch in evaluation
            too, or a model that cannot be copied, where there are pieces.
    """
    norms = Norms(model, ranks)
    try:
        norms.follow()
        yield norms
    finally:
        norms.end()


class Norms:
    """The batch norms of a model that several ranks, or pieces of batches, train.

    Attributes:
        are_joined: whether some normalise by the batch of all ranks: all that are not frozen do.
        join_evaluation: whether some do it in evaluation too, without running statistics.
        replicas: the copies of the model for this rank's pieces of a batch, where norms need them.
    """

    def __init__(self, model: Any, ranks: Ranks) -> None:
        self._model, self._ranks = model, ranks
        self._before: dict[int, tuple[BatchNorm, Any]] = {}  # the user may have converted some
        self._meeting = _Meeting(ranks) if len(ranks.own) > 1 else None
        self._gate = self._meeting or _Gate(ranks.comm)
        self._edits = -1
        self.are_joined = self.join_evaluation = False
        self.replicas: Replicas | None = None

    def follow(self) -> bool:
        """Before a batch: go on with the model as it is now; whether it was edited since the last.

        Raises:
            ValueError: as `synchronised`.
        """
        if edits.count == self._edits:
            return False
        found = [(n, m) for n, m in self._model.named_modules() if isinstance(m, BatchNorm)]
        joined = {name: norm for name, norm in found if not norm.statistics_frozen}
        without = [name for name, norm in joined.items() if norm.running_mean is None]
        if without and self._ranks.are_pieces_fixed:
            raise ValueError(
                f"Trainer: 'reproducible' needs running statistics, and {without[0]!r} has none, "
                "expected track_running_stats=True"
            )
        for _, norm in found:
            self._before.setdefault(id(norm), (norm, norm._comm))
        nn.convert_sync_batch_norm(self._model, self._gate.places[0])
        self.are_joined, self.join_evaluation = bool(joined), bool(without)
        if self._meeting is not None and joined:
            if self.replicas is None:
                self.replicas = Replicas(self._model, self._meeting)
            self.replicas.copy()
        elif self.replicas is not None:
            self.replicas.end()
            self.replicas = None
        self._edits = edits.count
        return True

    @contextmanager
    def open(self) -> Iterator[None]:
        """Inside, all ranks call the model. Outside, one that does, such as a hook, is alone."""
        self._gate.is_open = True
        try:
            yield
        finally:
            self._gate.is_open = False
            self._edits = edits.count  # not what modules set themselves

    def end(self) -> None:
        """Leave the norms as they were, and end the threads."""
        if self.replicas is not None:
            self.replicas.end()
        for norm, comm in self._before.values():
            norm._comm = comm


class Replicas:
    """A model and its copies, one for each piece; the first is the model itself."""

    def __init__(self, model: Any, meeting: _Meeting) -> None:
        self._meeting = meeting
        self.models = [model]
        self._threads = [
            ThreadPoolExecutor(1, thread_name_prefix="onepass-piece") for _ in meeting.places[1:]
        ]

    def copy(self) -> None:
        """Make the copies anew: the model was edited, or one of its layers replaced."""
        model, places = self.models[0], self._meeting.places
        self.models = [model, *(_copied(model) for _ in places[1:])]
        for replica, place in zip(self.models, places, strict=True):
            nn.convert_sync_batch_norm(replica, place)
        self._places = {id(p): at for at, p in enumerate(model.parameters())}
        self._parameters = [list(replica.parameters()) for replica in self.models]
        self._modules = [list(replica.modules()) for replica in self.models]
        self._streams = [streams_of(replica) for replica in self.models]

    def end(self) -> None:
        """End the threads."""
        for thread in self._threads:
            thread.shutdown()

    def run(self, call: Callable[[int, Any], T]) -> list[T]:
        """``call(number, model)`` of each, which begin where the model is now."""
        self._follow()
        meeting = self._meeting
        meeting.begin()

        def one(number: int) -> T:
            with meeting.turn(number):
                return call(number, self.models[number])

        others = [
            thread.submit(copy_context().run, one, number)
            for number, thread in enumerate(self._threads, 1)
        ]
        first: T | None = None
        errors: list[BaseException] = []
        try:
            first = one(0)
        except BaseException as error:
            errors.append(error)
        try:
            wait(others)
        except BaseException:  # Ctrl-C: they may not go on with what the loop puts back
            meeting.abort()
            to_the_end(partial(wait, others))
            raise
        errors += [e for e in (other.exception() for other in others) if e is not None]
        if errors:
            raise min(errors, key=lambda e: isinstance(e, threading.BrokenBarrierError))
        return [first, *(other.result() for other in others)]  # type: ignore[list-item]

    def parameters(self, number: int, optimizer: Any) -> list[Any]:
        """Those of copy ``number``, in the order of the optimizer's."""
        own = self._parameters[number]
        return [own[self._places[id(p)]] for p in parameters_of(optimizer)]

    def _follow(self) -> None:
        """Give the copies what changes without an edit: parameters, buffers, places of masks."""
        (model, *others) = range(len(self.models))
        for other in others:
            for p, q in zip(self._parameters[model], self._parameters[other], strict=True):
                q.data, q.grad, q.requires_grad = p.data, None, p.requires_grad
            for module, own in zip(self._modules[model], self._modules[other], strict=True):
                for name in module.buffer_names:
                    if (buffer := getattr(module, name)) is not None:
                        copy_into(getattr(own, name), buffer)
            for stream, to in zip(self._streams[model], self._streams[other], strict=True):
                to.set(*stream.peek())


class _Gate:
    """The communicator of the norms of a rank that has a whole share to itself."""

    def __init__(self, comm: Communicator) -> None:
        self.rank, self.size, self.sum_ = comm.rank, comm.size, comm.sum_
        self._fill_rows = partial(fill_rows, comm)
        self.places = [self]
        self.is_open = False


class _Meeting:
    """Where the threads of a rank's pieces add up an array of each, with those of other ranks."""

    def __init__(self, ranks: Ranks) -> None:
        self._comm = ranks.comm
        self.places = [_Place(self, number, k, ranks.pieces) for number, k in enumerate(ranks.own)]
        self._barrier = threading.Barrier(len(self.places))
        self._arrays: list[Any] = [None] * len(self.places)
        self._turn = threading.Lock()
        self.is_open = False

    def begin(self) -> None:
        """Before the threads come."""
        self._barrier.reset()

    def abort(self) -> None:
        """End the threads that wait, and those that are going to."""
        self._barrier.abort()

    @contextmanager
    def turn(self, number: int) -> Iterator[None]:
        """Around what thread ``number`` does; its error ends the others."""
        try:
            with self._turn:
                yield
        except BaseException:
            self._barrier.abort()
            raise

    def sum_(self, number: int, array: Any) -> None:
        """Leaves in ``array`` the sum over all pieces of all ranks.

        The thread that trains adds up: not every MPI takes calls from others.
        """
        self._arrays[number] = array
        self._turn.release()
        try:
            self._barrier.wait()
            if number == 0:
                self._add_up()
            self._barrier.wait()
        finally:
            self._turn.acquire()

    def _add_up(self) -> None:
        """Each array has zeros where the others have numbers: no bit depends on the order."""
        total, *others = self._arrays
        for other in others:
            total += other
        self._comm.sum_(total)
        for other in others:
            copy_into(other, total)


class _Place:
    """A piece as a communicator: there are as many ranks as a batch has pieces."""

    def __init__(self, meeting: _Meeting, number: int, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self._meeting, self._number = meeting, number

    @property
    def is_open(self) -> bool:
        """As that of the meeting."""
        return self._meeting.is_open

    def sum_(self, array: Any) -> None:
        """Leaves the sum over the pieces in ``array``."""
        self._meeting.sum_(self._number, array)


def _copied(model: Any) -> Any:
    """A copy whose parameters have the arrays of the model's."""
    shared = {id(p.data): p.data for p in model.parameters()}
    try:
        return copy.deepcopy(model, shared)
    except TypeError as error:
        raise ValueError(
            f"Trainer: 'reproducible' copies a model with batch norms, and this one cannot be "
            f"copied: {error}"
        ) from error
