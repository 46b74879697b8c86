"""Learning-rate schedules: each a pure function of the number of steps taken.

A schedule keeps the base rates and one counter, so its rate after a resume is the rate of an
uninterrupted run, exactly. Names, arguments and values are PyTorch's where PyTorch has the thing;
``lr`` below is the base rate and ``t`` the counter, 0 until the first ``step()``. Only
``ReduceLROnPlateau`` depends on what it is shown and keeps more.

A constructor sets the optimizer's rate for t = 0. The optimizer is anything with ``param_groups``,
a list of dicts with ``"lr"``; as in PyTorch, the base rate stays there as ``"initial_lr"``.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from onepass import _numbers as numbers

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "ExponentialLR",
    "InverseTimeLR",
    "LRScheduler",
    "LambdaLR",
    "LinearWarmup",
    "MultiStepLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]


class LRScheduler:
    """Base of all schedules: a subclass gives ``rate(lr, t, group)``.

    Args:
        optimizer: its groups' ``"lr"`` are set here and by every ``step()``.
        last_epoch: the counter less one, to begin in the middle; the groups must then hold
            ``"initial_lr"``.
    """

    def __init__(self, optimizer: Any, last_epoch: int = -1) -> None:
        self.optimizer = optimizer
        groups = _groups(optimizer)
        if last_epoch < -1:
            raise ValueError(f"last_epoch={last_epoch}; expected -1 or more")
        if last_epoch > -1 and not all("initial_lr" in group for group in groups):
            raise ValueError(f"last_epoch={last_epoch} needs 'initial_lr' in every group")
        self.base_lrs = [float(group.get("initial_lr", group["lr"])) for group in groups]
        self.last_epoch = last_epoch + 1
        self.rates(self.last_epoch)  # what this refuses, it refuses before a group has changed
        for group, lr in zip(groups, self.base_lrs, strict=True):
            group.setdefault("initial_lr", lr)
        self._apply(self.last_epoch)

    def rate(self, lr: float, t: int, group: int) -> float:
        """The rate of group number ``group`` with base rate ``lr`` after ``t`` steps."""
        raise NotImplementedError

    def rates(self, t: int) -> list[float]:
        """Every group's rate after ``t`` steps."""
        return [self.rate(lr, t, group) for group, lr in enumerate(self.base_lrs)]

    def step(self, metric: float | None = None) -> None:
        """Count one step and set the rates; ``metric`` matters to ReduceLROnPlateau alone."""
        self.last_epoch += 1
        self._apply(self.last_epoch)

    def get_last_lr(self) -> list[float]:
        """The rates that the optimizer has now."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs: the kind, the counter and the base rates."""
        return {
            "type": type(self).__name__,
            "last_epoch": self.last_epoch,
            "base_lrs": list(self.base_lrs),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from ``state_dict``; ValueError, and nothing changed, where it does not fit."""
        self._check(state_dict)
        self.base_lrs = [float(lr) for lr in state_dict["base_lrs"]]
        self.last_epoch = int(state_dict["last_epoch"])
        self._apply(self.last_epoch)

    def _apply(self, t: int) -> None:
        for group, lr in zip(self.optimizer.param_groups, self.rates(t), strict=True):
            group["lr"] = lr

    def _check(self, state: dict[str, Any]) -> None:
        missing = [key for key in self.state_dict() if key not in state]
        if missing:
            raise ValueError(f"state_dict lacks {', '.join(missing)}: not a scheduler's")
        if state["type"] != type(self).__name__:
            raise ValueError(f"state_dict of {state['type']}; expected {type(self).__name__}")
        if len(state["base_lrs"]) != len(self.base_lrs):
            raise ValueError(
                f"state_dict has {len(state['base_lrs'])} groups; expected {len(self.base_lrs)}"
            )


class ConstantLR(LRScheduler):
    """lr·factor for the first ``total_iters`` steps, then lr."""

    def __init__(
        self, optimizer: Any, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        _require(0.0 <= factor <= 1.0, "factor", factor, "a number in [0, 1]")
        _require(total_iters >= 0, "total_iters", total_iters, "at least 0")
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int, group: int) -> float:
        return lr * self.factor if t < self.total_iters else lr


class StepLR(LRScheduler):
    """lr·gamma^⌊t / step_size⌋."""

    def __init__(
        self, optimizer: Any, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        _require(step_size >= 1, "step_size", step_size, "at least 1")
        self.step_size = step_size
        self.gamma = _gamma(gamma)
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int, group: int) -> float:
        return lr * float(self.gamma ** (t // self.step_size))


class MultiStepLR(LRScheduler):
    """lr·gamma^(number of milestones ≤ t)."""

    def __init__(
        self, optimizer: Any, milestones: Sequence[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = sorted(_steps("milestones", milestones))
        self.gamma = _gamma(gamma)
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int, group: int) -> float:
        return lr * float(self.gamma ** bisect_right(self.milestones, t))


class ExponentialLR(LRScheduler):
    """lr·gamma^t."""

    def __init__(self, optimizer: Any, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = _gamma(gamma)
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int, group: int) -> float:
        return lr * float(self.gamma**t)


class InverseTimeLR(LRScheduler):
    """lr / (1 + decay·t): the Robbins-Monro schedule."""

    def __init__(self, optimizer: Any, decay: float, last_epoch: int = -1) -> None:
        _require(decay >= 0.0, "decay", decay, "a number >= 0")
        self.decay = decay
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int, group: int) -> float:
        return lr / (1.0 + self.decay * t)


class CosineAnnealingLR(LRScheduler):
    """eta_min + (lr - eta_min)·(1 + cos(π·t / T_max)) / 2 (Loshchilov & Hutter 2017, SGDR)."""

    def __init__(
        self, optimizer: Any, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        _require(T_max >= 1, "T_max", T_max, "at least 1")
        _require(eta_min >= 0.0, "eta_min", eta_min, "a number >= 0")
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int, group: int) -> float:
        return _cosine(lr, self.eta_min, t / self.T_max)


class LinearWarmup(LRScheduler):
    """lr·min(1, (t + 1) / steps): the first step is taken with lr / steps, not with 0."""

    def __init__(self, optimizer: Any, steps: int, last_epoch: int = -1) -> None:
        _require(steps >= 1, "steps", steps, "at least 1")
        self.steps = steps
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int, group: int) -> float:
        return lr * min(1.0, (t + 1) / self.steps)


class PolynomialLR(LRScheduler):
    """lr·(1 - min(t, total_iters) / total_iters)^power."""

    def __init__(
        self, optimizer: Any, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        _require(total_iters >= 1, "total_iters", total_iters, "at least 1")
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int, group: int) -> float:
        return lr * float((1.0 - min(t, self.total_iters) / self.total_iters) ** self.power)


class LambdaLR(LRScheduler):
    """lr·lr_lambda(t), one function for all groups or one each; functions are not saved."""

    def __init__(
        self,
        optimizer: Any,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        count = len(_groups(optimizer))
        self.lr_lambdas = [lr_lambda] * count if callable(lr_lambda) else list(lr_lambda)
        _require(len(self.lr_lambdas) == count, "lr_lambda", lr_lambda, f"{count} functions")
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int, group: int) -> float:
        return lr * float(self.lr_lambdas[group](t))


class OneCycleLR(LRScheduler):
    """Up to ``max_lr``, then down far below the start (Smith & Topin 2018, 1708.07120).

    From max_lr / div_factor to max_lr over the first ``pct_start`` of the steps, then to
    max_lr / div_factor / final_div_factor; with ``three_phase`` back down as it went up, and then
    on to the end. ``momentum`` or ``betas[0]`` goes the other way, from ``max_momentum`` to
    ``base_momentum`` and back. ``step()`` beyond ``total_steps`` is a ValueError.
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
    ) -> None:
        groups = _groups(optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("expected total_steps, or epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        _require(total_steps >= 1, "total_steps", total_steps, "at least 1")
        _require(0.0 <= pct_start <= 1.0, "pct_start", pct_start, "a number in [0, 1]")
        known = anneal_strategy in ("cos", "linear")
        _require(known, "anneal_strategy", anneal_strategy, "'cos' or 'linear'")
        self.total_steps = total_steps
        self.max_lrs = _per_group("max_lr", max_lr, len(groups))
        _require(all(lr >= 0.0 for lr in self.max_lrs), "max_lr", max_lr, "numbers >= 0")
        self.base_momentums = _per_group("base_momentum", base_momentum, len(groups))
        self.max_momentums = _per_group("max_momentum", max_momentum, len(groups))
        self.anneal = _cosine if anneal_strategy == "cos" else _linear
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor
        self.cycle_momentum = cycle_momentum
        top = pct_start * total_steps - 1.0
        ends = [top, 2.0 * top, total_steps - 1.0] if three_phase else [top, total_steps - 1.0]
        self.phase_ends = ends
        if cycle_momentum and not all("momentum" in g or "betas" in g for g in groups):
            raise ValueError("cycle_momentum=True; expected 'momentum' or 'betas' in every group")
        if last_epoch == -1:
            for group, peak in zip(groups, self.max_lrs, strict=True):
                group["initial_lr"] = peak / div_factor
        super().__init__(optimizer, last_epoch)

    def rate(self, lr: float, t: int, group: int) -> float:
        peak = self.max_lrs[group]
        start = peak / self.div_factor
        last = start / self.final_div_factor
        middle = [peak, start] if len(self.phase_ends) == 3 else [peak]
        return self._along([start, *middle, last], t)

    def momentum(self, t: int, group: int) -> float:
        """The momentum of group number ``group`` after ``t`` steps."""
        low, high = self.base_momentums[group], self.max_momentums[group]
        tail = [high, high] if len(self.phase_ends) == 3 else [high]
        return self._along([high, low, *tail], t)

    def step(self, metric: float | None = None) -> None:
        if self.last_epoch + 1 > self.total_steps:
            raise ValueError(f"step {self.last_epoch + 1} of total_steps={self.total_steps}")
        super().step(metric)

    def _along(self, levels: list[float], t: int) -> float:
        """The value at step t on the way from level to level."""
        starts = [0.0, *self.phase_ends[:-1]]
        for phase, end in enumerate(self.phase_ends):
            if t <= end or phase == len(self.phase_ends) - 1:
                width = end - starts[phase]
                done = (t - starts[phase]) / width if width else 1.0
                return self.anneal(levels[phase], levels[phase + 1], done)
        raise AssertionError("a schedule has at least one phase")

    def _apply(self, t: int) -> None:
        super()._apply(t)
        if not self.cycle_momentum:
            return
        for number, group in enumerate(self.optimizer.param_groups):
            value = self.momentum(t, number)
            if "betas" in group:
                group["betas"] = (value, *group["betas"][1:])
            else:
                group["momentum"] = value


class ReduceLROnPlateau(LRScheduler):
    """lr·factor each time the metric has not improved for more than ``patience`` steps.

    Better means below best·(1 - threshold), with ``threshold_mode="abs"`` below best - threshold;
    with ``mode="max"`` above, the signs turned. After a cut, ``cooldown`` steps are not counted. A
    rate never falls below ``min_lr``; a cut by less than ``eps`` is left out.
    """

    def __init__(
        self,
        optimizer: Any,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        _require(mode in ("min", "max"), "mode", mode, "'min' or 'max'")
        _require(factor < 1.0, "factor", factor, "a number < 1")
        _require(patience >= 0, "patience", patience, "at least 0")
        known = threshold_mode in ("rel", "abs")
        _require(known, "threshold_mode", threshold_mode, "'rel' or 'abs'")
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lrs = _per_group("min_lr", min_lr, len(_groups(optimizer)))
        self.eps = eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self.current = [float(group["lr"]) for group in optimizer.param_groups]
        super().__init__(optimizer)

    def rates(self, t: int) -> list[float]:
        return list(self.current)

    def step(self, metric: float | None = None) -> None:
        """Show the schedule the epoch's metric."""
        if metric is None:
            raise ValueError("ReduceLROnPlateau.step needs the metric: step(val_loss)")
        value = float(metric)
        # What others have done to the rate meanwhile (a warm-up) is the level to cut from.
        self.current = self.get_last_lr()
        if self._better(value):
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._cut()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        super().step()

    def state_dict(self) -> dict[str, Any]:
        own = ("best", "num_bad_epochs", "cooldown_counter")
        values = {name: getattr(self, name) for name in own}
        return {**super().state_dict(), **values, "current": list(self.current)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._check(state_dict)
        self.best = float(state_dict["best"])
        self.num_bad_epochs = int(state_dict["num_bad_epochs"])
        self.cooldown_counter = int(state_dict["cooldown_counter"])
        self.current = [float(lr) for lr in state_dict["current"]]
        super().load_state_dict(state_dict)

    def _better(self, value: float) -> bool:
        sign = -1.0 if self.mode == "min" else 1.0
        if self.threshold_mode == "abs":
            bound = self.best + sign * self.threshold
        else:
            bound = self.best * (1.0 + sign * self.threshold)
        return value < bound if self.mode == "min" else value > bound

    def _cut(self) -> None:
        lower = [
            max(lr * self.factor, least)
            for lr, least in zip(self.current, self.min_lrs, strict=True)
        ]
        self.current = [
            new if old - new > self.eps else old
            for old, new in zip(self.current, lower, strict=True)
        ]


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
            raise TypeError(f"schedulers={schedulers!r}; expected a list of schedules")
        if not schedulers:
            raise ValueError("schedulers is empty; expected at least one schedule")
        for scheduler in schedulers:
            if not isinstance(scheduler, LRScheduler):
                raise TypeError(f"a {type(scheduler).__name__} in 'schedulers'; expected schedules")
        milestones = _steps("milestones", milestones)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"{len(schedulers)} schedulers and {len(milestones)} milestones; "
                f"expected {len(schedulers) - 1} milestones"
            )
        if milestones != sorted(milestones):
            raise ValueError(f"milestones={milestones}; expected ascending steps")
        for scheduler in schedulers:
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ValueError("SequentialLR takes schedules of the step; not ReduceLROnPlateau")
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"{type(scheduler).__name__} was made for another optimizer")
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
            raise ValueError(f"state_dict has {len(parts)} schedules; expected {expected}")
        for scheduler, part in zip(self.schedulers, parts, strict=True):
            scheduler._check(part)
        for scheduler, part in zip(self.schedulers, parts, strict=True):
            scheduler.load_state_dict(part)
        super().load_state_dict(state_dict)

    def _at(self, t: int) -> tuple[LRScheduler, int]:
        """The schedule in charge after t steps and the step at which it took over."""
        number = bisect_right(self.milestones, t)
        return self.schedulers[number], self.milestones[number - 1] if number else 0

    def _apply(self, t: int) -> None:
        scheduler, begin = self._at(t)
        scheduler._apply(t - begin)


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * done)) / 2.0


def _linear(start: float, end: float, done: float) -> float:
    return start + (end - start) * done


def _groups(optimizer: Any) -> list[dict[str, Any]]:
    groups = getattr(optimizer, "param_groups", None)
    if not isinstance(groups, list) or not all("lr" in group for group in groups):
        kind = type(optimizer).__name__
        raise TypeError(f"optimizer is a {kind}; expected one with param_groups that have 'lr'")
    return groups


def _per_group(name: str, value: float | Sequence[float], count: int) -> list[float]:
    values = list(value) if isinstance(value, Sequence) else [value] * count
    _require(len(values) == count, name, value, f"one number or {count}")
    return [float(v) for v in values]


def _steps(name: str, value: Any) -> list[int]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{name}={value!r}; expected a list of steps")
    return [numbers.integer(f"{name}[{i}]", step, 0) for i, step in enumerate(value)]


def _gamma(value: Any) -> float:
    try:
        gamma = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"gamma={value!r}; expected a number >= 0") from None
    _require(0.0 <= gamma < math.inf, "gamma", value, "a number >= 0")
    return gamma


def _require(ok: bool, name: str, value: object, expected: str) -> None:
    if not ok:
        raise ValueError(f"{name}={value!r}; expected {expected}")
