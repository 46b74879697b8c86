"""Averaged weights, for optimizers that evaluate and save other weights than they train.

The schedule-free optimizers hold two sets of weights and turn one into the other; with
``ema_decay`` an optimizer has averages beside its parameters.

Any number of threads may evaluate at once: the first puts the averages into the parameters, and the
last brings back what these held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from threading import RLock, get_ident
from typing import Any, TypeAlias
from weakref import WeakSet

from onepass._array import Array, copy_into, zeros_like
from onepass._interruptions import ending_in, to_the_end
from onepass._one_thread import after_fork, keep_only
from onepass._parameter import Parameter, data_of, parameters_of
from onepass.nn import _use
from onepass.optim._schedule_free import ScheduleFree

Pairs: TypeAlias = Sequence[tuple[Array, Array]]

AWAY = "_away"  # the attribute of an optimizer whose averages are in the parameters
_lock = RLock()  # held while averages come and go


class _Away:
    """The parameters of an optimizer from before its averages were put in their place.

    An interruption may have kept that from coming back; the next call here sees to it.

    Attributes:
        readers: the thread of each call that wants the averages there.
        held: (array, copy) of each parameter; None until it is known.
        turns: whether they are those of a schedule-free optimizer, which turns them itself.
    """

    def __init__(self, optimizer: Any) -> None:
        self.readers: dict[object, int] = {}
        self.held: Pairs | None = None
        self.turns = isinstance(optimizer, ScheduleFree)

    def begin(self, optimizer: Any) -> None:
        if self.turns:
            optimizer.eval()
            return
        pairs = _pairs(optimizer)
        self.held = [(p, _copy(p)) for p, _ in pairs]
        _put(pairs)

    def end(self, optimizer: Any) -> None:
        if self.turns:
            optimizer.train()
        else:
            _put(self.held or ())

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "readers": {}}  # nobody reads a copy


_with_averages: WeakSet[Any] = WeakSet()  # optimizers


@after_fork
def _forget_others(thread: int) -> None:
    """In a forked child, where only this thread is left."""
    global _lock
    _lock = RLock()
    for optimizer in list(_with_averages):
        if (away := getattr(optimizer, AWAY, None)) is not None:
            keep_only(thread, away.readers)
            _bring_back(optimizer)


def turn(optimizer: Any, *, training: bool) -> None:
    """Bring the parameters to where training happens, or to the average; most have no such two."""
    _bring_back(optimizer)
    if isinstance(optimizer, ScheduleFree):
        optimizer.train(training)


@contextmanager
def averaged(optimizer: Any, *, turned_only: bool = False) -> Iterator[None]:
    """The parameters hold their averages inside the block, and afterwards what they held before.

    Args:
        turned_only: not those that are beside the parameters, as those are saved beside them.
    """
    if not swaps(optimizer) or (turned_only and has_averages(optimizer)):
        yield
        return
    call = object()

    def leave() -> None:
        with _lock:
            away = getattr(optimizer, AWAY, None)
            if away is not None:
                away.readers.pop(call, None)
            _bring_back(optimizer)

    with _swapped(optimizer), ending_in(leave):
        with _lock:
            _bring_back(optimizer)
            away = getattr(optimizer, AWAY, None) or _Away(optimizer)
            first = not away.readers
            away.readers[call] = get_ident()
            if first:
                _with_averages.add(optimizer)
                setattr(optimizer, AWAY, away)
                away.begin(optimizer)
        yield


def follow(optimizer: Any) -> None:
    """Sets running averages to the parameters, which were given other values."""
    to_the_end(partial(_put, [(average, p) for p, average in _pairs(optimizer)]))


def _put(pairs: Pairs) -> None:
    for array, values in pairs:
        copy_into(array, values)


def _bring_back(optimizer: Any) -> None:
    """The parameters' own values, unless a call still reads the averages."""
    with _lock:
        away = getattr(optimizer, AWAY, None)
        if away is not None and not away.readers:
            away.end(optimizer)
            setattr(optimizer, AWAY, None)


def swaps(optimizer: Any) -> bool:
    """Whether `averaged` changes the parameters meanwhile, which others may not read then."""
    if getattr(optimizer, AWAY, None) is not None or has_averages(optimizer):
        return True
    return turns(optimizer)


def turns(optimizer: Any) -> bool:
    """Whether it is a schedule-free optimizer whose parameters are where training happens."""
    return isinstance(optimizer, ScheduleFree) and optimizer.training


def has_averages(optimizer: Any) -> bool:
    """Whether there are running averages beside the parameters. A schedule-free optimizer is
    evaluated with the average that it makes itself."""
    if isinstance(optimizer, ScheduleFree):
        return False
    groups = getattr(optimizer, "param_groups", ())
    return any(group.get("ema_decay") is not None for group in groups)


def _pairs(optimizer: Any) -> list[tuple[Array, Array]]:
    """Parameters and their running averages. A frozen one is evaluated as it is: it never moves."""
    if not has_averages(optimizer):
        return []
    return [
        (data_of(p), average)
        for p, average in zip(parameters_of(optimizer), optimizer.averages, strict=True)
        if average is not None and getattr(p, "requires_grad", True)
    ]


def _swapped(optimizer: Any) -> AbstractContextManager[None]:
    return _use.swapped([p for p in parameters_of(optimizer) if isinstance(p, Parameter)])


def _copy(array: Array) -> Array:
    copy = zeros_like(array, array.dtype)
    copy_into(copy, array)
    return copy
