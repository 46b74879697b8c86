"""The ranges of hyper-parameters, one table for all optimizers, and their checks."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from onepass._numbers import in_range


class Range(NamedTuple):
    """The finite numbers from ``low`` to below ``high``, as `in_range` takes them.

    Attributes:
        above: the lower end instead of ``low``, itself excluded.
        most: the upper end instead of ``high``, itself included.
        none: what None counts as; without it None is refused.
    """

    low: float = -math.inf
    high: float = math.inf
    above: float | None = None
    most: float | None = None
    none: float | None = None

    def check(self, owner: str, name: str, value: Any) -> float:
        """``value`` as a float; TypeError or ValueError if it is not a number of the range."""
        low, high, above, most, none = self
        if none is None:
            return in_range(owner, name, value, low, high, above=above, most=most)
        if value is None:
            return none
        return in_range(owner, name, value, low, high, above=above, most=most, or_none=True)


# A range, None for True or False, or a range for each number of a tuple.
Limits = Range | tuple[Range, ...] | None
# The range of every option. The kernel reads a tuple such as betas as beta1 and beta2; a single
# range holds for each of its numbers. A rule may override a range for its optimizer.
RANGES: dict[str, Limits] = {
    "lr": Range(0),
    "betas": Range(0, 1),
    "alpha": Range(0, 1),
    "eps": Range(0),
    "weight_decay": Range(0),
    "rho": Range(0, most=1),
    "lr_decay": Range(0),
    "initial_accumulator_value": Range(0),
    "momentum": Range(0),
    "dampening": Range(),
    "nesterov": None,
    "trust_coefficient": Range(0),
    "adapts_undecayed": None,
    "momentum_decay": Range(0),
    "beta2_decay": Range(most=0),
    "d": Range(1),
    "decoupled_weight_decay": None,
    "amsgrad": None,
    "centered": None,
    "lambd": Range(0),
    "t0": Range(0),
    "etas": (Range(above=0, high=1), Range(above=1)),
    "step_sizes": Range(0),
    "total_steps": Range(1, none=0),
    "warmup_steps": Range(0),
    "r": Range(0),
    "weight_lr_power": Range(0),
    "bias_correction": None,
    "tolerance_grad": Range(0),
    "tolerance_change": Range(0),
    # Those that ride along any step (optim/_riders.py):
    "l1": Range(0),
    "max_weight_norm": Range(above=0),
    "ema_decay": Range(0, most=1),
    "noise": Range(0),
    "cautious": None,
    # Hyper-parameters that choose a library's formula (_compat.py):
    "lr_inside": None,
    "eps_inside": None,
    "eps_outside": None,
    "eps_hat": None,
    "eps_corrected": None,
    "decay_by_lr": None,
    "decay_last": None,
    "amsgrad_corrected": None,
    "steps_ahead": Range(0),
}
# The numbers that a plan carries for each parameter.
SCALAR_RANGES = {
    "mu_product": Range(0, most=1),
    "eta": Range(0),
    "mu": Range(0, most=1),
    "weight_sum": Range(0),
    "lr_max": Range(0),
}
# The states that are averages or sums of squares: a loaded one is never negative.
SQUARES = frozenset(
    {
        *("exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum", "acc_delta", "exp_inf"),
        *("row_var", "col_var", "variance"),
    }
)
# Averages of gradients; with those of squares the states that a code of 8 bits holds well enough.
_AVERAGES = frozenset({"exp_avg", "momentum_buffer", "exp_avg_slow", "exp_avg_fast"})


def code_of(key: str) -> Literal["uint8", "int8"] | None:
    """The dtype of the codes of a state (csrc/core/codes.h); None: 8 bits would lose too much."""
    if key in SQUARES:
        return "uint8"
    return "int8" if key in _AVERAGES else None


# An option, its limits, the option without which it counts as 0, the least number that is surely in
# the range, the number below which it is.
Read = tuple[str, Limits, str | None, float, float]


def reads(
    kernel: str, hyper: Sequence[str], ignored: Mapping[str, str], ranges: Mapping[str, Limits]
) -> list[Read]:
    """How a kernel's hyper-parameters are read from options."""
    found: list[Read] = []
    for name in hyper:
        stem = name.rstrip("0123456789")
        tupled = stem if stem.endswith("s") else f"{stem}s"  # of beta1, beta2 and of eps1, eps2
        if name == "step":
            continue
        if name in ranges:
            limits = ranges[name]
            if isinstance(limits, tuple) and not isinstance(limits, Range):
                raise ValueError(f"{kernel}: {name!r} is one number, expected one range for it")
            found.append((name, limits, ignored.get(name), *_sure(limits)))
        elif name == stem or tupled not in ranges:
            both = "" if name == stem else f" or for the tuple {tupled!r}"
            raise ValueError(
                f"{kernel}: no range for the hyper-parameter {name!r}{both}: add it to RANGES in "
                "python/onepass/ops/_ranges.py, or to the ranges of the rule"
            )
        elif not (found and found[-1][0] == tupled):
            count = sum(other.rstrip("0123456789") == stem for other in hyper)
            each = _each(kernel, tupled, ranges[tupled], count)
            found.append((tupled, each, None, math.inf, math.inf))
    return found


def _each(kernel: str, option: str, limits: Limits, count: int) -> tuple[Range, ...]:
    """A range for each number of a tuple."""
    each = (limits,) * count if isinstance(limits, Range) else limits or ()
    if len(each) != count:
        raise ValueError(f"{kernel}: {option!r} has {count} numbers, expected a range for each")
    return each


def _sure(limits: Range | None) -> tuple[float, float]:
    if limits is None or limits.above is not None or limits.most is not None:
        return math.inf, math.inf
    return max(limits.low, -sys.float_info.max), limits.high


def several(owner: str, option: str, value: Any, limits: tuple[Range, ...]) -> list[float]:
    """The checked numbers of a tuple."""
    try:
        values = list(value)
    except TypeError:
        values = []
    if (count := len(limits)) != len(values):
        expected = "a pair of" if count == 2 else count
        raise ValueError(f"{owner}: {option!r} is {value!r}, expected {expected} numbers")
    numbers = []
    for i, (number, each) in enumerate(zip(values, limits, strict=True)):
        low, high = _sure(each)
        sure = type(number) is float and low <= number < high
        numbers.append(number if sure else each.check(owner, f"{option}[{i}]", number))
    return numbers
