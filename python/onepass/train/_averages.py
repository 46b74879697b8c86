"""Weights to evaluate and to keep, of optimizers that train with others: the schedule-free ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from onepass.optim._schedule_free import ScheduleFree


def turn(optimizer: Any, *, training: bool) -> None:
    """Bring the parameters to where training happens, or to the average; most have no such two."""
    if isinstance(optimizer, ScheduleFree):
        optimizer.train(training)


@contextmanager
def averaged(optimizer: Any) -> Iterator[None]:
    """The parameters hold the average inside the block, and afterwards what they held before."""
    trains = isinstance(optimizer, ScheduleFree) and optimizer.training
    if trains:
        optimizer.eval()
    try:
        yield
    finally:
        if trains:
            optimizer.train()
