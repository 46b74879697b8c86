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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

from onepass import nn
from onepass._array import copy_into
from onepass.nn._batch_norm import BatchNorm
from onepass.nn._random import streams
from onepass.train._ranks import Ranks

T = TypeVar("T")


@contextmanager
def synchronised(model: Any, ranks: Ranks) -> Iterator[Replicas | None]:
    """Inside, the batch norms of ``model`` normalise by the batch of all ranks.

    Yields:
        The copies for this rank's pieces of a batch, where norms need them.

    Raises:
        ValueError: a norm of another kind follows the batch; one that uses the batch in evaluation
            too, or a model that cannot be copied, where copies are needed.
    """
    norms = [m for m in model.modules() if isinstance(m, BatchNorm)]
    before = [(norm, norm._comm) for norm in norms]  # the user may have converted some, for ever
    replicas = None
    try:
        if len(ranks.own) == 1:
            nn.convert_sync_batch_norm(model, ranks.comm)
        else:
            meeting = _Meeting(ranks)
            nn.convert_sync_batch_norm(model, meeting.places[0])
            if norms:
                replicas = Replicas(model, meeting)
        yield replicas
    finally:
        if replicas is not None:
            replicas.end()
        for norm, comm in before:
            norm._comm = comm


class Replicas:
    """A model and its copies, one for each piece; the first is the model itself."""

    def __init__(self, model: Any, meeting: _Meeting) -> None:
        for name, norm in model.named_modules():
            if isinstance(norm, BatchNorm) and norm.running_mean is None:
                raise ValueError(
                    f"Trainer: 'reproducible' needs running statistics, and {name!r} has none, "
                    "expected track_running_stats=True"
                )
        self._meeting = meeting
        self.models = [model, *(_copied(model) for _ in meeting.places[1:])]
        for replica, place in zip(self.models, meeting.places, strict=True):
            nn.convert_sync_batch_norm(replica, place)
        self._places = {id(p): at for at, p in enumerate(model.parameters())}
        self._parameters = [list(replica.parameters()) for replica in self.models]
        self._modules = [list(replica.modules()) for replica in self.models]
        self._streams = [list(streams(replica).values()) for replica in self.models]
        self._threads = [
            ThreadPoolExecutor(1, thread_name_prefix="onepass-piece") for _ in self.models[1:]
        ]

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
        errors += [e for e in (other.exception() for other in others) if e is not None]
        if errors:
            raise min(errors, key=lambda e: isinstance(e, threading.BrokenBarrierError))
        return [first, *(other.result() for other in others)]  # type: ignore[list-item]

    def parameters(self, number: int, optimizer: Any) -> list[Any]:
        """Those of copy ``number``, in the order of the optimizer's."""
        own = self._parameters[number]
        return [
            own[self._places[id(p)]] for group in optimizer.param_groups for p in group["params"]
        ]

    def _follow(self) -> None:
        """Make the copies what the model is now: parameters, buffers, modes, places of masks."""
        (model, *others) = range(len(self.models))
        for other in others:
            for p, q in zip(self._parameters[model], self._parameters[other], strict=True):
                q.data, q.grad, q.requires_grad = p.data, None, p.requires_grad
            for module, own in zip(self._modules[model], self._modules[other], strict=True):
                own.training = module.training
                if hasattr(module, "statistics_frozen"):
                    own.statistics_frozen = module.statistics_frozen
                for name in module.buffer_names:
                    if (buffer := getattr(module, name)) is not None:
                        copy_into(getattr(own, name), buffer)
            for stream, to in zip(self._streams[model], self._streams[other], strict=True):
                to.set(*stream.peek())


class _Meeting:
    """Where the threads of a rank's pieces add up an array of each, with those of other ranks."""

    def __init__(self, ranks: Ranks) -> None:
        self._comm = ranks.comm
        self.places = [_Place(self, number, k, ranks.pieces) for number, k in enumerate(ranks.own)]
        self._barrier = threading.Barrier(len(self.places), self._add_up)
        self._arrays: list[Any] = [None] * len(self.places)
        self._turn = threading.Lock()

    def begin(self) -> None:
        """Before the threads come."""
        self._barrier.reset()

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
        """Leaves in ``array`` the sum over all pieces of all ranks."""
        self._arrays[number] = array
        self._turn.release()
        try:
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
