"""Rates of zero. Schedules of one optimizer multiply, and 0 times anything is 0.

When a schedule sets a group's rate to 0, the product of the other factors would be lost. So the
group keeps it beside ``"lr"``, until a user sets another rate, from which the next step continues.
A schedule's 0 is -0.0, which equals 0, survives files, and differs from a 0 that a user sets. Where
``group["lr"] *= 0`` makes -0.0 of it, that is another object; so as long as what a schedule put
beside the rate is there itself, not a value from a file, the object decides: of a tensor, which
``mul_(0)`` leaves as it is, its version.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from onepass import _numbers as numbers

KEY = "lr_without_zeros"
ZERO = -0.0
_kept: dict[int, tuple[float, tuple[int, Any]]] = {}  # what schedules put into groups, by id


def held(group: dict[str, Any]) -> float | None:
    """The product that the group keeps; None where no schedule has set its rate to 0."""
    kept = group.get(KEY)
    if kept is None:
        return None
    lr = group["lr"]
    # A rate that was set by hand since counts.
    ours = _is_negative_zero(float(lr))
    if id(kept) in _kept:
        tensor = hasattr(lr, "fill_")
        which, version = _kept[id(kept)][1]
        written = which == id(lr) and version != _version(lr)[1]  # a copy has another id
        ours = ours and not written if tensor else lr is ZERO
    return float(kept) if ours else None


def adopt(groups: Iterable[dict[str, Any]]) -> None:
    """Take zeros that were loaded or copied as if they were set now."""
    for group in groups:
        tensor = hasattr(group.get("lr"), "fill_")
        noted = _kept.get(id(group.get(KEY)))
        if noted is not None and not (tensor and noted[1][0] != id(group["lr"])):
            continue
        if (kept := held(group)) is not None:
            if not tensor:
                group["lr"] = ZERO
            if noted is not None:
                del group[KEY]  # that of the original, which a copy shares
            put(group, kept)


def _is_negative_zero(lr: float) -> bool:
    return lr == 0 and math.copysign(1, lr) < 0


def put(group: dict[str, Any], kept: float | None) -> None:
    """Keep ``kept`` beside the rate, or nothing."""
    _kept.pop(id(group.pop(KEY, None)), None)
    if kept is not None:
        own = group[KEY] = float(kept) + 0.0  # an object of its own
        _kept[id(own)] = own, _version(group["lr"])


def _version(lr: Any) -> tuple[int, Any]:
    """Which rate this is, and how often a tensor of PyTorch was written to; None of others."""
    return id(lr), getattr(lr, "_version", None)


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
