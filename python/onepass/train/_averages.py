"""Averaged weights, for optimizers that evaluate and save other weights than they train.

The schedule-free optimizers hold two sets of weights and turn one into the other; with
``ema_decay`` an optimizer has averages beside its parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, TypeAlias

from onepass._array import Array, copy_into, zeros_like
from onepass._interruptions import ending_in, to_the_end
from onepass._parameter import Parameter, data_of
from onepass.nn import _use
from onepass.optim._schedule_free import ScheduleFree

Pairs: TypeAlias = Sequence[tuple[Array, Array]]

# The attribute of an optimizer whose averages are in the parameters: each parameter's array, and
# the values that it held. An interruption may have kept them from coming back; the next call here
# sees to it.
AWAY = "_away"


def turn(optimizer: Any, *, training: bool) -> None:
    """Bring the parameters to where training happens, or to the average; most have no such two."""
    _bring_back(optimizer)
    if isinstance(optimizer, ScheduleFree):
        optimizer.train(training)


@contextmanager
def turned(optimizer: Any) -> Iterator[None]:
    """Schedule-free parameters hold the average inside the block, and are turned back."""
    _bring_back(optimizer)
    if not isinstance(optimizer, ScheduleFree) or not optimizer.training:
        yield
        return
    with _swapped(optimizer), ending_in(optimizer.train):
        optimizer.eval()
        yield


@contextmanager
def averaged(optimizer: Any) -> Iterator[None]:
    """The parameters hold their averages inside the block, and afterwards what they held before."""
    with turned(optimizer):
        pairs = _pairs(optimizer)
        if not pairs:
            yield
            return
        held = [(p, _copy(p)) for p, _ in pairs]
        with _swapped(optimizer), ending_in(partial(_bring_back, optimizer)):
            setattr(optimizer, AWAY, held)
            _put(pairs)
            yield


def follow(optimizer: Any) -> None:
    """Sets running averages to the parameters, which were given other values."""
    to_the_end(partial(_put, [(average, p) for p, average in _pairs(optimizer)]))


def _put(pairs: Pairs) -> None:
    for array, values in pairs:
        copy_into(array, values)


def _bring_back(optimizer: Any) -> None:
    held = getattr(optimizer, AWAY, None)
    if held is not None:
        _put(held)
        setattr(optimizer, AWAY, None)


def swaps(optimizer: Any) -> bool:
    """Whether `averaged` changes the parameters meanwhile, which no other thread may read then."""
    return has_averages(optimizer) or (isinstance(optimizer, ScheduleFree) and optimizer.training)


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
        for p, average in zip(_parameters(optimizer), optimizer.averages, strict=True)
        if average is not None and getattr(p, "requires_grad", True)
    ]


def _swapped(optimizer: Any) -> AbstractContextManager[None]:
    return _use.swapped([p for p in _parameters(optimizer) if isinstance(p, Parameter)])


def _parameters(optimizer: Any) -> list[Any]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _copy(array: Array) -> Array:
    copy = zeros_like(array, array.dtype)
    copy_into(copy, array)
    return copy
