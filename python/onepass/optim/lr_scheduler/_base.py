"""The base class of all schedules: counter, base rates and state."""

from __future__ import annotations

import inspect
import itertools
import math
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from onepass import _numbers as numbers
from onepass._interruptions import to_the_end
from onepass._keywords import SuggestsKeywords
from onepass._one_thread import Lock, OneThread
from onepass.optim.lr_scheduler import _zeros as zeros
from onepass.optim.lr_scheduler._arguments import current_lrs, groups_of

Interval = Literal["epoch", "step"]
_MADE = itertools.count()
_LIVE: weakref.WeakSet[LRScheduler] = weakref.WeakSet()  # those that something still refers to
_LOCK = Lock()  # other threads make schedules of other optimizers meanwhile


class LRScheduler(SuggestsKeywords):
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

    Raises:
        TypeError: ``optimizer`` has no groups with rates, or another argument is of another type.
        ValueError: an argument out of range, or a rate that is not a finite number >= 0.

    Example:
        >>> import numpy as np
        >>> from onepass import optim
        >>> from onepass.optim.lr_scheduler import LRScheduler
        >>> class Halves(LRScheduler):
        ...     def rate(self, lr, t, group):
        ...         return lr * 0.5**t
        >>> schedule = Halves(optim.SGD([np.ones(2, np.float32)], lr=1.0))
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.5]
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
        self._zeros: list[int] = []  # 1 for each group that this schedule has set to 0
        self._since = 0  # the step of the first of these zeros
        self._is_part = False  # of another schedule, which takes its steps
        self._lrs: list[float] = []  # as set last, without the factors that are 0
        self._replaced: dict[int, float] = {}  # group → the rate of a loaded state, of its schedule
        self._found = self._find(groups)
        ended = [zeros.held(g) is not None and self._ended(n) for n, g in enumerate(groups)]
        first = [
            float(group.get("initial_lr", lr)) if last_epoch > -1 or over else lr
            for group, lr, over in zip(groups, self._found, ended, strict=True)
        ]
        self.base_lrs = self._bases(first)
        self.last_epoch = last_epoch + 1
        self._checked(self.last_epoch)  # an error here leaves all groups unchanged
        for group, lr, over in zip(groups, self.base_lrs, ended, strict=True):
            group.setdefault("initial_lr", lr)
            if over:
                zeros.put(group, None)
        self._apply(self.last_epoch)
        self._register()

    def rate(self, lr: float, t: int, group: int) -> float:
        """The rate of group number ``group`` with base rate ``lr`` after ``t`` steps."""
        raise NotImplementedError

    def rates(self, t: int) -> list[float]:
        """Every group's rate after ``t`` steps."""
        return [self.rate(lr, t, group) for group, lr in enumerate(self.base_lrs)]

    def step(self, metric: float | None = None) -> None:
        """Count one step and set the rates; ``metric`` matters to ReduceLROnPlateau alone.

        Raises:
            ValueError: a rate that the schedule cannot go on from, or that is not a number >= 0.
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
            "without_zeros": [zeros.held(group) for group in self.optimizer.param_groups],
            "zeros": list(self._zeros),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from ``state_dict``.

        Raises:
            TypeError, ValueError: it is none, or that of another schedule or of other groups;
                nothing is changed.
        """
        with self._alone:
            self._check(state_dict)
            to_the_end(partial(self._load, state_dict))

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

    def _load(self, state_dict: dict[str, Any]) -> None:
        before = self.state_dict()
        self._restore(state_dict)
        try:
            if "lrs" in state_dict:
                self._resume(state_dict)
            else:  # a state of an earlier version
                self._apply(self.last_epoch)
        except BaseException:  # the schedule has no rate at this count
            self._restore(before)
            raise

    # ---- for subclasses

    def _find(self, groups: list[dict[str, Any]]) -> list[float]:
        """The rates that the optimizer had before the schedule."""
        return self._present(groups)

    def _bases(self, lrs: list[float]) -> list[float]:
        """The base rates, where the groups begin with ``lrs``."""
        return lrs

    def _extras(self, t: int) -> None:
        """Set what the schedule sets beside the rates."""

    # ---- inside

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        zeros.adopt(getattr(self.optimizer, "param_groups", ()))
        self._register()

    def _register(self) -> None:
        with _LOCK:
            _LIVE.add(self)

    def _others(self) -> list[LRScheduler]:
        """The other schedules of the optimizer."""
        with _LOCK:
            live = list(_LIVE)
        own = [s for s in live if s.optimizer is self.optimizer and s is not self]
        return [s for s in own if not s._is_part]

    def _holders(self, group: int) -> list[LRScheduler]:
        """The other schedules that have set the group's rate to 0."""
        return [s for s in self._others() if s._zeros[group : group + 1] == [1]]

    def _ended(self, group: int) -> bool:
        """Whether those have come down to 0, rather than begun there, or are gone."""
        return all(s._since > 0 for s in self._holders(group))

    def _follow(self) -> None:
        """Go on from rates that were set elsewhere since, and from those of groups added since."""
        groups = self.optimizer.param_groups
        now = self._present(groups)
        if now == self._lrs:
            return
        if len(now) < len(self.base_lrs):
            raise ValueError(
                f"{type(self).__name__}: 'optimizer' has {len(now)} groups, expected the "
                f"{len(self.base_lrs)} that it had before; make a new schedule"
            )
        known = len(self._lrs)
        changed = {
            g: lr
            for g, lr in enumerate(now)
            # The optimizer's state, loaded after that of the schedule, brings the rate before.
            if g >= known or lr not in (self._lrs[g], self._replaced.get(g))
        }
        bases = {
            g: lr if self._held_at_zero(g) else self._base(lr, self.last_epoch, g)
            for g, lr in changed.items()
        }
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
                base = changed[group]
                if not any(len(s._lrs) > group for s in self._others()):
                    base = float(groups[group].get("initial_lr", base))
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

    def _present(self, groups: list[dict[str, Any]]) -> list[float]:
        """The groups' rates, but for the factors of schedules that are 0."""
        lrs = current_lrs(type(self).__name__, groups)
        kept = map(zeros.held, groups)
        return [lr if k is None else k for lr, k in zip(lrs, kept, strict=True)]

    def _held_at_zero(self, group: int) -> bool:
        """Whether this schedule has set the group's rate to 0, and nobody another one since."""
        known = group < len(self._zeros) and self._zeros[group] > 0
        return known and zeros.held(self.optimizer.param_groups[group]) is not None

    def _base_at(self, t: int, group: int) -> float:
        """The base rate of which ``rate`` makes the rate after ``t`` steps."""
        return self.base_lrs[group]

    def _apply(self, t: int) -> None:
        """Set the rates after ``t`` steps."""
        rates = self._checked(t)
        self._extras(t)
        without, kept, own = list(rates), [], self._at_zero(t, rates)
        for number, group in enumerate(self.optimizer.param_groups):
            if own[number]:
                without[number] = self._base_at(t, number)
            held = zeros.held(group) is not None and self._holders(number)
            if held or own[number]:
                rates[number] = 0.0
            kept.append(without[number] if held or own[number] else None)
        set_now = self._set(rates, kept)
        self._lrs = [
            rate if k is None else w for w, k, rate in zip(without, kept, set_now, strict=True)
        ]
        self._replaced = {}
        self._since = self._since if any(self._zeros) else t
        self.last_epoch, self._zeros = t, own

    def _resume(self, state: Mapping[str, Any]) -> None:
        """Set this schedule's rates where those of the state are its schedule's own, which may have
        been a shorter one; rates that were set elsewhere since stay as they were."""
        groups, t = self.optimizer.param_groups, self.last_epoch
        rates = self._checked(t)
        self._extras(t)
        now = self._at_zero(t, rates)
        lrs = list(state["lrs"])
        kept = list(state.get("without_zeros", [None] * len(groups)))
        last = [float(lr) for lr in state.get("last_lrs", ())]
        then = state.get("zeros", now)
        taken = {}
        for number, (was, own, lr) in enumerate(zip(then, now, last, strict=False)):
            at_zero = kept[number] is not None
            if self._holders(number) or (was and own) or at_zero != bool(was):
                continue
            if was or lrs[number] == lr:
                lrs[number] = rates[number]
                kept[number] = self._base_at(t, number) if own else None
                taken[number] = lr
        set_now = self._set(lrs, kept)
        for number in taken:
            without = kept[number]
            last[number] = set_now[number] if without is None else without
        self._zeros, self._lrs, self._replaced = now, last or self._present(groups), taken

    def _at_zero(self, t: int, rates: Sequence[float]) -> list[int]:
        """1 for each group whose rate is 0 though its base rate is not, else 0."""
        return [int(rate == 0 != self._base_at(t, group)) for group, rate in enumerate(rates)]

    def _set(self, lrs: Sequence[float], kept: Sequence[float | None]) -> list[float]:
        """Set every group's rate, and what it keeps beside a 0; returns the rates."""
        rates = []
        for group, rate, own in zip(self.optimizer.param_groups, lrs, kept, strict=True):
            before = group["lr"]
            lr = zeros.ZERO if own is not None else rate
            if type(before) is float or not hasattr(before, "fill_"):
                group["lr"] = lr if lr is zeros.ZERO else float(lr)
            else:  # a tensor, which a CUDA graph may have captured; it rounds
                before.fill_(lr)
            rates.append(float(group["lr"]))
            zeros.put(group, own)
        return rates

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
            raise TypeError(f"{owner}: 'state_dict' is {state!r}, expected a state_dict()")
        optional = ("last_lrs", "lrs", "without_zeros", "zeros")
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
        zeros.check(owner, state.get("without_zeros"), groups)
        self._check_rates(state, "zeros", 0, 0, groups)

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
