"""The schedules of ``onepass train --schedule``, with options that fit the length of the run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from onepass._suggest import suggestion
from onepass.optim import lr_scheduler as lrs
from onepass.optim.lr_scheduler import LRScheduler
from onepass.optim.lr_scheduler._base import Interval

DEFAULT = "warmup_cosine"
WARMUP_SHARE = 0.05


class Length(NamedTuple):
    """How long a run is at most, in the unit that the schedule counts, and its first rate."""

    total: int
    lr: float

    @property
    def warmup(self) -> int:
        """A short part of the run."""
        return max(1, round(self.total * WARMUP_SHARE))


def warmup_cosine(
    optimizer: Any, warmup: int, *, total: int, interval: Interval = "step"
) -> LRScheduler:
    """A linear warm-up, then half a cosine to zero."""
    parts = [
        lrs.LinearWarmup(optimizer, warmup, interval=interval),
        lrs.CosineAnnealingLR(optimizer, max(1, total - warmup), interval=interval),
    ]
    return lrs.SequentialLR(optimizer, parts, [warmup], interval=interval)


# Name → what makes it, and the options that it gets where none are given.
SCHEDULES: dict[str, tuple[Callable[..., Any], Callable[[Length], dict[str, Any]]]] = {
    DEFAULT: (warmup_cosine, lambda of: {"warmup": of.warmup, "total": of.total}),
    "constant": (lrs.ConstantLR, lambda of: {"factor": 1.0}),
    "cosine": (lrs.CosineAnnealingLR, lambda of: {"T_max": of.total}),
    "exponential": (lrs.ExponentialLR, lambda of: {"gamma": 0.01 ** (1 / of.total)}),
    "harmonic": (lrs.HarmonicLR, lambda of: {"scale": 10 * of.lr, "shift": 10, "period": 1}),
    "inverse_time": (lrs.InverseTimeLR, lambda of: {"decay": 10 / of.total}),
    "multi_step": (
        lrs.MultiStepLR,
        lambda of: {"milestones": [max(1, of.total // 2), max(1, of.total * 3 // 4)]},
    ),
    "one_cycle": (lrs.OneCycleLR, lambda of: {"max_lr": of.lr, "total_steps": of.total}),
    "plateau": (lrs.ReduceLROnPlateau, lambda of: {"patience": 5}),
    "polynomial": (lrs.PolynomialLR, lambda of: {"total_iters": of.total}),
    "step": (lrs.StepLR, lambda of: {"step_size": math.ceil(of.total / 3)}),
    "warmup": (lrs.LinearWarmup, lambda of: {"steps": of.warmup}),
}
NONE = "none"
# The total of epochs and steps is known.
NOT_OPTIONS = frozenset(
    ("self", "optimizer", "last_epoch", "total", "total_steps", "epochs", "steps_per_epoch")
)


def names() -> list[str]:
    """What ``--schedule`` takes."""
    return [*SCHEDULES, NONE]


def options_of(name: str) -> list[str]:
    """What ``--schedule-options`` takes with it."""
    if name == NONE:
        return []
    parameters = inspect.signature(SCHEDULES[name][0]).parameters
    return [option for option in parameters if option not in NOT_OPTIONS]


def schedule(
    optimizer: Any, name: str, given: Sequence[str], epochs: int, steps: int
) -> LRScheduler | None:
    """The schedule of a run.

    Args:
        name: one of `names`.
        given: options, such as "gamma=0.5".
        epochs, steps: of the whole run.

    Raises:
        ValueError: the name or an option is unknown, or a value cannot work.
    """
    if name not in names():
        known = ", ".join(sorted(names()))
        raise ValueError(
            f"train: '--schedule' is {name!r}, expected one of {known}{suggestion(name, names())}"
        )
    options = _read(name, given)
    if name == NONE:
        return None
    make, defaults = SCHEDULES[name]
    own = inspect.signature(make).parameters.get("interval")
    by_step = options.get("interval", own and own.default) == "step"
    length = Length(steps if by_step else epochs, float(optimizer.param_groups[0]["lr"]))
    own_options = defaults(length)
    for option, value in options.items():
        listed = isinstance(own_options.get(option), list) and not isinstance(value, list)
        own_options[option] = [value] if listed else value
    try:
        made: LRScheduler = make(optimizer, **own_options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"train: '--schedule' {name}: {error}") from None
    return made


def _read(name: str, given: Sequence[str]) -> Mapping[str, Any]:
    known = options_of(name)
    found: dict[str, Any] = {}
    for text in given:
        option, sign, value = text.partition("=")
        option = option.strip()
        if option not in known or not sign:
            expected = ", ".join(f"{o}=…" for o in known) or "none"
            raise ValueError(
                f"train: '--schedule-options' has {text!r}, expected options of {name}: {expected}"
                f"{suggestion(option, known)}"
            )
        found[option] = _value(value.strip())
    return found


def _value(text: str) -> Any:
    """A number, true or false, numbers joined by +, or a word."""
    if "+" in text.strip("+") and "e+" not in text.lower():
        return [_value(part) for part in text.split("+")]
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
