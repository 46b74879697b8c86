"""`ReduceLROnPlateau`: the schedule that follows a metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from onepass import _numbers as numbers
from onepass.optim.lr_scheduler._arguments import groups_of, per_group
from onepass.optim.lr_scheduler._base import LRScheduler


class ReduceLROnPlateau(LRScheduler):
    """lr·factor each time the metric has not improved for more than ``patience`` steps.

    Better means below best - threshold·|best|, with ``threshold_mode="abs"`` below best -
    threshold; with ``mode="max"`` above, the sign turned. A metric that is NaN is not better. A
    Trainer steps it after each epoch.

    For metrics above zero this is PyTorch's rule. PyTorch takes best·(1 - threshold), which lies
    above a negative best, so that a constant negative metric would improve for ever.

    Args:
        mode: ``"min"`` or ``"max"``: whether lower or higher is better.
        factor: what a cut multiplies the rate by, between 0 and 1.
        patience: steps in a row without improvement that are allowed, >= 0.
        threshold: what a metric must be better than the best by, >= 0.
        threshold_mode: ``"rel"``: by threshold·|best|; ``"abs"``: by threshold itself.
        cooldown: steps after a cut that are not counted, >= 0.
        min_lr: the least rate, >= 0; one number, or one for each group.
        eps: a cut by less than this is left out, >= 0.
        optimizer: as of `LRScheduler`.

    Raises:
        TypeError, ValueError: an argument of another type or out of range.

    Example:
        >>> import numpy as np
        >>> from onepass import optim
        >>> from onepass.optim.lr_scheduler import ReduceLROnPlateau
        >>> optimizer = optim.SGD([np.ones(2, np.float32)], lr=1.0)
        >>> schedule = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        >>> [(schedule.step(loss), schedule.get_last_lr()[0])[1] for loss in (3.0, 2.0, 2.0, 1.0)]
        [1.0, 1.0, 0.5, 0.5]
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
        numbers.in_range("ReduceLROnPlateau", "factor", factor, high=1, above=0)
        numbers.integer("ReduceLROnPlateau", "patience", patience, 0)
        numbers.one_of("ReduceLROnPlateau", "threshold_mode", threshold_mode, ("rel", "abs"))
        numbers.in_range("ReduceLROnPlateau", "threshold", threshold, 0)
        numbers.integer("ReduceLROnPlateau", "cooldown", cooldown, 0)
        numbers.in_range("ReduceLROnPlateau", "eps", eps, 0)
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        groups = groups_of("ReduceLROnPlateau", optimizer)
        self.min_lrs = per_group("ReduceLROnPlateau", "min_lr", min_lr, len(groups), low=0)
        self._one_min_lr = not isinstance(min_lr, (list, tuple))
        self.eps = eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        super().__init__(optimizer)

    def _bases(self, lrs: list[float]) -> list[float]:
        self.current = list(lrs)
        return lrs

    def _base_at(self, t: int, group: int) -> float:
        return self.current[group]

    def rates(self, t: int) -> list[float]:
        return list(self.current)

    def step(self, metric: float | None = None) -> None:
        """Compare the metric of an epoch with the best one, and cut the rates if it is due.

        Raises:
            ValueError: no metric. TypeError: it is not a number. Nothing is changed.
        """
        if metric is None:
            raise ValueError(
                "ReduceLROnPlateau: 'metric' is None, expected a number, as in step(val_loss)"
            )
        value = numbers.as_float("ReduceLROnPlateau", "metric", metric, "a number")
        with self._alone:
            self._follow()
            bad, cooling = self.num_bad_epochs + 1, self.cooldown_counter
            better = self._better(value)
            if better or cooling > 0:
                bad = 0
            cooling = max(0, cooling - 1)
            if bad > self.patience:
                self._cut()
                bad, cooling = 0, self.cooldown
            self.best = value if better else self.best
            self.num_bad_epochs, self.cooldown_counter = bad, cooling
            self._apply(self.last_epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        own = ("best", "num_bad_epochs", "cooldown_counter")
        values = {name: getattr(self, name) for name in own}
        return {**super().state_dict(), **values, "current": list(self.current)}

    def _check(self, state: Mapping[str, Any]) -> None:
        super()._check(state)
        owner = "ReduceLROnPlateau"
        numbers.as_float(owner, "state_dict['best']", state["best"], "a number")
        for name in ("num_bad_epochs", "cooldown_counter"):
            numbers.integer(owner, f"state_dict[{name!r}]", state[name], 0)
        groups = len(self.optimizer.param_groups)
        self._check_rates(state, "current", 0, 1, groups)

    def _restore(self, state: dict[str, Any]) -> None:
        self.best = float(state["best"])
        self.num_bad_epochs = int(state["num_bad_epochs"])
        self.cooldown_counter = int(state["cooldown_counter"])
        self.current = [float(lr) for lr in state["current"]]
        super()._restore(state)

    def _follow(self) -> None:
        """Cut from the present rates: something else, such as a warm-up, may have changed them."""
        now = self._present(self.optimizer.param_groups)
        if self._one_min_lr:
            self.min_lrs += self.min_lrs[:1] * (len(now) - len(self.min_lrs))
        if len(self.min_lrs) != len(now):
            raise ValueError(
                f"ReduceLROnPlateau: 'min_lr' has {len(self.min_lrs)} numbers, one for each group, "
                f"expected {len(now)}: the groups have changed; change min_lrs too"
            )
        self.current = now
        self.base_lrs += now[len(self.base_lrs) :]

    def _better(self, value: float) -> bool:
        margin = self.threshold
        if self.threshold_mode == "rel" and math.isfinite(self.best):
            margin *= abs(self.best)
        if self.mode == "min":
            return value < self.best - margin
        return value > self.best + margin

    def _cut(self) -> None:
        lower = [
            max(lr * self.factor, least)
            for lr, least in zip(self.current, self.min_lrs, strict=True)
        ]
        self.current = [
            new if old - new > self.eps else old
            for old, new in zip(self.current, lower, strict=True)
        ]
