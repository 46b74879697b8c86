"""One schedule after another."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from onepass.optim.lr_scheduler._base import LRScheduler, steps
from onepass.optim.lr_scheduler._plateau import ReduceLROnPlateau


class SequentialLR(LRScheduler):
    """One schedule after another: number i counts from 0 at ``milestones[i - 1]``."""

    def __init__(
        self,
        optimizer: Any,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        if not isinstance(schedulers, Sequence):
            raise TypeError(
                f"SequentialLR: 'schedulers' is {schedulers!r}, expected a list of schedules"
            )
        if not schedulers:
            raise ValueError(
                f"SequentialLR: 'schedulers' is {schedulers!r}, expected at least one schedule"
            )
        for number, scheduler in enumerate(schedulers):
            label = f"SequentialLR: 'schedulers[{number}]' is a {type(scheduler).__name__}"
            if not isinstance(scheduler, LRScheduler):
                raise TypeError(f"{label}, expected a schedule")
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ValueError(f"{label}, expected a schedule that depends on the step alone")
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"{label} of another optimizer, expected one of 'optimizer'")
        milestones = steps("SequentialLR", "milestones", milestones)
        expected = len(schedulers) - 1
        if len(milestones) != expected or milestones != sorted(milestones):
            raise ValueError(
                f"SequentialLR: 'milestones' is {milestones!r}, expected {expected} ascending "
                f"steps for {len(schedulers)} schedulers"
            )
        self.schedulers = list(schedulers)
        self.milestones = milestones
        super().__init__(optimizer, last_epoch)

    def rates(self, t: int) -> list[float]:
        scheduler, begin = self._at(t)
        return scheduler.rates(t - begin)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "schedulers": [s.state_dict() for s in self.schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._check(state_dict)
        parts = state_dict["schedulers"]
        if len(parts) != len(self.schedulers):
            expected = len(self.schedulers)
            raise ValueError(
                f"SequentialLR: 'state_dict' has {len(parts)} schedules, expected {expected}"
            )
        for scheduler, part in zip(self.schedulers, parts, strict=True):
            scheduler._check(part)
        for scheduler, part in zip(self.schedulers, parts, strict=True):
            scheduler.load_state_dict(part)
        super().load_state_dict(state_dict)

    def _at(self, t: int) -> tuple[LRScheduler, int]:
        """The active schedule after t steps, and the step at which it began."""
        number = bisect_right(self.milestones, t)
        return self.schedulers[number], self.milestones[number - 1] if number else 0

    def _apply(self, t: int) -> None:
        scheduler, begin = self._at(t)
        scheduler._apply(t - begin)
