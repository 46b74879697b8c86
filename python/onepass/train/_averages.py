"""Weights to evaluate and to keep, of optimizers that train with others: averages of them.

The schedule-free optimizers hold two sets of weights and turn one into the other; with
``ema_decay`` an optimizer has averages beside its parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from onepass._array import Array, copy_into, zeros_like
from onepass._parameter import data_of
from onepass.optim._schedule_free import ScheduleFree


def turn(optimizer: Any, *, training: bool) -> None:
    """Bring the parameters to where training happens, or to the average; most have no such two."""
    if isinstance(optimizer, ScheduleFree):
        optimizer.train(training)


@contextmanager
def turned(optimizer: Any) -> Iterator[None]:
    """Schedule-free parameters hold the average inside the block, and are turned back."""
    trains = isinstance(optimizer, ScheduleFree) and optimizer.training
    if trains:
        optimizer.eval()
    try:
        yield
    finally:
        if trains:
            optimizer.train()


@contextmanager
def averaged(optimizer: Any) -> Iterator[None]:
    """The parameters hold their averages inside the block, and afterwards what they held before."""
    with turned(optimizer):
        pairs = _pairs(optimizer)
        before = [_copy(p) for p, _ in pairs]
        try:
            for p, average in pairs:
                copy_into(p, average)
            yield
        finally:
            for (p, _), held in zip(pairs, before, strict=True):
                copy_into(p, held)


def follow(optimizer: Any) -> None:
    """Sets running averages to the parameters, which were given other values."""
    for p, average in _pairs(optimizer):
        copy_into(average, p)


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
    params = [p for group in optimizer.param_groups for p in group["params"]]
    return [
        (data_of(p), average)
        for p, average in zip(params, optimizer.averages, strict=True)
        if average is not None and getattr(p, "requires_grad", True)
    ]


def _copy(array: Array) -> Array:
    copy = zeros_like(array, array.dtype)
    copy_into(copy, array)
    return copy
