"""The one-cycle schedule, of rate and momentum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onepass import _numbers as numbers
from onepass.optim.lr_scheduler._anneal import _cosine, _linear
from onepass.optim.lr_scheduler._arguments import groups_of, per_group
from onepass.optim.lr_scheduler._base import Interval, LRScheduler


class OneCycleLR(LRScheduler):
    """Up to ``max_lr``, then down far below the start (Smith & Topin 2018, 1708.07120).

    From max_lr / div_factor to max_lr over the first ``pct_start`` of the steps, then to
    max_lr / div_factor / final_div_factor; with ``three_phase`` back down as it went up, and then
    on to the end. ``momentum`` or ``betas[0]`` goes the other way, from ``max_momentum`` to
    ``base_momentum`` and back. A Trainer steps it after each step of the optimizer.

    Args:
        max_lr: the peak, > 0; one number, or one for each group.
        total_steps: how often ``step()`` will be called; None for epochs · steps_per_epoch.
        epochs, steps_per_epoch: instead of ``total_steps``.
        pct_start: the share of the way up, in [0, 1], with three phases in [0, 0.5].
        anneal_strategy: the curve, ``"cos"`` or ``"linear"``.
        cycle_momentum: False leaves the momentum alone.
        base_momentum, max_momentum: the momentum at the peak of the rate and at both ends, in
            [0, 1); one number, or one for each group.
        div_factor: the first rate is max_lr / div_factor, > 0.
        final_div_factor: the last rate is the first one divided by it, > 0.
        three_phase: the rate first falls back to the first one in as many steps as it rose, and
            then to the last one; False goes down to the last one at once.
        optimizer, last_epoch, interval: as of `LRScheduler`.

    Raises:
        TypeError, ValueError: an argument of another type or out of range, no number of steps,
            groups without a momentum to cycle; ``step()`` beyond ``total_steps``.

    Example:
        >>> import numpy as np
        >>> from onepass import optim
        >>> from onepass.optim.lr_scheduler import OneCycleLR
        >>> optimizer = optim.SGD([np.ones(2, np.float32)], lr=1.0)
        >>> schedule = OneCycleLR(
        ...     optimizer, max_lr=1.0, total_steps=10, pct_start=0.5, cycle_momentum=False
        ... )
        >>> [round(schedule.rates(t)[0], 3) for t in (0, 4, 9)]
        [0.04, 1.0, 0.0]
    """

    def __init__(
        self,
        optimizer: Any,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
        *,
        interval: Interval = "step",
    ) -> None:
        groups = groups_of("OneCycleLR", optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError(
                    "OneCycleLR: 'total_steps' is None, expected a whole number >= 1, or epochs "
                    "and steps_per_epoch"
                )
            numbers.integer("OneCycleLR", "epochs", epochs, 1)
            numbers.integer("OneCycleLR", "steps_per_epoch", steps_per_epoch, 1)
            total_steps = epochs * steps_per_epoch
        numbers.integer("OneCycleLR", "total_steps", total_steps, 1)
        numbers.one_of("OneCycleLR", "anneal_strategy", anneal_strategy, ("cos", "linear"))
        numbers.in_range("OneCycleLR", "div_factor", div_factor, above=0)
        numbers.in_range("OneCycleLR", "final_div_factor", final_div_factor, above=0)
        three_phase = numbers.flag("OneCycleLR", "three_phase", three_phase)
        most = 0.5 if three_phase else 1.0  # with three phases the way down is as long
        numbers.in_range("OneCycleLR", "pct_start", pct_start, 0, most=most)
        count = len(groups)
        self.total_steps: int = total_steps
        self.max_lrs = per_group("OneCycleLR", "max_lr", max_lr, count, above=0)
        self.base_momentums = per_group(
            "OneCycleLR", "base_momentum", base_momentum, count, low=0, high=1
        )
        self.max_momentums = per_group(
            "OneCycleLR", "max_momentum", max_momentum, count, low=0, high=1
        )
        self.anneal = _cosine if anneal_strategy == "cos" else _linear
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor
        self.cycle_momentum = numbers.flag("OneCycleLR", "cycle_momentum", cycle_momentum)
        top = pct_start * total_steps - 1.0
        ends = [top, 2.0 * top, total_steps - 1.0] if three_phase else [top, total_steps - 1.0]
        self.phase_ends = ends
        if cycle_momentum and not all("momentum" in g or "betas" in g for g in groups):
            raise ValueError(
                f"OneCycleLR: 'cycle_momentum' is {cycle_momentum!r}, expected False, or groups "
                "that all have 'momentum' or 'betas'"
            )
        super().__init__(optimizer, last_epoch, interval)
        if last_epoch == -1:
            for group, lr in zip(groups, self.base_lrs, strict=True):
                group["initial_lr"] = lr

    def rate(self, lr: float, t: int, group: int) -> float:
        if t > self.total_steps:
            raise ValueError(
                f"OneCycleLR: 'total_steps' is {self.total_steps}, expected at least {t} for this "
                "many calls of step(): pass total_steps=epochs * steps_per_epoch"
            )
        peak = lr * self.div_factor
        if group < len(self.max_lrs):  # max_lr to the bit, in proportion to the base rate
            peak = self.max_lrs[group] * (lr / (self.max_lrs[group] / self.div_factor))
        start = peak / self.div_factor
        last = start / self.final_div_factor
        middle = [peak, start] if len(self.phase_ends) == 3 else [peak]
        return self._along([start, *middle, last], t)

    def momentum(self, t: int, group: int) -> float:
        """The momentum of group number ``group`` after ``t`` steps."""
        low, high = _at(self.base_momentums, group), _at(self.max_momentums, group)
        tail = [high, high] if len(self.phase_ends) == 3 else [high]
        return self._along([high, low, *tail], t)

    def _along(self, levels: list[float], t: int) -> float:
        """The value at step t on the way from level to level."""
        starts = [0.0, *self.phase_ends[:-1]]
        for phase, end in enumerate(self.phase_ends):
            if t <= end or phase == len(self.phase_ends) - 1:
                width = end - starts[phase]
                done = min(1.0, (t - starts[phase]) / width) if width else 1.0
                return self.anneal(levels[phase], levels[phase + 1], done)
        raise AssertionError("a schedule has at least one phase")

    def _bases(self, lrs: list[float]) -> list[float]:
        return [peak / self.div_factor for peak in self.max_lrs]

    def _base(self, lr: float, t: int, group: int) -> float | None:
        if self.cycle_momentum and group >= len(self.base_momentums):
            for name, values in (
                ("base_momentum", self.base_momentums),
                ("max_momentum", self.max_momentums),
            ):
                if len(set(values)) > 1:
                    raise ValueError(
                        f"OneCycleLR: {name!r} has {len(values)} numbers, one for each group, "
                        f"expected {group + 1}: a group was added; append its number to {name}s"
                    )
        return super()._base(lr, t, group)

    def _extras(self, t: int) -> None:
        if not self.cycle_momentum:
            return
        for number, group in enumerate(self.optimizer.param_groups):
            value = self.momentum(t, number)
            if "betas" in group:
                group["betas"] = (value, *group["betas"][1:])
            else:
                group["momentum"] = value


def _at(values: list[float], group: int) -> float:
    """A group's number; a group that was added has that of all others."""
    return values[min(group, len(values) - 1)]
