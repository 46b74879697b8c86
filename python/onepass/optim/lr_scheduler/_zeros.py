"""Rates of zero. Schedules of one optimizer multiply, and 0 times anything is 0.

When a schedule sets a group's rate to 0, the product of the other factors would be lost. So the
group keeps it beside ``"lr"``, until a user sets another rate, from which the next step continues.
A schedule's 0 is -0.0, which equals 0 and survives copies and files, but differs from a 0 that a
user sets.
"""

from __future__ import annotations

import math
from typing import Any

from onepass import _numbers as numbers

KEY = "lr_without_zeros"
ZERO = -0.0


def held(group: dict[str, Any]) -> float | None:
    """The product that the group keeps; None where no schedule has set its rate to 0."""
    kept = group.get(KEY)
    lr = float(group["lr"])
    # A rate that was set by hand since counts.
    ours = lr == 0 and math.copysign(1, lr) < 0
    return float(kept) if ours and kept is not None else None


def put(group: dict[str, Any], kept: float | None) -> None:
    """Keep ``kept`` beside the rate, or nothing."""
    if kept is None:
        group.pop(KEY, None)
    else:
        group[KEY] = float(kept)


def check(owner: str, kept: Any, groups: int) -> None:
    """Check what a state_dict says that each of the groups keeps; None: it says nothing.

    Raises:
        TypeError, ValueError: it is not a list of that, or of another number of groups.
    """
    name = "state_dict['without_zeros']"
    if kept is None:
        return
    if not isinstance(kept, (list, tuple)) or len(kept) != groups:
        raise TypeError(f"{owner}: {name} is {kept!r}, expected a list with {groups} entries")
    for number, own in enumerate(kept):
        if own is not None:
            numbers.in_range(owner, f"{name}[{number}]", own, 0)
