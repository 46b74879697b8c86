"""The base class of all schedules: counter, base rates, state, and checks of arguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from onepass import _numbers as numbers


class LRScheduler:
    """Base of all schedules: a subclass gives ``rate(lr, t, group)``.

    Args:
        optimizer: its groups' ``"lr"`` are set here and by every ``step()``.
        last_epoch: the counter less one, to begin in the middle; the groups must then hold
            ``"initial_lr"``.
    """

    def __init__(self, optimizer: Any, last_epoch: int = -1) -> None:
        self.optimizer = optimizer
        owner = type(self).__name__
        groups = groups_of(owner, optimizer)
        numbers.integer(owner, "last_epoch", last_epoch, -1)
        if last_epoch > -1 and not all("initial_lr" in group for group in groups):
            raise ValueError(
                f"{owner}: 'last_epoch' is {last_epoch!r}, expected -1, or groups that all have "
                "'initial_lr'"
            )
        self.base_lrs = [float(group.get("initial_lr", group["lr"])) for group in groups]
        self.last_epoch = last_epoch + 1
        self.rates(self.last_epoch)  # an error here leaves all groups unchanged
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
        """The state that a resume needs: the kind, the counter and the base rates."""
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
        owner = type(self).__name__
        missing = [key for key in self.state_dict() if key not in state]
        if missing:
            raise ValueError(
                f"{owner}: 'state_dict' lacks {', '.join(missing)}, expected the state of a {owner}"
            )
        if state["type"] != owner:
            raise ValueError(
                f"{owner}: 'state_dict' is that of a {state['type']}, expected that of a {owner}"
            )
        if len(state["base_lrs"]) != len(self.base_lrs):
            given, expected = len(state["base_lrs"]), len(self.base_lrs)
            raise ValueError(f"{owner}: 'state_dict' has {given} groups, expected {expected}")


def groups_of(owner: str, optimizer: Any) -> list[dict[str, Any]]:
    groups = getattr(optimizer, "param_groups", None)
    if not isinstance(groups, list) or not all("lr" in group for group in groups):
        kind = type(optimizer).__name__
        raise TypeError(
            f"{owner}: 'optimizer' is a {kind}, expected an optimizer whose param_groups have 'lr'"
        )
    return groups


def per_group(owner: str, name: str, value: float | Sequence[float], count: int) -> list[float]:
    """A number for every group, from one number or one each."""
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else None
    if values is None:
        return [numbers.in_range(owner, name, value)] * count
    if len(values) != count:
        raise ValueError(f"{owner}: {name!r} is {value!r}, expected one number or {count}")
    return [numbers.in_range(owner, f"{name}[{i}]", v) for i, v in enumerate(values)]


def steps(owner: str, name: str, value: Any) -> list[int]:
    """A list of step counts."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{owner}: {name!r} is {value!r}, expected a list of steps")
    return [numbers.integer(owner, f"{name}[{i}]", step, 0) for i, step in enumerate(value)]
