"""The base class of all schedules: counter, base rates and state."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Mapping
from typing import Any, Literal

from onepass import _numbers as numbers
from onepass._one_thread import OneThread
from onepass.optim.lr_scheduler._arguments import current_lrs, groups_of

Interval = Literal["epoch", "step"]
_MADE = itertools.count()


class LRScheduler:
    """Base of all schedules: a subclass gives ``rate(lr, t, group)``.

    Args:
        optimizer: its groups' ``"lr"`` are set here and by every ``step()``.
        last_epoch: the counter less one, to begin in the middle; the groups must then hold
            ``"initial_lr"``.
        interval: when a Trainer calls ``step()``: "epoch", "step", or None for the default of the
            class.

    Attributes:
        interval: "epoch" or "step".
        total_steps: how often ``step()`` may be called; None: any number of times.
        base_lrs: the base rate of each group.
        last_epoch: how often ``step()`` was called.
    """

    interval: str = "epoch"
    total_steps: int | None = None

    def __init__(
        self, optimizer: Any, last_epoch: int = -1, interval: Interval | None = None
    ) -> None:
        owner = type(self).__name__
        groups = groups_of(owner, optimizer)
        numbers.integer(owner, "last_epoch", last_epoch, -1)
        if interval is not None:
            numbers.one_of(owner, "interval", interval, ("epoch", "step"))
            self.interval = interval
        if last_epoch > -1 and not all("initial_lr" in group for group in groups):
            raise ValueError(
                f"{owner}: 'last_epoch' is {last_epoch!r}, expected -1, or groups that all have "
                "'initial_lr'"
            )
        self.optimizer = optimizer
        self._alone = OneThread(owner)
        self._made = next(_MADE)
        self._found = self._find(groups)
        first = [
            float(group["initial_lr"]) if last_epoch > -1 else lr or group.get("initial_lr", lr)
            for group, lr in zip(groups, self._found, strict=True)
        ]
        self.base_lrs = self._bases(first)
        self.last_epoch = last_epoch + 1
        self._checked(self.last_epoch)  # an error here leaves all groups unchanged
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
        """Count one step and set the rates; ``metric`` matters to ReduceLROnPlateau alone.

        Raises:
            ValueError: a rate that the schedule cannot go on from, or that is no number >= 0.
            RuntimeError: another thread is in ``step()``. Nothing is changed.
        """
        with self._alone:
            self._follow()
            self._apply(self.last_epoch + 1)

    def get_last_lr(self) -> list[float]:
        """The rates that the optimizer has now."""
        return current_lrs(type(self).__name__, self.optimizer.param_groups)

    def state_dict(self) -> dict[str, Any]:
        """The state that a resume needs: kind, counter, base rates, rates set last and present."""
        return {
            "type": type(self).__name__,
            "last_epoch": self.last_epoch,
            "base_lrs": list(self.base_lrs),
            "last_lrs": list(self._lrs),
            "lrs": self.get_last_lr(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from ``state_dict``.

        Raises:
            TypeError, ValueError: it is none, or that of another schedule or of other groups;
                nothing is changed.
        """
        with self._alone:
            self._check(state_dict)
            self._restore(state_dict)
            set_before = state_dict.get("last_lrs")  # states of earlier versions lack these two
            self._apply(self.last_epoch, state_dict.get("lrs"))
            if set_before is not None:
                self._lrs = [float(lr) for lr in set_before]

    def __repr__(self) -> str:
        shown = []
        for name in inspect.signature(type(self).__init__).parameters:
            for attribute in (name, f"{name}s"):  # max_lr is kept as max_lrs, one for each group
                if attribute in self.__dict__ and attribute not in ("optimizer", "last_epoch"):
                    shown.append(f"{attribute}={getattr(self, attribute)!r}")
                    break
        shown += [f"interval={self.interval!r}"] * ("interval" not in self.__dict__)
        shown += [f"last_epoch={self.last_epoch}", f"lrs={self.get_last_lr()}"]
        return f"{type(self).__name__}({', '.join(shown)})"

    # ---- for subclasses

    def _find(self, groups: list[dict[str, Any]]) -> list[float]:
        """The rates that the optimizer had before the schedule."""
        return current_lrs(type(self).__name__, groups)

    def _bases(self, lrs: list[float]) -> list[float]:
        """The base rates, where the groups begin with ``lrs``."""
        return lrs

    def _extras(self, t: int) -> None:
        """Set what the schedule sets beside the rates."""

    # ---- inside

    def _follow(self) -> None:
        """Go on from rates that were set elsewhere since, and from those of groups added since."""
        if [group["lr"] for group in self.optimizer.param_groups] == self._lrs:
            return
        now = self.get_last_lr()
        if len(now) < len(self.base_lrs):
            raise ValueError(
                f"{type(self).__name__}: 'optimizer' has {len(now)} groups, expected the "
                f"{len(self.base_lrs)} that it had before; make a new schedule"
            )
        known = len(self._lrs)
        changed = {g: lr for g, lr in enumerate(now) if g >= known or lr != self._lrs[g]}
        groups = self.optimizer.param_groups
        bases = {g: self._base(lr, self.last_epoch, g) for g, lr in changed.items()}
        for group, lr in changed.items():
            if bases[group] is None and group < known:
                raise ValueError(
                    f"{type(self).__name__}: 'lr' of group {group} is {lr!r}, set elsewhere after "
                    f"step {self.last_epoch} of the schedule, which has the rate "
                    f"{self._lrs[group]!r} there from any base rate and cannot go on from another; "
                    "make a new schedule"
                )
        for group, base in bases.items():
            if base is None:  # a new group, which begins where the schedule has one rate for all
                base = float(groups[group].get("initial_lr", changed[group]))
            self._rebase(group, base)
            groups[group].setdefault("initial_lr", base)
        self._lrs = now

    def _base(self, lr: float, t: int, group: int) -> float | None:
        """The base rate with which ``rate`` is ``lr`` after ``t`` steps; None if there is none."""
        least = self.rate(0.0, t, group)
        slope = self.rate(1.0, t, group) - least  # a rate is linear in its base rate
        base = (lr - least) / slope if slope else lr
        return None if abs(self.rate(base, t, group) - lr) > 1e-6 * lr else base

    def _rebase(self, group: int, base: float) -> None:
        self.base_lrs[group : group + 1] = [base]

    def _apply(self, t: int, lrs: list[float] | None = None) -> None:
        """Set the rates after ``t`` steps, or ``lrs``."""
        rates = self._checked(t) if lrs is None else list(lrs)
        self._extras(t)
        for number, (group, lr) in enumerate(zip(self.optimizer.param_groups, rates, strict=True)):
            held = group["lr"]
            if type(held) is float or not hasattr(held, "fill_"):
                group["lr"] = rates[number] = float(lr)
            else:  # a tensor, which a CUDA graph may have captured; it rounds
                held.fill_(lr)
                rates[number] = float(held)
        self.last_epoch, self._lrs = t, rates

    def _checked(self, t: int) -> list[float]:
        try:
            rates = self.rates(t)
        except OverflowError:  # a growing schedule, gamma above 1
            rates = [math.inf for _ in self.base_lrs]
        for group, lr in enumerate(rates):
            if not 0 <= lr < math.inf:
                raise ValueError(
                    f"{type(self).__name__}: the rate of group {group} is {lr!r} after {t} steps, "
                    "expected a finite number >= 0"
                )
        return rates

    def _restore(self, state: dict[str, Any]) -> None:
        """Take over the counter and the like, not yet the rates."""
        self.base_lrs = [float(lr) for lr in state["base_lrs"]]
        self.last_epoch = int(state["last_epoch"])

    def _check(self, state: Mapping[str, Any]) -> None:
        owner = type(self).__name__
        if not isinstance(state, Mapping):
            raise TypeError(f"{owner}: 'state_dict' is {state!r}, expected what state_dict() gives")
        optional = ("last_lrs", "lrs")
        missing = [key for key in self.state_dict() if key not in state and key not in optional]
        if missing:
            raise ValueError(
                f"{owner}: 'state_dict' lacks {', '.join(missing)}, expected the state of a {owner}"
            )
        if state["type"] != owner:
            raise ValueError(
                f"{owner}: 'state_dict' is that of a {state['type']}, expected that of a {owner}"
            )
        numbers.integer(owner, "state_dict['last_epoch']", state["last_epoch"], 0)
        groups = len(self.optimizer.param_groups)
        # A group that was added after the last step has a rate, and no base rate yet.
        self._check_rates(state, "base_lrs", -math.inf, 1, groups)
        self._check_rates(state, "lrs", 0, groups, groups)
        self._check_rates(state, "last_lrs", 0, 1, groups)
        if "lrs" not in state:
            self._check_rates(state, "base_lrs", -math.inf, groups, groups)

    def _check_rates(
        self, state: Mapping[str, Any], key: str, low: float, least: int, most: int
    ) -> None:
        """Rates of ``least`` to ``most`` groups; states of earlier versions lack some.

        Raises:
            TypeError, ValueError: they are none, or of another number of groups.
        """
        owner, rates, name = type(self).__name__, state.get(key, ()), f"state_dict[{key!r}]"
        if not isinstance(rates, (list, tuple)):
            raise TypeError(f"{owner}: {name} is {rates!r}, expected a list of rates")
        if key in state and not least <= len(rates) <= most:
            raise ValueError(
                f"{owner}: 'state_dict' has {len(rates)} groups in {key!r}, expected {most}"
            )
        for group, rate in enumerate(rates):
            numbers.in_range(owner, f"{name}[{group}]", rate, low)
