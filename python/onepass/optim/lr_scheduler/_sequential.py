"""`SequentialLR`: one schedule after another."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from onepass.optim.lr_scheduler._arguments import groups_of, steps
from onepass.optim.lr_scheduler._base import Interval, LRScheduler
from onepass.optim.lr_scheduler._plateau import ReduceLROnPlateau


class SequentialLR(LRScheduler):
    """One schedule after another: number i counts from 0 at ``milestones[i - 1]``.

    Each begins with the rates that the optimizer had before the first of them was made. A Trainer
    steps it after each step of the optimizer if that holds for one of ``schedulers``, else after
    each epoch: count ``milestones`` and the lengths of all of them in that unit.

    Args:
        schedulers: of the same optimizer; any but ReduceLROnPlateau.
        milestones: the steps at which the second and the others begin, in ascending order.
        optimizer, last_epoch, interval: as of `LRScheduler`.

    Raises:
        TypeError, ValueError: an argument of another type, milestones that do not fit, a schedule
            of another optimizer, or one that ends before the next begins.

    Example:
        >>> import numpy as np
        >>> from onepass import optim
        >>> from onepass.optim.lr_scheduler import ExponentialLR, LinearWarmup, SequentialLR
        >>> optimizer = optim.SGD([np.ones(2, np.float32)], lr=1.0)
        >>> warmup = LinearWarmup(optimizer, steps=2)
        >>> decay = ExponentialLR(optimizer, gamma=0.5)
        >>> schedule = SequentialLR(optimizer, [warmup, decay], milestones=[2])
        >>> [schedule.rates(t)[0] for t in range(5)]
        [0.5, 1.0, 1.0, 0.5, 0.25]
    """

    def __init__(
        self,
        optimizer: Any,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
        *,
        interval: Interval | None = None,
    ) -> None:
        groups_of("SequentialLR", optimizer)
        self.schedulers = _parts(optimizer, schedulers)
        self.milestones = steps("SequentialLR", "milestones", milestones)
        expected = len(schedulers) - 1
        if len(self.milestones) != expected or len(set(self.milestones)) != expected:
            raise ValueError(
                f"SequentialLR: 'milestones' is {milestones!r}, expected {expected} ascending "
                f"steps for {len(schedulers)} schedulers"
            )
        begins = [0, *self.milestones]
        for number, (part, begin) in enumerate(zip(self.schedulers, begins, strict=True)):
            end = self.milestones[number] if number < expected else None
            if part.total_steps is not None and end is not None:
                if part.total_steps < end - begin - 1:
                    raise ValueError(
                        f"SequentialLR: 'schedulers[{number}]' has total_steps={part.total_steps}, "
                        f"expected at least {end - begin - 1}, for it runs from step {begin} to "
                        f"{end}"
                    )
            elif part.total_steps is not None:
                self.total_steps = begin + part.total_steps
        if any(part.interval == "step" for part in self.schedulers):
            self.interval = "step"
        try:
            for part in self.schedulers:
                part._is_part = True
            super().__init__(optimizer, last_epoch, interval)
        except BaseException:
            for part in self.schedulers:
                part._is_part = False
            raise
        self._made = min(part._made for part in self.schedulers)

    def rate(self, lr: float, t: int, group: int) -> float:
        scheduler, begin = self._at(t)
        return scheduler.rate(lr, t - begin, group)

    def rates(self, t: int) -> list[float]:
        scheduler, begin = self._at(t)
        return scheduler.rates(t - begin)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "schedulers": [s.state_dict() for s in self.schedulers]}

    def _check(self, state: Mapping[str, Any]) -> None:
        super()._check(state)
        parts = state["schedulers"]
        if not isinstance(parts, (list, tuple)):
            raise TypeError(
                f"SequentialLR: state_dict['schedulers'] is {parts!r}, expected a list of states"
            )
        if len(parts) != len(self.schedulers):
            expected = len(self.schedulers)
            raise ValueError(
                f"SequentialLR: 'state_dict' has {len(parts)} schedules, expected {expected}"
            )
        for scheduler, part in zip(self.schedulers, parts, strict=True):
            scheduler._check(part)

    def _restore(self, state: dict[str, Any]) -> None:
        for scheduler, part in zip(self.schedulers, state["schedulers"], strict=True):
            scheduler._restore(part)
        super()._restore(state)

    def _find(self, groups: list[dict[str, Any]]) -> list[float]:
        """The rates before the first of the schedules was made, which all have set rates since."""
        made = sorted(self.schedulers, key=lambda part: part._made)
        now = super()._find(groups)
        # Rates that none of them has set were set by hand after the last was made.
        return list(made[0]._found) if now == made[-1]._lrs else now

    def _bases(self, lrs: list[float]) -> list[float]:
        for scheduler in self.schedulers:
            scheduler.base_lrs = scheduler._bases(list(lrs))
        return list(self.schedulers[0].base_lrs)

    def _rebase(self, group: int, base: float) -> None:
        """The base rate of the active schedule; those of the others keep their proportion to it."""
        active = self._at(self.last_epoch)[0]
        like = group if group < len(active.base_lrs) else 0
        before = active.base_lrs[like]
        for scheduler in self.schedulers:
            own = scheduler.base_lrs[like]
            same = own == before or before == 0
            scheduler._rebase(group, base if same else own * (base / before))
        super()._rebase(group, base)

    def _base_at(self, t: int, group: int) -> float:
        active, begin = self._at(t)
        return active._base_at(t - begin, group)

    def _at(self, t: int) -> tuple[LRScheduler, int]:
        """The active schedule after t steps, and the step at which it began."""
        number = bisect_right(self.milestones, t)
        return self.schedulers[number], self.milestones[number - 1] if number else 0

    def _extras(self, t: int) -> None:
        scheduler, begin = self._at(t)
        scheduler._extras(t - begin)


def _parts(optimizer: Any, schedulers: Any) -> list[LRScheduler]:
    """The schedules as a list.

    Raises:
        TypeError: no list, or other objects. ValueError: none, or one that does not fit.
    """
    if not isinstance(schedulers, (list, tuple)):
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
    if len({id(scheduler) for scheduler in schedulers}) < len(schedulers):
        raise ValueError("SequentialLR: 'schedulers' names one schedule twice, expected one each")
    return list(schedulers)
