"""Checks that a trainer's schedule fits the run, and steps it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from onepass import _numbers as numbers
from onepass.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau


def of_optimizer(scheduler: Any, optimizer: Any) -> None:
    """Refuse what is not a schedule, and a schedule of another optimizer, which changes nothing."""
    if scheduler is None:
        return
    if not callable(getattr(scheduler, "step", None)):
        raise TypeError(
            f"Trainer: 'scheduler' is {scheduler!r}, expected a schedule of optim.lr_scheduler"
        )
    name = type(scheduler).__name__
    if isinstance(scheduler, type):
        raise TypeError(
            f"Trainer: 'scheduler' is the class {scheduler.__name__}, expected "
            f"{scheduler.__name__}(optimizer, …)"
        )
    if getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise ValueError(
            f"Trainer: 'scheduler' is a {name} of another optimizer, expected "
            f"{name}(optimizer, …) with the very object that the Trainer gets (a copied or "
            "unpickled optimizer is another one)"
        )
    numbers.one_of("Trainer", "scheduler.interval", interval(scheduler), ("epoch", "step"))
    for part in getattr(scheduler, "schedulers", ()):
        of_optimizer(part, optimizer)


def reaches(run: Any, batches: int, max_epochs: int, saved: Mapping[str, Any] | None) -> None:
    """Refuse a schedule that ends before the training does.

    Args:
        batches: of an epoch.
        saved: the parts of the checkpoint that the run goes on from.
    """
    schedule = run.scheduler
    of_optimizer(schedule, run.optimizer)
    if not isinstance(schedule, LRScheduler) or schedule.total_steps is None:
        return
    epoch, position, done = run.epoch, run.position, schedule.last_epoch
    if saved is not None and saved["scheduler"] is not None:
        epoch, position = saved["trainer"]["epoch"], saved["trainer"]["position"]
        done = saved["scheduler"]["last_epoch"]
    in_epoch, unit = 1, "epochs"
    if schedule.interval == "step":
        in_epoch, unit = math.ceil(batches / run.accumulate), "steps"
    ahead = (max_epochs - epoch) * in_epoch - (position // run.accumulate) * (unit == "steps")
    if ahead > 0 and done + ahead > schedule.total_steps:
        raise ValueError(
            f"fit: 'max_epochs' is {max_epochs}, for which the {type(schedule).__name__} goes on "
            f"for {done + ahead} {unit}, expected at most its total_steps={schedule.total_steps}: "
            f"make it with total_steps={done + ahead}"
        )


def after_step(run: Any, *, skipped: bool) -> None:
    """Step a schedule that counts steps; a skipped step is none."""
    if run.scheduler is not None and not skipped and interval(run.scheduler) == "step":
        run.scheduler.step()


def after_epoch(run: Any, row: Mapping[str, float]) -> None:
    """Step a schedule that counts epochs; ``row`` has the losses of the epoch."""
    if isinstance(run.scheduler, ReduceLROnPlateau):
        run.scheduler.step(row.get("val_loss", row["loss"]))
    elif run.scheduler is not None and interval(run.scheduler) == "epoch":
        run.scheduler.step()


def interval(scheduler: Any) -> str | None:
    """The interval after which the trainer steps the schedule, ``"epoch"`` or ``"step"``."""
    return None if scheduler is None else getattr(scheduler, "interval", "epoch")
