"""The schedule that follows a metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from onepass import _numbers as numbers
from onepass.optim.lr_scheduler._base import LRScheduler, groups_of, per_group


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
        numbers.one_of("ReduceLROnPlateau", "mode", mode, ("min", "max"))
        numbers.in_range("ReduceLROnPlateau", "factor", factor, high=1)
        numbers.integer("ReduceLROnPlateau", "patience", patience, 0)
        numbers.one_of("ReduceLROnPlateau", "threshold_mode", threshold_mode, ("rel", "abs"))
        numbers.in_range("ReduceLROnPlateau", "threshold", threshold)
        numbers.integer("ReduceLROnPlateau", "cooldown", cooldown, 0)
        numbers.in_range("ReduceLROnPlateau", "eps", eps, 0)
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        groups = groups_of("ReduceLROnPlateau", optimizer)
        self.min_lrs = per_group("ReduceLROnPlateau", "min_lr", min_lr, len(groups))
        self.eps = eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self.current = [float(group["lr"]) for group in groups]
        super().__init__(optimizer)

    def rates(self, t: int) -> list[float]:
        return list(self.current)

    def step(self, metric: float | None = None) -> None:
        """Compare the metric of an epoch with the best one, and cut the rates if it is due."""
        if metric is None:
            raise ValueError(
                "ReduceLROnPlateau: 'metric' is None, expected a number, as in step(val_loss)"
            )
        value = numbers.as_float("ReduceLROnPlateau", "metric", metric, "a number")
        # Cut from the present rates: something else, such as a warm-up, may have changed them.
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
